package envelope

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// Limits bound how long keys are kept and how long a key service is waited for.
type Limits struct {
	Age    time.Duration // of a KEK that wraps, and of one that was unwrapped; default 10 minutes, as in Parquet's key tools
	Uses   int           // data keys wrapped by one KEK; default 65,536: far below where random 96-bit nonces of one key could meet (NIST SP 800-38D)
	Opened int           // unwrapped KEKs that are kept for reading; default 4,096

	Timeout  time.Duration // of one call of a key service; default 15 s
	Patience time.Duration // how long a service that is away is asked again; default 0: until the context ends

	// Waiting is told of every call that failed and will be repeated, before the wait. The error holds no key bytes.
	Waiting func(masterKeyID string, attempt int, wait time.Duration, err error)
	// Called is told of every call of a key service that came back, op being "wrap" or "unwrap".
	Called func(op, masterKeyID string, took time.Duration, err error)
}

// Keyring wraps data keys for zones and unwraps them again. It is safe for concurrent use.
type Keyring struct {
	zones    map[Zone]MasterKey
	previous []MasterKey
	cache    cache
	caller   caller
}

// NewKeyring makes a keyring of master keys by zone. There must be one for Default, or for every zone. Previous
// master keys serve to unwrap only.
func NewKeyring(zones map[Zone]MasterKey, limits Limits, previous ...MasterKey) (*Keyring, error) {
	_, hasDefault := zones[Default]
	for zone := range zones {
		if !slices.Contains(Zones, zone) {
			return nil, fmt.Errorf("%w: no zone is named %q", ErrConfig, string(zone))
		}
	}
	for _, zone := range Zones {
		if _, ok := zones[zone]; !ok && !hasDefault && zone != Default {
			return nil, fmt.Errorf("%w: there is neither a key for %s nor a default", ErrConfig, zone)
		}
	}
	return &Keyring{zones: maps.Clone(zones), previous: slices.Clone(previous), cache: newCache(limits), caller: newCaller(limits)}, nil
}

// MasterKey returns the present master key of a zone.
func (k *Keyring) MasterKey(zone Zone) MasterKey {
	if key, ok := k.zones[zone]; ok {
		return key
	}
	return k.zones[Default]
}

// MasterKeyID returns the id under which a zone's KEKs are wrapped at present, the zone included where ids hold it.
func (k *Keyring) MasterKeyID(zone Zone) string { return InZone(k.MasterKey(zone).ID, zone) }

// MasterKeyIDs returns the ids of all master keys at hand, previous ones included, without zones, sorted.
func (k *Keyring) MasterKeyIDs() []string {
	var ids []string
	for _, key := range k.zones {
		ids = append(ids, key.ID)
	}
	for _, key := range k.previous {
		ids = append(ids, key.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// DataKey is a fresh key with the key material from which it can be had again.
type DataKey struct {
	Key         []byte // 32 bytes
	Material    []byte // PKMT1, to be stored with the data: the key material itself, or the reference to a sidecar's
	MasterKeyID string
}

// String implements fmt.Stringer. It is constant.
func (DataKey) String() string { return "[data key, redacted]" }

// GoString implements fmt.GoStringer. It is constant.
func (DataKey) GoString() string { return "[data key, redacted]" }

// LogValue implements slog.LogValuer. It is constant.
func (DataKey) LogValue() slog.Value { return slog.StringValue("[data key, redacted]") }

// NewDataKey makes a data key of a zone with internal key material. footer says that it will encrypt a Parquet footer
// (or a whole object).
func (k *Keyring) NewDataKey(ctx context.Context, zone Zone, footer bool) (DataKey, error) {
	return k.newDataKey(ctx, zone, footer, func(m material) ([]byte, error) {
		m.InternalStorage = &internal
		return compact(m)
	})
}

// NewExternalDataKey is NewDataKey with external key material, which it adds to the sidecar: the footer's under
// "footerKey", the others under "columnKey0", "columnKey1" and so on.
func (k *Keyring) NewExternalDataKey(ctx context.Context, zone Zone, footer bool, s *Sidecar) (DataKey, error) {
	return k.newDataKey(ctx, zone, footer, s.add)
}

func (k *Keyring) newDataKey(ctx context.Context, zone Zone, footer bool, store func(material) ([]byte, error)) (DataKey, error) {
	key := newKey(keySize)
	m, err := k.wrap(ctx, key, zone, footer)
	if err != nil {
		return DataKey{}, err
	}
	text, err := store(m)
	return DataKey{Key: key, Material: text, MasterKeyID: m.MasterKeyID}, err
}

// wrap returns the key material of a data key of a zone.
func (k *Keyring) wrap(ctx context.Context, key []byte, zone Zone, footer bool) (material, error) {
	id := k.MasterKeyID(zone)
	by, err := k.wrapping(ctx, zone)
	if err != nil {
		return material{}, fmt.Errorf("wrap a key for %s: %w", zone, err)
	}
	wrapped, err := encryptKeyLocally(key, by.key, by.id)
	if err != nil {
		return material{}, err
	}
	m := material{
		Type: materialType, IsFooterKey: footer, MasterKeyID: id, WrappedDEK: wrapped,
		DoubleWrapping: true, KEKID: base64.StdEncoding.EncodeToString(by.id), WrappedKEK: by.wrapped,
	}
	if footer {
		m.KMSInstanceID, m.KMSInstanceURL = kmsDefault, kmsDefault
	}
	return m, nil
}

// wrapping returns the KEK that is in use for a zone, or a new one when that has served its time. Zones never share
// a KEK, even where they share the master key. While a zone waits for its key service the others go on.
func (k *Keyring) wrapping(ctx context.Context, zone Zone) (kek, error) {
	var got kek
	err := k.cache.once(ctx, "zone "+string(zone), func() (ok bool) {
		got, ok = k.cache.inUse(zone)
		return ok
	}, func() error {
		master, id := k.MasterKey(zone), k.MasterKeyID(zone)
		fresh := kek{key: newKey(keySize), id: newKey(kekIDSize)}
		err := k.caller.call(ctx, "wrap", id, func(ctx context.Context) (err error) {
			fresh.wrapped, err = master.KMS.WrapKey(ctx, fresh.key, id)
			return err
		})
		if err == nil {
			got = k.cache.use(zone, fresh)
		}
		return err
	})
	return got, err
}

// Probe makes a zone's KEK now, so that a master key which is missing or may not be used is told before there is data
// to protect by it.
func (k *Keyring) Probe(ctx context.Context, zone Zone) error {
	_, err := k.wrapping(ctx, zone)
	return err
}

// DataKey returns the data key that internal key material stands for. The error is ErrExternal for external one, and
// ErrNoKey, ErrWrongKey, ErrDenied, ErrDisabled or ErrUnavailable where it is one of these.
func (k *Keyring) DataKey(ctx context.Context, keyMaterial []byte) ([]byte, error) {
	return k.DataKeyFrom(ctx, keyMaterial, nil)
}

// DataKeyFrom is DataKey for internal and external key material. sidecar is called for external one only, as often
// as a key is asked for; nil is none. The error is ErrExternal if the sidecar does not hold the key.
func (k *Keyring) DataKeyFrom(ctx context.Context, keyMetadata []byte, sidecar func(context.Context) (*Sidecar, error)) ([]byte, error) {
	m, err := parseMaterial(keyMetadata)
	if err != nil {
		return nil, err
	}
	if m.Reference == "" {
		return k.dataKey(ctx, m)
	}
	if sidecar == nil {
		return nil, fmt.Errorf("%w: the file's own, %sNAME%s, is needed beside it", ErrExternal, sidecarPrefix, sidecarSuffix)
	}
	s, err := sidecar(ctx)
	if err != nil {
		return nil, err
	}
	text := s.Material(m.Reference)
	if text == nil {
		return nil, fmt.Errorf("%w, which does not hold the file's %.40q: is it another file's?", ErrExternal, m.Reference)
	}
	if m, err = parseMaterial(text); err != nil {
		return nil, err
	}
	return k.dataKey(ctx, m)
}

func (k *Keyring) dataKey(ctx context.Context, m *material) ([]byte, error) {
	if !m.DoubleWrapping {
		return k.unwrap(ctx, m.WrappedDEK, m.MasterKeyID)
	}
	aad, err := m.kekAAD()
	if err != nil {
		return nil, err
	}
	by, err := k.opening(ctx, m.WrappedKEK, m.MasterKeyID)
	if err != nil {
		return nil, err
	}
	key, err := decryptKeyLocally(m.WrappedDEK, by, aad)
	if err != nil {
		return nil, fmt.Errorf("master key %q: %w", m.MasterKeyID, err)
	}
	return key, nil
}

// opening returns an unwrapped KEK. Who asks for one that is being unwrapped waits for it.
func (k *Keyring) opening(ctx context.Context, wrapped, masterKeyID string) (key []byte, err error) {
	name := masterKeyID + "\x00" + wrapped
	err = k.cache.once(ctx, name, func() (ok bool) {
		key, ok = k.cache.opened(name)
		return ok
	}, func() (err error) {
		if key, err = k.unwrap(ctx, wrapped, masterKeyID); err == nil {
			k.cache.open(name, key)
		}
		return err
	})
	return key, err
}

// unwrap asks every KMS that has a master key of that name: zones may take keys of one name from different places.
func (k *Keyring) unwrap(ctx context.Context, wrapped, masterKeyID string) ([]byte, error) {
	var tried []KMS
	var faults []error
	for _, master := range k.masters() {
		id := masterKeyID
		if base, _ := SplitZone(id); base != master.ID {
			if keyOf(master.ID) != id {
				continue
			}
			id = master.ID // written by another program, under the service's own name of the key
		}
		if slices.Contains(tried, master.KMS) {
			continue
		}
		tried = append(tried, master.KMS)
		var key []byte
		err := k.caller.call(ctx, "unwrap", id, func(ctx context.Context) (err error) {
			key, err = master.KMS.UnwrapKey(ctx, wrapped, id)
			return err
		})
		if err == nil {
			return key, nil
		}
		faults = append(faults, err)
	}
	if len(tried) == 0 {
		return nil, fmt.Errorf("%w: the data wants master key %q, and the configuration has only %s", ErrNoKey, masterKeyID, strings.Join(k.MasterKeyIDs(), ", "))
	}
	return nil, errors.Join(faults...)
}

// masters returns all master keys in the order in which they are tried.
func (k *Keyring) masters() []MasterKey {
	all := make([]MasterKey, 0, len(k.zones)+len(k.previous))
	for _, zone := range Zones {
		if master, ok := k.zones[zone]; ok {
			all = append(all, master)
		}
	}
	return append(all, k.previous...)
}

const sealedMagic = "taster-sealed-1\n"

// Seal encrypts a small object of a zone. Its key material and its name are authenticated with it.
func (k *Keyring) Seal(ctx context.Context, zone Zone, name string, plaintext []byte) ([]byte, error) {
	key, err := k.NewDataKey(ctx, zone, true)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(sealedMagic)+len(key.Material)+1+nonceSize+len(plaintext)+tagSize)
	out = append(out, sealedMagic...)
	out = append(out, key.Material...)
	out = append(out, '\n')
	return seal(out, key.Key, plaintext, append(bytes.Clone(out), name...))
}

// Unseal undoes Seal. It fails with ErrWrongKey if a byte was changed or the object had another name.
func (k *Keyring) Unseal(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	text, body, ok2 := bytes.Cut(rest, []byte{'\n'})
	if !ok || !ok2 {
		return nil, fmt.Errorf("%s is not a sealed object", name)
	}
	key, err := k.DataKey(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	header := sealed[:len(sealed)-len(body)]
	plaintext, err := open(key, body, append(bytes.Clone(header), name...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w, or the object was changed", name, err)
	}
	return plaintext, nil
}

// String implements fmt.Stringer. It is constant.
func (k *Keyring) String() string { return "[keyring, redacted]" }

// GoString implements fmt.GoStringer. It is constant.
func (k *Keyring) GoString() string { return "[keyring, redacted]" }

// LogValue implements slog.LogValuer. It is constant.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue("[keyring, redacted]") }

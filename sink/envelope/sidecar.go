package envelope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
)

// Sidecar is the external key material of one Parquet file: the object _KEY_MATERIAL_FOR_<file name>.json beside it,
// as parquet-java's FileSystemKeyMaterialStore and Arrow write it. It is a flat JSON object from key reference
// ("footerKey", "columnKey0", …) to key material, which is a string of JSON. The zero Sidecar is empty and ready for
// use. It is not safe for concurrent changes.
type Sidecar struct{ members map[string]string }

// FooterKey is the reference of the footer's key material.
const FooterKey = "footerKey"

const (
	sidecarPrefix = "_KEY_MATERIAL_FOR_"
	sidecarSuffix = ".json"
	// SidecarLimit is the size in bytes above which no sidecar is read: a thousand keys and more.
	SidecarLimit = 4 << 20
)

var errSidecar = errors.New("broken key material file")

// SidecarName returns the name of the object that holds the external key material of a file.
func SidecarName(object string) string {
	dir, file := path.Split(object)
	return dir + sidecarPrefix + file + sidecarSuffix
}

// ParseSidecar reads a sidecar. Whatever it accepts, Encode writes again with the same meaning.
func ParseSidecar(data []byte) (*Sidecar, error) {
	if len(data) > SidecarLimit {
		return nil, fmt.Errorf("%w: larger than %d bytes", errSidecar, SidecarLimit)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	// Errors are told without what was met: nothing of a key file that was put in the place of a sidecar is shown.
	broken := fmt.Errorf("%w: not a flat JSON object of strings with key material of the type PKMT1", errSidecar)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, broken
	}
	s := &Sidecar{members: map[string]string{}}
	for dec.More() {
		name, err := dec.Token()
		ref, ok := name.(string)
		if err != nil || !ok {
			return nil, broken
		}
		value, err := dec.Token()
		text, ok := value.(string)
		if err != nil || !ok {
			return nil, broken
		}
		if _, twice := s.members[ref]; twice || ref == "" {
			return nil, fmt.Errorf("%w: a key reference is empty or stands twice", errSidecar)
		}
		if m, err := parseMaterial([]byte(text)); err != nil || m.Reference != "" {
			return nil, broken
		}
		s.members[ref] = text
	}
	if _, err := dec.Token(); err != nil {
		return nil, broken
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) || len(s.members) == 0 {
		return nil, broken
	}
	return s, nil
}

// Encode returns the sidecar's canonical bytes: one line, members by rising reference.
func (s *Sidecar) Encode() ([]byte, error) {
	if len(s.members) == 0 {
		return nil, fmt.Errorf("%w: it holds no key", errSidecar)
	}
	out, err := compact(s.members)
	if err == nil && len(out) > SidecarLimit {
		return nil, fmt.Errorf("%w: larger than %d bytes", errSidecar, SidecarLimit)
	}
	return out, err
}

// References returns the references of all keys, sorted.
func (s *Sidecar) References() []string { return slices.Sorted(maps.Keys(s.members)) }

// Material returns the key material that a reference stands for, nil if there is none.
func (s *Sidecar) Material(reference string) []byte {
	if text, ok := s.members[reference]; ok {
		return []byte(text)
	}
	return nil
}

// MasterKeyIDs returns the ids of the master keys that the file needs, sorted.
func (s *Sidecar) MasterKeyIDs() []string {
	ids := make([]string, 0, len(s.members))
	for _, text := range s.members {
		if m, err := parseMaterial([]byte(text)); err == nil {
			ids = append(ids, m.MasterKeyID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// add enters key material under the next free reference and returns the key metadata that refers to it.
func (s *Sidecar) add(m material) ([]byte, error) {
	name := FooterKey
	if !m.IsFooterKey {
		at := len(s.members)
		if _, has := s.members[FooterKey]; has {
			at--
		}
		name = "columnKey" + strconv.Itoa(at)
	}
	if _, twice := s.members[name]; twice {
		return nil, fmt.Errorf("%w: a second %s", errSidecar, name)
	}
	if err := s.put(name, m); err != nil {
		return nil, err
	}
	return compact(reference{Type: materialType, Reference: name})
}

func (s *Sidecar) put(name string, m material) error {
	m.InternalStorage = nil
	text, err := compact(m)
	if err != nil {
		return err
	}
	if s.members == nil {
		s.members = map[string]string{}
	}
	s.members[name] = string(text)
	return nil
}

// Rewrap returns the sidecar with every data key wrapped under the present master key of its zone: zone for the
// footer, Restricted for columns with a key of their own. It tells whether anything was changed; what is already
// under its present master key stays as it is, unless force asks for a fresh wrapping, as after a rotation within the
// key service that keeps the id. The data keys are the same afterwards: old and new sidecar open the same file.
//
// KEKs are shared by many files and cached in both directions, so that ten thousand files cost a few calls of the
// key service, if they were written in a few time spans.
func (k *Keyring) Rewrap(ctx context.Context, s *Sidecar, zone Zone, force bool) (*Sidecar, bool, error) {
	out, changed := &Sidecar{members: maps.Clone(s.members)}, false
	for _, ref := range s.References() {
		old, err := parseMaterial([]byte(s.members[ref]))
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", ref, err)
		}
		at := Restricted
		if old.IsFooterKey {
			at = zone
		}
		if !force && old.DoubleWrapping && old.MasterKeyID == k.MasterKeyID(at) {
			continue
		}
		key, err := k.dataKey(ctx, old)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", ref, err)
		}
		fresh, err := k.wrap(ctx, key, at, old.IsFooterKey)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", ref, err)
		}
		if old.IsFooterKey && old.KMSInstanceID != "" && old.KMSInstanceURL != "" {
			fresh.KMSInstanceID, fresh.KMSInstanceURL = old.KMSInstanceID, old.KMSInstanceURL
		}
		if err := out.put(ref, fresh); err != nil {
			return nil, false, err
		}
		changed = true
	}
	return out, changed, nil
}

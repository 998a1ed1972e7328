package envelope

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
)

// Settings say which master keys a keyring has, as the configuration names them.
type Settings struct {
	Zones    map[string]string // key URL by zone name
	Previous []string          // URLs of former master keys, which serve to unwrap only
	Limits   Limits
	Services Services
}

// Services opens the key service of a key. Package kms has it; nil is none but the local key file.
type Services func(ctx context.Context, key KeyURL) (KMS, error)

// Open opens the master keys. It reads key files and asks nothing of key services: Keyring.Probe does. The error
// tells of every key that cannot be opened.
func (s Settings) Open(ctx context.Context) (*Keyring, error) {
	opener := Opener{Services: s.Services}
	zones := map[Zone]MasterKey{}
	var previous []MasterKey
	var faults []error
	for _, zone := range slices.Sorted(maps.Keys(s.Zones)) {
		key, err := opener.Open(ctx, s.Zones[zone])
		if err != nil {
			faults = append(faults, fmt.Errorf("keys.%s: %w", zone, err))
			continue
		}
		zones[Zone(zone)] = key
	}
	for _, url := range s.Previous {
		key, err := opener.Open(ctx, url)
		if err != nil {
			faults = append(faults, fmt.Errorf("keys.previous: %w", err))
			continue
		}
		previous = append(previous, key)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return NewKeyring(zones, s.Limits, previous...)
}

// Opener opens key URLs. It reads every key file once, and opens a key of a service once. The zero value opens key
// files only.
type Opener struct {
	Services Services

	files map[string]*KeyFile
	keys  map[string]MasterKey
}

// Open returns the master key that a URL names: keyfile:///PATH/keys.json#NAME, where the key must exist, or one that
// ParseKeyURL knows.
func (o *Opener) Open(ctx context.Context, rawURL string) (MasterKey, error) {
	if key, ok := o.keys[rawURL]; ok {
		return key, nil
	}
	key, err := o.open(ctx, rawURL)
	if err != nil {
		return MasterKey{}, err
	}
	if o.keys == nil {
		o.keys = map[string]MasterKey{}
	}
	o.keys[rawURL] = key
	return key, nil
}

func (o *Opener) open(ctx context.Context, rawURL string) (MasterKey, error) {
	if u, err := url.Parse(rawURL); err == nil && u.Scheme == "keyfile" {
		return o.openFile(u)
	}
	key, err := ParseKeyURL(rawURL)
	if err != nil {
		return MasterKey{}, fmt.Errorf("%w: %q: %w", ErrConfig, rawURL, err)
	}
	if o.Services == nil {
		return MasterKey{}, fmt.Errorf("%w: %q: only keyfile:///PATH/keys.json#NAME is opened here", ErrConfig, rawURL)
	}
	service, err := o.Services(ctx, key)
	if err != nil {
		return MasterKey{}, fmt.Errorf("%q: %w", rawURL, err)
	}
	return MasterKey{KMS: service, ID: key.ID()}, nil
}

func (o *Opener) openFile(u *url.URL) (MasterKey, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return MasterKey{}, fmt.Errorf("%w: %q: want an absolute path, with three slashes", ErrConfig, u)
	}
	if u.Fragment == "" {
		return MasterKey{}, fmt.Errorf("%w: %q names no key: put #name behind it", ErrConfig, u)
	}
	path := filepath.Clean(u.Path)
	file := o.files[path]
	if file == nil {
		var err error
		if file, err = LoadKeyFile(path); err != nil {
			return MasterKey{}, err
		}
		if o.files == nil {
			o.files = map[string]*KeyFile{}
		}
		o.files[path] = file
	}
	if _, err := file.master(u.Fragment); err != nil {
		return MasterKey{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return MasterKey{KMS: file, ID: u.Fragment}, nil
}

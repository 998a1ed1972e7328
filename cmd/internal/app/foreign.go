package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/parquet/modular"
	"github.com/tasterhq/taster/sink/storage"
)

// Foreign says how Parquet is opened that others encrypted, beside the master keys that the configuration names.
type Foreign struct {
	// Keys lists master keys: paths of key files, of which every key counts, or key URLs as in the configuration. A file
	// whose key metadata is no key material but a name is opened by the key of that name in a key file, and one without key
	// metadata by the only key of the only key file.
	Keys []string
	// AADPrefix is what the files were bound to when they were written, if they do not hold it themselves.
	AADPrefix string
}

// foreign opens files of others.
type foreign struct {
	ring      *envelope.Keyring
	files     []*envelope.KeyFile
	aadPrefix string
}

func openForeign(ctx context.Context, c *config.Config, opt Foreign) (*foreign, error) {
	f := &foreign{aadPrefix: opt.AADPrefix}
	with := *c
	with.Previous = slices.Clone(c.Previous)
	for _, key := range opt.Keys {
		if strings.Contains(key, "://") {
			with.Previous = append(with.Previous, key)
			continue
		}
		file, err := envelope.LoadKeyFile(key)
		if err != nil {
			return nil, err
		}
		path, err := filepath.Abs(key)
		if err != nil {
			return nil, err
		}
		for _, name := range file.Names() {
			with.Previous = append(with.Previous, (&url.URL{Scheme: "keyfile", Path: filepath.ToSlash(path), Fragment: name}).String())
		}
		f.files = append(f.files, file)
	}
	var err error
	f.ring, err = openKeys(ctx, &with, envelope.Limits{Patience: keyPatience})
	return f, err
}

// keysOf returns the keys of the file at path, beside which its key material may stand.
func (f *foreign) keysOf(path string) parquet.Keys {
	return &foreignKeys{f, parquet.Beside(f.ring, func(ctx context.Context) (*envelope.Sidecar, error) { return sidecarBeside(ctx, path) })}
}

// sidecarBeside reads the key material beside a file, which is named by its path or URL.
func sidecarBeside(ctx context.Context, path string) (*envelope.Sidecar, error) {
	name := filepath.Join(filepath.Dir(path), envelope.SidecarName(filepath.Base(path)))
	if u, err := url.Parse(path); err == nil && strings.Contains(path, "://") {
		u.Path, u.RawPath = envelope.SidecarName(u.Path), ""
		name = u.String()
	}
	file, err := storage.OpenObject(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is not there; copy it together with its file", envelope.ErrExternal, name)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.NewSectionReader(file, 0, min(file.Size(), envelope.SidecarLimit+1)))
	if err != nil {
		return nil, err
	}
	s, err := envelope.ParseSidecar(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// foreignKeys is parquet.Keys for one file.
type foreignKeys struct {
	*foreign
	material parquet.Keys
}

// DataKey implements parquet.Keys.
func (k *foreignKeys) DataKey(ctx context.Context, keyMetadata []byte) ([]byte, error) {
	if _, err := envelope.Inspect(keyMetadata); err == nil {
		return k.material.DataKey(ctx, keyMetadata)
	}
	for _, file := range k.files {
		if key, err := file.Raw(string(keyMetadata)); err == nil {
			return key, nil
		}
	}
	if len(keyMetadata) == 0 {
		if len(k.files) == 1 && len(k.files[0].Names()) == 1 {
			return k.files[0].Raw(k.files[0].Names()[0])
		}
		return nil, fmt.Errorf("%w: the file does not name its key; give one key file that holds that key and no other with --keys", envelope.ErrNoKey)
	}
	return nil, fmt.Errorf("%w: the file calls its key %.40q, which is no key material of Parquet's key tools; give a key file that holds the data key by that name with --keys", envelope.ErrNoKey, keyMetadata)
}

// OpenInputs says how encrypted inputs are opened. Without it they are by the keys of the configuration.
func (a *App) OpenInputs(ctx context.Context, opt Foreign) (err error) {
	a.foreign, err = openForeign(ctx, a.config, opt)
	return err
}

// decrypt is files.Decrypt.
func (a *App) decrypt(ctx context.Context, src io.ReaderAt, size int64, path string) (io.ReaderAt, int64, error) {
	if a.foreign == nil {
		return (&foreign{ring: a.keys}).decrypt(ctx, src, size, path)
	}
	return a.foreign.decrypt(ctx, src, size, path)
}

func (f *foreign) decrypt(ctx context.Context, src io.ReaderAt, size int64, path string) (io.ReaderAt, int64, error) {
	file, err := modular.Open(ctx, src, size, modular.Options{Keys: f.keysOf(path), AADPrefix: f.aadPrefix})
	if err == nil && !file.Encrypted() {
		return src, size, nil
	}
	var image *modular.Image
	if err == nil {
		image, err = file.Image(ctx, nil)
	}
	if errors.Is(err, modular.ErrBroken) {
		return nil, 0, fmt.Errorf("%w: %w", files.ErrCorrupt, err)
	}
	if err != nil {
		return nil, 0, err
	}
	return image, image.Size(), nil
}

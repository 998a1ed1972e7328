package landing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
)

// errSidecarLost says that a file's sidecar is not there.
var errSidecarLost = fmt.Errorf("%w, and that is missing: put it back from a backup (taster keys rotate does it, if the file's keys were ever rotated)", envelope.ErrExternal)

// PutSidecar stores the sidecar of a file that has just been written and returns its digest, which belongs into the
// manifest, or the change, that lists the file. Without one (nil) there is nothing to store, and the digest is "".
//
// The sidecar comes after its file and before what lists both: a file that counts always has one.
func (z *Zone) PutSidecar(ctx context.Context, file string, s *envelope.Sidecar) (digest string, err error) {
	if s == nil {
		return "", nil
	}
	data, err := s.Encode()
	if err != nil {
		return "", err
	}
	return manifest.Digest(data), z.opt.Store.Put(ctx, envelope.SidecarName(file), data)
}

// ReadSidecar returns the key material that stands beside a file. What is read is one whole sidecar, the old or the
// new one, also while a rotation replaces it. Whether it is the one that was announced is for verify to say: what
// belongs to another file has other keys and does not open this one.
func ReadSidecar(ctx context.Context, store storage.Opener, file string) (*envelope.Sidecar, error) {
	name := envelope.SidecarName(file)
	data, err := storage.ReadAll(ctx, store, name, envelope.SidecarLimit)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: %w", name, errSidecarLost, err)
	}
	if err != nil {
		return nil, err
	}
	s, err := envelope.ParseSidecar(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// OpenFile opens a file of the zone, with its sidecar if it has one. The closer ends the reading.
func (z *Zone) OpenFile(ctx context.Context, f manifest.File) (*parquet.Reader, io.Closer, error) {
	return z.open(ctx, f.Name, func(ctx context.Context) (*envelope.Sidecar, error) {
		return ReadSidecar(ctx, z.opt.Store, f.Name)
	})
}

// opens tells, by an error, whether the bytes of a sidecar open a file: all of its keys, and its first rows with them.
func (z *Zone) opens(ctx context.Context, file string, sidecar []byte) error {
	s, err := envelope.ParseSidecar(sidecar)
	if err != nil {
		return err
	}
	r, closer, err := z.open(ctx, file, func(context.Context) (*envelope.Sidecar, error) { return s, nil })
	if err != nil {
		return err
	}
	defer closer.Close()
	for _, err := range r.Rows(ctx, nil) {
		return err
	}
	return nil
}

func (z *Zone) open(ctx context.Context, name string, sidecar func(context.Context) (*envelope.Sidecar, error)) (*parquet.Reader, io.Closer, error) {
	src, err := z.opt.Store.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	r, err := parquet.Open(ctx, src, src.Size(), name, parquet.Beside(z.opt.Keys, sidecar))
	if err != nil {
		src.Close()
		return nil, nil, named(name, err)
	}
	return r, src, nil
}

// named says which file cannot be read where only the missing key is told.
func named(name string, err error) error {
	if err == nil || errors.Is(err, parquet.ErrBroken) {
		return err
	}
	if errors.Is(err, envelope.ErrNoKey) {
		return fmt.Errorf("%s: %w: name that key in keys.previous; if it was destroyed, nothing brings these rows back", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Delete removes a file with its sidecar, if it has one. The sidecar goes first: a file without one is found again by
// its name, and a sidecar without its file never would be.
func (z *Zone) Delete(ctx context.Context, file string) error {
	if strings.HasSuffix(file, sealedSuffix) { // has its key material within
		return z.opt.Store.Delete(ctx, file)
	}
	if err := z.opt.Store.Delete(ctx, envelope.SidecarName(file)); err != nil {
		return err
	}
	return z.opt.Store.Delete(ctx, file)
}

// dropSidecar removes the sidecar of a file that is not there any more: a rotation may have put it back.
func (z *Zone) dropSidecar(ctx context.Context, file string) error {
	src, err := z.opt.Store.Open(ctx, file)
	if errors.Is(err, storage.ErrNotExist) {
		return z.opt.Store.Delete(ctx, envelope.SidecarName(file))
	}
	if err != nil {
		return err
	}
	return src.Close()
}

// stale tells whether any key of a sidecar is not wrapped as Rewrap would wrap it at present.
func stale(keys *envelope.Keyring, s *envelope.Sidecar, zone envelope.Zone) bool {
	for _, ref := range s.References() {
		m, err := envelope.Inspect(s.Material(ref))
		at := envelope.Restricted
		if m.Footer {
			at = zone
		}
		if err != nil || !m.DoubleWrapped || m.MasterKeyID != keys.MasterKeyID(at) {
			return true
		}
	}
	return false
}

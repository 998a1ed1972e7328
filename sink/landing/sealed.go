package landing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/storage"
)

// sealedFolders are where sealed objects lie.
var sealedFolders = []string{manifest.ReferenceFolder, manifest.StateFolder, manifest.RecallsFolder, manifest.AuditFolder + "keys/"}

// Sealed objects do not change either. One under a former master key is superseded by another in the same folder, with a
// higher number in its name: reference.sealed by reference.1.sealed, signing key 1.sealed by 2.sealed.
const (
	sealedSuffix = ".sealed"
	// longestNumber is how many digits a copy's number has at most. The offset and the random part in the name of a
	// state have more, and neither is a number.
	longestNumber = 6
)

// SealedCopy returns the name of copy number n of a sealed object; the original is number 0.
func SealedCopy(name string, n int) string {
	if n == 0 {
		return name
	}
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(name, sealedSuffix), n, sealedSuffix)
}

// sealedNumber takes a name apart: what a number supersedes, and the number. It is false for another kind of object.
func sealedNumber(name string) (of string, n int, ok bool) {
	base, ok := strings.CutSuffix(name, sealedSuffix)
	if !ok {
		return "", 0, false
	}
	at := strings.LastIndexAny(base, "./") + 1
	if n, err := strconv.Atoi(base[at:]); err == nil && n > 0 && len(base)-at <= longestNumber {
		return strings.TrimSuffix(base[:at], "."), n, true
	}
	return base, 0, true
}

// SealedOriginal undoes SealedCopy: it returns the name of the original of which name is a copy, or name itself.
func SealedOriginal(name string) string {
	if of, n, ok := sealedNumber(name); ok && n > 0 {
		return of + sealedSuffix
	}
	return name
}

// SealedObject is a sealed object that nothing supersedes.
type SealedObject struct {
	Name     string
	Number   int
	Material []byte // its key material
	Key      string // id of the master key that it needs, with the zone
}

// SealedObjects yields the sealed objects below a folder that count, by name. It needs no key.
func (z *Zone) SealedObjects(ctx context.Context, folder string) iter.Seq2[SealedObject, error] {
	return func(yield func(SealedObject, error) bool) {
		var newest SealedObject // of those listed side by side of which one supersedes the others
		var newestOf string
		give := func() bool {
			if newest.Name == "" {
				return true
			}
			text, err := z.sealedBy(ctx, newest.Name)
			if err != nil {
				yield(newest, err)
				return false
			}
			m, err := envelope.Inspect(text)
			if err != nil {
				return true // another kind of object
			}
			newest.Material, newest.Key = text, m.MasterKeyID
			return yield(newest, nil)
		}
		for info, err := range z.opt.Store.List(ctx, folder) {
			if err != nil {
				yield(SealedObject{}, err)
				return
			}
			of, n, ok := sealedNumber(info.Name)
			if !ok {
				continue
			}
			if newestOf != of && !give() {
				return
			}
			if newestOf != of || n > newest.Number {
				newest, newestOf = SealedObject{Name: info.Name, Number: n}, of
			}
		}
		give()
	}
}

// sealedHead is more than the key material at the head of a sealed object has.
const sealedHead = 16 << 10

// sealedBy returns the key material of a sealed object.
func (z *Zone) sealedBy(ctx context.Context, name string) ([]byte, error) {
	src, err := z.opt.Store.Open(ctx, name)
	if errors.Is(err, storage.ErrNotExist) { // deleted since it was listed
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	head := make([]byte, min(src.Size(), sealedHead))
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, src.Size()), head); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return materialOf(head), nil
}

// materialOf returns the key material of a sealed object's bytes.
func materialOf(sealed []byte) []byte {
	_, rest, _ := bytes.Cut(sealed, []byte{'\n'})
	text, _, _ := bytes.Cut(rest, []byte{'\n'})
	return text
}

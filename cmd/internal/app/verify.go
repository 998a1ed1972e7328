package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/parquet"
	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/verify"
)

// Verify re-derives a landing zone. With a configuration every page is decrypted as well, the verification is entered
// in the audit log, and what no checkpoint names yet is signed if all is good; without one nothing is written and no key
// is needed.
func Verify(ctx context.Context, url string, c *config.Config, options verify.Options) (*verify.Report, error) {
	store, err := storage.OpenReadOnly(ctx, url)
	if err != nil {
		return nil, err
	}
	options.Zone = url
	if c == nil {
		return verify.Run(ctx, objects{store}, options)
	}
	keys, err := openKeys(ctx, c, envelope.Limits{Patience: keyPatience})
	if err != nil {
		return nil, err
	}
	options.Read = func(ctx context.Context, name string) (int64, string, error) {
		rows, content, err := readContent(ctx, store, keys, name)
		return rows, content, forVerify(err)
	}
	options.Unseal = func(ctx context.Context, name string) ([]byte, error) {
		sealed, err := storage.ReadAll(ctx, store, name, learnedLimit)
		if err != nil {
			return nil, forVerify(err)
		}
		plain, err := keys.Unseal(ctx, name, sealed)
		return plain, forVerify(err)
	}
	var unsigned []audit.Tip
	options.Unsigned = func(name, sha256 string) { unsigned = append(unsigned, audit.Tip{Name: name, SHA256: sha256}) }
	found, err := verify.Run(ctx, objects{store}, options)
	if err != nil {
		return nil, err
	}
	if !found.OK {
		unsigned = nil
	}
	return found, enterVerified(ctx, url, keys, found, unsigned)
}

// enterVerified enters the verification in the audit log, and signs that entry and the tips.
func enterVerified(ctx context.Context, url string, keys *envelope.Keyring, found *verify.Report, tips []audit.Tip) error {
	store, err := storage.Open(ctx, url)
	if err != nil {
		return fmt.Errorf("the verification cannot be entered in the audit log: %w", err)
	}
	result := "ok"
	if !found.OK {
		result = "not_ok"
	}
	checkpoints := audit.OpenCheckpoints(store, vault{keys}, time.Now)
	err = audit.OpenProcess(checkpoints.Store(), audit.NewProcess(time.Now()), time.Now).Append(ctx, audit.Entry{
		Event: audit.Verify, Subject: "landing", Action: "read", Result: result, Details: map[string]string{
			"manifests": fmt.Sprint(found.Manifests), "problems": fmt.Sprint(int64(len(found.Problems)) + found.More), "checkpoint": found.Signed.Last,
		},
	})
	if err != nil {
		return err
	}
	for _, tip := range tips {
		checkpoints.Grew(tip)
	}
	ctx, cancel := context.WithTimeout(ctx, checkpointTime)
	defer cancel()
	if err := checkpoints.Write(ctx); err != nil && found.OK {
		found.Notes = append(found.Notes, verify.Problem{Code: "not_signed", Object: audit.CheckpointsFolder, Detail: "the verification was entered in the audit log and could not be signed: " + err.Error()})
	}
	return nil
}

func readContent(ctx context.Context, store storage.Store, keys *envelope.Keyring, name string) (int64, string, error) {
	file, err := store.Open(ctx, name)
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	reader, err := parquet.Open(ctx, file, file.Size(), name, parquet.Beside(keys, func(ctx context.Context) (*envelope.Sidecar, error) {
		return landing.ReadSidecar(ctx, store, name)
	}))
	if err != nil {
		return 0, "", err
	}
	content, rows, err := reader.Content(ctx)
	return rows, content, err
}

// forVerify says in verify's words what an error of keys and stores means.
func forVerify(err error) error {
	for _, gone := range []error{envelope.ErrNoKey, envelope.ErrDisabled, envelope.ErrDenied} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", verify.ErrKey, err)
		}
	}
	if errors.Is(err, envelope.ErrUnavailable) || errors.Is(err, storage.ErrUnavailable) {
		return fmt.Errorf("%w: %w", verify.ErrAway, err)
	}
	return err
}

// VerifyState returns the file by which the verification of a landing zone is resumed where nobody names another, in
// the user's folder for what may be lost; "" if there is none.
func VerifyState(url string) string {
	folder, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	folder = filepath.Join(folder, "taster")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return ""
	}
	if info, err := os.Stat(url); err == nil && info.IsDir() {
		if absolute, err := filepath.Abs(url); err == nil {
			url = absolute
		}
	}
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(folder, "verify-"+hex.EncodeToString(sum[:8])+".jsonl")
}

// objects shows a store to verify.
type objects struct{ store storage.Store }

func (o objects) List(ctx context.Context) iter.Seq2[verify.Object, error] {
	return func(yield func(verify.Object, error) bool) {
		if folder, ok := o.store.(*storage.Posix); ok {
			listFolder(ctx, folder.Root(), "", yield)
			return
		}
		for info, err := range o.store.List(ctx, "") {
			if !yield(verify.Object{Name: info.Name, Size: info.Size, Version: info.Version, Changed: info.Modified}, err) || err != nil {
				return
			}
		}
	}
}

// listFolder yields the files of a folder in any order, a few at a time: a partition can have a million manifests in
// one folder, and verify does not need them sorted, as storage.Lister has them.
func listFolder(ctx context.Context, root, folder string, yield func(verify.Object, error) bool) bool {
	dir, err := os.Open(filepath.Join(root, filepath.FromSlash(folder)))
	if errors.Is(err, fs.ErrNotExist) && folder != "" {
		return true // deleted meanwhile
	}
	if err != nil {
		return yield(verify.Object{}, err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			name := folder + e.Name()
			if e.IsDir() {
				if name != "_tmp" && !listFolder(ctx, root, name+"/", yield) {
					return false
				}
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err != nil {
				yield(verify.Object{}, err)
				return false
			}
			if !yield(verify.Object{Name: name, Size: info.Size(), Version: fileVersion(info), Changed: info.ModTime()}, nil) {
				return false
			}
		}
		if errors.Is(err, io.EOF) {
			return true
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(verify.Object{}, err)
			return false
		}
	}
}

func (o objects) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := o.store.Open(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, r.Size()), r}, nil
}

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// once returns a hook that fails the first request of a kind.
func once(kind string, err error) func(string) error { return times(1, kind, err) }

func times(n int, kind string, err error) func(string) error {
	return func(k string) error {
		if k != kind || n == 0 {
			return nil
		}
		n--
		return err
	}
}

func writeLarge(ctx context.Context, b *Bucket, name string, data []byte) error {
	w, err := b.Create(ctx, name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// The answer is lost and the write is not: the writer reads its own id and knows that it won.
func TestBucketLostAnswer(t *testing.T) {
	ctx := t.Context()
	data := make([]byte, 20<<20)
	writes := map[string]func(b *Bucket) error{
		"put":      func(b *Bucket) error { return b.Put(ctx, "x", data[:10]) },
		"complete": func(b *Bucket) error { return writeLarge(ctx, b, "x", data) },
	}
	for kind, write := range writes {
		for name, told := range map[string]error{"cut": errCut, "repeated by the client": errTaken, "contended": errAgain, "vanished": errVanished} {
			t.Run(kind+" "+name, func(t *testing.T) {
				b := NewMemory()
				b.memory().after = once(kind, told)
				if err := write(b); err != nil {
					t.Errorf("the first: %v", err)
				}
				if err := write(b); !errors.Is(err, ErrExists) {
					t.Errorf("the second: %v, want ErrExists", err)
				}
				// And so does who loses to somebody else.
				b.memory().before = once(kind, told)
				if err := write(b); !errors.Is(err, ErrExists) {
					t.Errorf("the third: %v, want ErrExists", err)
				}
				if b.memory().uploads != 0 {
					t.Errorf("%d unfinished uploads", b.memory().uploads)
				}
			})
		}
	}
}

// Who cannot learn whose the object is must not be told that it lost.
func TestBucketUnknownOutcome(t *testing.T) {
	b := NewMemory()
	b.memory().after = once("put", errTaken)
	b.memory().before = once("writer", errBusy)
	if err := b.Put(t.Context(), "x", nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestBucketContended(t *testing.T) {
	b := NewMemory()
	b.memory().before = times(3, "put", errAgain)
	if err := b.Put(t.Context(), "x", nil); err != nil {
		t.Errorf("a write that met others: %v", err)
	}
	if n := b.Requests("put"); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// After any failure the unfinished upload is gone, the name is free, and the error says what to do.
func TestBucketFailedUpload(t *testing.T) {
	data := make([]byte, 20<<20)
	for kind, want := range map[error]error{errBusy: ErrUnavailable, errDenied: ErrUnusable} {
		for _, step := range []string{"begin", "part", "complete"} {
			t.Run(fmt.Sprint(step, " ", kind), func(t *testing.T) {
				b := NewMemory()
				b.memory().before = times(100, step, kind)
				if err := writeLarge(t.Context(), b, "x", data); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if b.memory().uploads != 0 {
					t.Errorf("%d unfinished uploads", b.memory().uploads)
				}
				b.memory().before = nil
				if _, err := b.Open(t.Context(), "x"); !errors.Is(err, ErrNotExist) {
					t.Errorf("open: %v", err)
				}
				if err := writeLarge(t.Context(), b, "x", data); err != nil {
					t.Errorf("the next: %v", err)
				}
			})
		}
	}
}

func TestBucketCancelledUpload(t *testing.T) {
	for _, commit := range []bool{true, false} {
		b := NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		w, err := b.Create(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 20<<20)); err != nil {
			t.Fatal(err)
		}
		if b.memory().uploads != 1 {
			t.Fatalf("%d uploads under way, want 1", b.memory().uploads)
		}
		cancel()
		if commit {
			if err := w.Commit(t.Context()); !errors.Is(err, context.Canceled) {
				t.Errorf("commit: %v", err)
			}
		}
		w.Abort()
		if b.memory().uploads != 0 {
			t.Errorf("%d unfinished uploads", b.memory().uploads)
		}
	}
}

func TestBucketTimeout(t *testing.T) {
	b := NewMemory()
	b.timeout = 10 * time.Millisecond
	b.memory().before = func(string) error { time.Sleep(20 * time.Millisecond); return context.DeadlineExceeded }
	err := b.Put(t.Context(), "x", nil)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 10ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := b.Put(ctx, "x", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the caller's own deadline", err)
	}
}

func TestBucketProbe(t *testing.T) {
	ctx := t.Context()
	t.Run("good", func(t *testing.T) {
		b := NewMemory()
		old, young := memoryObject{modified: time.Now().Add(-25 * time.Hour)}, memoryObject{modified: time.Now()}
		b.memory().objects["p/_tmp/probe-old"], b.memory().objects["p/_tmp/probe-young"] = old, young
		b.memory().objects["other/_tmp/probe"] = old
		if err := b.prove(ctx); err != nil {
			t.Fatal(err)
		}
		if len(b.memory().objects) != 2 || b.memory().uploads != 0 {
			t.Errorf("left: %v, %d uploads", b.memory().objects, b.memory().uploads)
		}
		for info, err := range b.List(ctx, "") {
			t.Errorf("listed: %v %v", info, err)
		}
	})
	for name, breaks := range map[string]func(string) bool{
		"never": func(string) bool { return true }, "not for parts": func(kind string) bool { return kind == "complete" }, "not for small": func(kind string) bool { return kind == "put" },
	} {
		t.Run("put-if-absent "+name, func(t *testing.T) {
			b := NewMemory()
			b.memory().anyone = breaks
			if err := b.prove(ctx); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "put-if-absent") {
				t.Errorf("got %v", err)
			}
			if len(b.memory().objects) != 0 || b.memory().uploads != 0 {
				t.Errorf("left: %v, %d uploads", b.memory().objects, b.memory().uploads)
			}
		})
	}
	t.Run("put-if-absent but for races", func(t *testing.T) {
		b := NewMemory()
		n := 0
		b.memory().anyone = func(string) bool { n++; return n > 5 } // as if the others had looked before the first wrote
		if err := b.prove(ctx); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "at the same time") {
			t.Errorf("got %v", err)
		}
	})
	for _, kind := range []string{"put", "begin", "part", "complete", "get", "list", "delete", "writer"} {
		for fault, want := range map[error]error{errDenied: ErrUnusable, errBusy: ErrUnavailable} {
			b := NewMemory()
			b.memory().before = times(1000, kind, fault)
			if err := b.prove(ctx); !errors.Is(err, want) {
				t.Errorf("%s is %v: got %v, want %v", kind, fault, err, want)
			}
		}
	}
}

func TestBucketPrefix(t *testing.T) {
	b := NewMemory()
	if err := b.Put(t.Context(), "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	b.memory().objects["p"], b.memory().objects["pq/x"], b.memory().objects["p/"] = memoryObject{}, memoryObject{}, memoryObject{}
	var names []string
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	if strings.Join(names, " ") != "x" || b.memory().objects["p/x"].data == nil {
		t.Errorf("listed %q, stored %v", names, b.memory().objects)
	}
}

// disorderly lists backwards.
type disorderly struct{ *memory }

func (d disorderly) list(context.Context, string, string) ([]listed, string, error) {
	return []listed{{key: "p/b"}, {key: "p/a"}}, "", nil
}

func TestBucketDisorder(t *testing.T) {
	b := NewMemory()
	b.bucket = disorderly{b.memory()}
	var last error
	for _, err := range b.List(t.Context(), "") {
		last = err
	}
	if !errors.Is(last, ErrUnusable) || !strings.Contains(last.Error(), "byte order") {
		t.Errorf("got %v", last)
	}
}

func TestBucketReader(t *testing.T) {
	data := make([]byte, 24<<20)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	open := func(t *testing.T, size int) (*Bucket, Reader) {
		b := NewMemory()
		b.memory().objects["p/x"] = memoryObject{data: data[:size], version: "first"}
		r, err := b.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return b, r
	}
	t.Run("small objects take one request", func(t *testing.T) {
		b, r := open(t, 2000)
		if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, data[:2000]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n := b.Requests("get"); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
	t.Run("reading on in small pieces takes few", func(t *testing.T) {
		b, r := open(t, len(data))
		piece := make([]byte, 4096)
		for at := 0; at < len(data); at += len(piece) {
			if _, err := r.ReadAt(piece, int64(at)); err != nil || !bytes.Equal(piece, data[at:at+len(piece)]) {
				t.Fatalf("at %d: %v", at, err)
			}
		}
		if n := b.Requests("get"); n > 12 { // 96 blocks, 16 at a time after the first few
			t.Errorf("%d requests", n)
		}
		if n := len(r.(*bucketReader).blocks); n > maxBlocks {
			t.Errorf("%d blocks are kept", n)
		}
	})
	t.Run("large pieces go in one", func(t *testing.T) {
		b, r := open(t, len(data))
		b.Requests("get")
		got := make([]byte, 10<<20)
		if _, err := r.ReadAt(got, 5<<20+1); err != nil || !bytes.Equal(got, data[5<<20+1:][:10<<20]) {
			t.Error(err)
		}
		if n := b.Requests("get"); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
	t.Run("the end, then columns, as Parquet readers do", func(t *testing.T) {
		b, r := open(t, len(data))
		b.Requests("get")
		for _, at := range []int{len(data) - 8, len(data) - 5000, len(data) - 8} {
			if _, err := r.ReadAt(make([]byte, 8), int64(at)); err != nil {
				t.Error(err)
			}
		}
		if n := b.Requests("get"); n != 1 {
			t.Errorf("%d requests for the end, want 1", n)
		}
	})
	t.Run("goes on where a connection broke", func(t *testing.T) {
		b, r := open(t, len(data))
		for i := range 20 {
			b.memory().mu.Lock()
			b.memory().cut = 1 + i*1000
			b.memory().mu.Unlock()
			at := rand.IntN(len(data) - 3<<20)
			got := make([]byte, 1+rand.IntN(3<<20))
			if _, err := r.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, data[at:at+len(got)]) {
				t.Fatalf("%d bytes at %d: %v", len(got), at, err)
			}
		}
	})
	t.Run("a store that is away is an error and then forgotten", func(t *testing.T) {
		b, r := open(t, len(data))
		b.memory().before = times(readAttempts, "get", errBusy)
		if _, err := r.ReadAt(make([]byte, 10), 1<<20); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if _, err := r.ReadAt(make([]byte, 10), 1<<20); err != nil {
			t.Errorf("later: %v", err)
		}
	})
	t.Run("never two versions", func(t *testing.T) {
		b, r := open(t, len(data))
		if err := b.Replace(t.Context(), "x", data); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadAt(make([]byte, 10), 1<<20); err == nil || errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "replaced") {
			t.Errorf("got %v", err)
		}
		if err := b.Delete(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadAt(make([]byte, 10), 2<<20); !errors.Is(err, ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("closed or cancelled", func(t *testing.T) {
		_, r := open(t, len(data))
		r.Close()
		if _, err := r.ReadAt(make([]byte, 10), 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// A writer's memory is two parts, however large the object.
func TestBucketWriterMemory(t *testing.T) {
	b := NewMemory()
	w, err := b.Create(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	piece := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		held := cap(w.(*bucketWriter).part) + cap(w.(*bucketWriter).spare)
		if f := w.(*bucketWriter).flying; f != nil {
			held += cap(f.data)
		}
		if held > 2*defaultPartSize {
			t.Fatalf("%d bytes are held", held)
		}
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"s3://b":                                  "s3 b  ",
		"s3://b/":                                 "s3 b  ",
		"s3://b/zone/a":                           "s3 b zone/a/ ",
		"s3://b/zone/?region=eu-west-1":           "s3 b zone/ region=eu-west-1",
		"s3://b?prefix=zone&region=r&timeout=5s":  "s3 b zone/ region=r",
		"azblob://c?storage_account=a&prefix=/z/": "azblob c z/ storage_account=a",
		"gs://b/a%20b":                            "gs b a b/ ",
	} {
		at, err := parseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		folder, err := at.folder()
		if got := fmt.Sprint(at.scheme, " ", at.bucket, " ", folder, " ", at.query.Encode()); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		"":                        "no URL",
		"ftp://x":                 "no support for ftp://",
		"s3://":                   "names no bucket",
		"s3:///zone":              "names no bucket",
		"s3://key:secret@b":       "holds no credentials",
		"s3://b?regoin=x":         "have no regoin",
		"s3://b?region=a&region=": "stands twice",
		"s3://b/a?prefix=b":       "in its path and another",
		"s3://b?timeout=5":        "not a duration",
		"s3://b?timeout=-5s":      "not a duration",
		"s3://b?%zz":              "not a query",
		"gs://b?region=x":         "have no region",
		"s3://b/a/../b":           "prefix",
		"s3://b/a//b":             "prefix",
	} {
		_, err := Open(t.Context(), raw)
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestOpenObject(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	path := filepath.Join(dir, "odd name #1.jsonl")
	if err := os.WriteFile(path, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	urls := []string{path}
	for info, err := range ListObjects(ctx, "file://"+dir) {
		if err != nil || info.Size != 2 {
			t.Fatal(info, err)
		}
		urls = append(urls, info.Name)
	}
	if len(urls) != 2 || urls[1] != "file://"+dir+"/odd%20name%20%231.jsonl" {
		t.Errorf("listed: %q", urls)
	}
	for _, u := range urls {
		r, err := OpenObject(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); string(got) != "{}" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		r.Close()
	}
	if _, err := OpenObject(ctx, path+"x"); !errors.Is(err, ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := OpenObject(ctx, dir); err == nil {
		t.Error("a folder was opened")
	}
	for _, bad := range []string{"s3://bucket?region=x", "s3://bucket?region=x&prefix=y", "gs://"} {
		if _, err := OpenObject(ctx, bad); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

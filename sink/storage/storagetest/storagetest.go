// Package storagetest holds every kind of store to the contract of package storage: one suite, which each passes.
//
//	func TestStore(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storage.Store { … })
//	}
//
// [Proxy] stands between a store's client and its server and makes requests fail as networks and services do.
package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tasterhq/taster/sink/storage"
)

// Large is the size of an object that stores keep in several parts.
const Large = 20<<20 + 12345

// Run runs the suite. open returns a store with nothing in it; each part of the suite asks for one.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, storage.Store)
	}{
		{"Names", names}, {"RefusedNames", refusedNames}, {"Empty", empty}, {"PutIfAbsent", putIfAbsent}, {"Large", large},
		{"Invisible", invisible}, {"OneWinner", oneWinner}, {"OneWinnerLarge", oneWinnerLarge}, {"Mixed", mixed}, {"Abort", abort},
		{"List", list}, {"ListPages", listPages}, {"Absent", absent}, {"Ranges", ranges}, {"Replace", replace},
		{"ReplaceWhole", replaceWhole}, {"Cancel", cancel}, {"CancelUpload", cancelUpload},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.run(t, open(t))
			NoGoroutines(t)
		})
	}
}

// Pattern returns n bytes that are nowhere alike.
func Pattern(n int, seed uint64) []byte {
	data := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// NoGoroutines fails the test if goroutines of package storage are still running a while from now.
func NoGoroutines(t testing.TB) {
	t.Helper()
	var left []string
	for range 200 {
		buf := make([]byte, 4<<20)
		left = left[:0]
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "taster/sink/storage.(") && !strings.Contains(stack, "storagetest.NoGoroutines") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

func put(t testing.TB, s storage.Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, data); err != nil {
		t.Fatalf("put %q: %v", name, err)
	}
}

// Holds fails the test if name does not have exactly these bytes.
func Holds(t testing.TB, s storage.Opener, name string, want []byte) {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Errorf("open %q: %v", name, err)
		return
	}
	defer r.Close()
	if r.Size() != int64(len(want)) {
		t.Errorf("%q has size %d, want %d", name, r.Size(), len(want))
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Errorf("read %q: %v", name, err)
		return
	}
	if want := sha256.Sum256(want); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("%q has %d other bytes", name, n)
	}
}

// Missing fails the test if there is an object of that name, or if it is listed.
func Missing(t testing.TB, s storage.Store, name string) {
	t.Helper()
	if r, err := s.Open(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open %q: %v, want ErrNotExist", name, err)
		if err == nil {
			r.Close()
		}
	}
	if found := Names(t, s, name); len(found) != 0 {
		t.Errorf("%q is listed", found)
	}
}

// Names lists.
func Names(t testing.TB, s storage.Lister, prefix string) []string {
	t.Helper()
	names := []string{}
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		names = append(names, info.Name)
	}
	return names
}

// odd are names that clients, URLs, XML and listings treat in ways of their own.
var odd = []string{
	"a b/c d", "plus+plus", "percent%2Fpercent", "per%cent", "query?x=y&z", "hash#tag", "colon:colon", "comma,semi;eq=", "at@dollar$",
	"quote'double\"quote", "<angle>&amp;", "(paren)[square]{curly}", "star*bar|", "~tilde/~2F", "a..b/c..d", "..two/dots", "...", "dots../below", "dot./below",
	"_under/_score", ".hidden/.file", "__0x2f__/x", "-dash", "ünïcödé/ß", "日本語/語", "🙂/🙃", "e\u0301 decomposed", "UPPER/lower", "upper/LOWER", strings.Repeat("long/", 40) + strings.Repeat("x", 200),
	"t/0000000000000000000000.json", "_KEY_MATERIAL_FOR_x.parquet.json",
}

func names(t *testing.T, s storage.Store) {
	for _, name := range odd {
		put(t, s, name, []byte(name))
		if err := s.Put(t.Context(), name, nil); !errors.Is(err, storage.ErrExists) {
			t.Errorf("second put of %q: %v", name, err)
		}
		Holds(t, s, name, []byte(name))
		if got := Names(t, s, name); !slices.Equal(got, []string{name}) {
			t.Errorf("List(%q) = %q", name, got)
		}
	}
	want := slices.Clone(odd)
	slices.Sort(want)
	if got := Names(t, s, ""); !slices.Equal(got, want) {
		t.Errorf("List = %q\nwant %q", got, want)
	}
	for _, name := range odd {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %q: %v", name, err)
		}
		Missing(t, s, name)
	}
}

func refusedNames(t *testing.T, s storage.Store) {
	for _, name := range []string{"", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\x00b", "a\\b", "a\nb", "a\x7f", "\xff", strings.Repeat("x/", 600) + "x"} {
		if err := s.Put(t.Context(), name, nil); err == nil {
			t.Errorf("put %q succeeded", name)
		}
		if w, err := s.Create(t.Context(), name); err == nil {
			t.Errorf("create %q succeeded", name)
			w.Abort()
		}
		if err := s.Replace(t.Context(), name, nil); err == nil {
			t.Errorf("replace %q succeeded", name)
		}
		if _, err := s.Open(t.Context(), name); err == nil {
			t.Errorf("open %q succeeded", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("delete %q succeeded", name)
		}
	}
	if got := Names(t, s, ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func empty(t *testing.T, s storage.Store) {
	put(t, s, "put", nil)
	w := create(t, s, "created")
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(t.Context(), "replaced", nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"put", "created", "replaced"} {
		Holds(t, s, name, nil)
		r, err := s.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: read %d bytes, %v, want EOF", name, n, err)
		}
		r.Close()
	}
	if err := s.Put(t.Context(), "put", []byte("x")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("an empty object does not hold its name: %v", err)
	}
}

func putIfAbsent(t *testing.T, s storage.Store) {
	put(t, s, "a/b", []byte("first"))
	for _, data := range []string{"second", "first"} { // also with the same bytes
		if err := s.Put(t.Context(), "a/b", []byte(data)); !errors.Is(err, storage.ErrExists) {
			t.Errorf("put %q: %v, want ErrExists", data, err)
		}
		w := create(t, s, "a/b")
		write(t, w, []byte(data))
		if err := w.Commit(t.Context()); !errors.Is(err, storage.ErrExists) {
			t.Errorf("commit %q: %v, want ErrExists", data, err)
		}
		w.Abort()
	}
	Holds(t, s, "a/b", []byte("first"))
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/b", []byte("third"))
	Holds(t, s, "a/b", []byte("third"))
}

func create(t testing.TB, s storage.Creator, name string) storage.Writer {
	t.Helper()
	w, err := s.Create(t.Context(), name)
	if err != nil {
		t.Fatalf("create %q: %v", name, err)
	}
	t.Cleanup(w.Abort)
	return w
}

// write writes in pieces of many sizes.
func write(t testing.TB, w io.Writer, data []byte) {
	t.Helper()
	for size := 1; len(data) > 0; size = size*7 + 3 {
		if size > 3<<20 {
			size = 11
		}
		n := min(size, len(data))
		m, err := w.Write(data[:n])
		if err != nil || m != n {
			t.Fatalf("wrote %d of %d bytes: %v", m, n, err)
		}
		data = data[n:]
	}
}

func large(t *testing.T, s storage.Store) {
	for _, size := range []int{8<<20 - 1, 8 << 20, 8<<20 + 1, 16 << 20, Large} { // about the borders of parts
		name := fmt.Sprintf("large/%d", size)
		data := Pattern(size, uint64(size))
		w := create(t, s, name)
		write(t, w, data)
		if err := w.Commit(t.Context()); err != nil {
			t.Fatalf("commit of %d bytes: %v", size, err)
		}
		w.Abort() // does nothing
		Holds(t, s, name, data)
		for info, err := range s.List(t.Context(), name) {
			if err != nil || info.Size != int64(size) {
				t.Errorf("%s is listed with size %d: %v", name, info.Size, err)
			}
		}
		again := create(t, s, name)
		write(t, again, Pattern(size, 99))
		if err := again.Commit(t.Context()); !errors.Is(err, storage.ErrExists) {
			t.Errorf("second commit: %v, want ErrExists", err)
		}
		Holds(t, s, name, data)
		if err := s.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

func invisible(t *testing.T, s storage.Store) {
	w := create(t, s, "big")
	write(t, w, Pattern(Large, 1))
	Missing(t, s, "big")
	small := create(t, s, "small")
	write(t, small, []byte("x"))
	Missing(t, s, "small")
	if got := Names(t, s, ""); len(got) != 0 {
		t.Errorf("listed: %q", got)
	}
	if err := errors.Join(w.Commit(t.Context()), small.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := Names(t, s, ""); !slices.Equal(got, []string{"big", "small"}) {
		t.Errorf("listed: %q", got)
	}
}

// race has n writers take one name at once, and returns who won.
func race(t *testing.T, n int, write func(i int) error) int {
	t.Helper()
	winner := -1
	var won atomic.Int32
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			switch err := write(i); {
			case err == nil:
				won.Add(1)
				mu.Lock()
				winner = i
				mu.Unlock()
			case !errors.Is(err, storage.ErrExists):
				t.Errorf("writer %d: %v, want ErrExists", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d winners", won.Load())
	}
	return winner
}

func oneWinner(t *testing.T, s storage.Store) {
	for round := range 5 {
		name := fmt.Sprintf("race/%d", round)
		winner := race(t, 64, func(i int) error { return s.Put(t.Context(), name, fmt.Appendf(nil, "writer %d", i)) })
		Holds(t, s, name, fmt.Appendf(nil, "writer %d", winner))
	}
}

func oneWinnerLarge(t *testing.T, s storage.Store) {
	const size = 9 << 20 // two parts
	winner := race(t, 8, func(i int) error {
		w, err := s.Create(t.Context(), "race")
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write(Pattern(size, uint64(i))); err != nil {
			return err
		}
		return w.Commit(t.Context())
	})
	Holds(t, s, "race", Pattern(size, uint64(winner)))
}

// mixed has small and large objects compete for a name.
func mixed(t *testing.T, s storage.Store) {
	const size = 9 << 20
	winner := race(t, 16, func(i int) error {
		if i%4 != 0 {
			time.Sleep(time.Duration(i) * 5 * time.Millisecond)
			return s.Put(t.Context(), "race", fmt.Appendf(nil, "writer %d", i))
		}
		w, err := s.Create(t.Context(), "race")
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write(Pattern(size, uint64(i))); err != nil {
			return err
		}
		return w.Commit(t.Context())
	})
	want := fmt.Appendf(nil, "writer %d", winner)
	if winner%4 == 0 {
		want = Pattern(size, uint64(winner))
	}
	Holds(t, s, "race", want)
}

func abort(t *testing.T, s storage.Store) {
	for _, size := range []int{0, 100, Large} {
		name := fmt.Sprintf("aborted/%d", size)
		w := create(t, s, name)
		write(t, w, Pattern(size, 1))
		w.Abort()
		w.Abort()
		Missing(t, s, name)
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("a write after abort succeeded")
		}
		if err := w.Commit(t.Context()); err == nil {
			t.Error("a commit after abort succeeded")
		}
		Missing(t, s, name)
		put(t, s, name, []byte("free"))
		Holds(t, s, name, []byte("free"))
	}
}

func list(t *testing.T, s storage.Store) {
	all := []string{"a-b", "a.json", "a/1", "a/2/x", "a/20", "b", "b!/c", "b0/d", "é/1"}
	for _, name := range all {
		put(t, s, name, []byte(name))
	}
	for prefix, want := range map[string]string{
		"":     "a-b a.json a/1 a/2/x a/20 b b!/c b0/d é/1", // byte order of whole names
		"a":    "a-b a.json a/1 a/2/x a/20",
		"a/":   "a/1 a/2/x a/20",
		"a/2":  "a/2/x a/20",
		"a/2/": "a/2/x",
		"b":    "b b!/c b0/d",
		"c/d/": "", "a/3": "", "b/": "", "z": "",
	} {
		if got := Names(t, s, prefix); strings.Join(got, " ") != want {
			t.Errorf("List(%q) = %q, want %s", prefix, got, want)
		}
	}
	for info, err := range s.List(t.Context(), "") {
		if err != nil || info.Size != int64(len(info.Name)) {
			t.Errorf("%q: size %d, %v", info.Name, info.Size, err)
		}
		if info.Name == "a/2/x" {
			break // a listing may be left
		}
	}
}

func listPages(t *testing.T, s storage.Store) {
	const n = 2100 // stores give 1,000 at a time
	want := make([]string, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range want {
		want[i] = fmt.Sprintf("pages/%d", i)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.Put(t.Context(), want[i], []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	put(t, s, "pager", nil)
	put(t, s, "pages0", nil)
	slices.Sort(want)
	if got := Names(t, s, "pages/"); !slices.Equal(got, want) {
		t.Errorf("%d names are listed, want %d", len(got), n)
	}
	if got := Names(t, s, ""); len(got) != n+2 || !slices.IsSorted(got) {
		t.Errorf("%d names are listed, want %d, in order", len(got), n+2)
	}
}

func absent(t *testing.T, s storage.Store) {
	put(t, s, "folder/there", nil)
	for _, name := range []string{"never", "never/was", "folder", "folder/the", "folder/there2"} {
		if _, err := s.Open(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("open %q: %v, want ErrNotExist", name, err)
		}
		if name == "folder" {
			continue // on file:// it is one
		}
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	if got := Names(t, s, ""); !slices.Equal(got, []string{"folder/there"}) {
		t.Errorf("left: %q", got)
	}
}

func ranges(t *testing.T, s storage.Store) {
	const size = 3<<20 + 7
	data := Pattern(size, 5)
	put(t, s, "x", data)
	r, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	check := func(offset int64, n int) {
		got := make([]byte, n)
		m, err := r.ReadAt(got, offset)
		want := data[min(offset, size):min(offset+int64(n), size)]
		if m != len(want) || !bytes.Equal(got[:m], want) {
			t.Errorf("ReadAt(%d bytes, %d) = %d bytes, want %d", n, offset, m, len(want))
		}
		if ended := errors.Is(err, io.EOF); m < n && !ended || m == n && err != nil && !ended {
			t.Errorf("ReadAt(%d bytes, %d): %v", n, offset, err)
		}
	}
	for _, offset := range []int64{0, 1, 4095, 256<<10 - 1, 256 << 10, 1 << 20, size - 8, size - 1, size, size + 1, size + 1<<20} {
		for _, n := range []int{0, 1, 8, 4096, 256 << 10, 1<<20 + 1, size, size + 1} {
			check(offset, n)
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was read")
	}
	var wg sync.WaitGroup
	for i := range 8 { // several at a time, as Parquet readers do
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 100 {
				check(random.Int64N(size), random.IntN(300<<10))
			}
		})
	}
	wg.Wait()
	if err := iotest.TestReader(io.NewSectionReader(r, 0, 100), data[:100]); err != nil {
		t.Error(err)
	}
}

func replace(t *testing.T, s storage.Store) {
	for _, data := range []string{"first", "second, longer", "", "3"} { // also where there is none
		if err := s.Replace(t.Context(), "a/key.json", []byte(data)); err != nil {
			t.Fatal(err)
		}
		Holds(t, s, "a/key.json", []byte(data))
		if err := s.Put(t.Context(), "a/key.json", nil); !errors.Is(err, storage.ErrExists) {
			t.Errorf("put over a replaced object: %v", err)
		}
	}
	put(t, s, "put", []byte("put"))
	if err := s.Replace(t.Context(), "put", []byte("replaced")); err != nil {
		t.Fatal(err)
	}
	Holds(t, s, "put", []byte("replaced"))
	if got := Names(t, s, ""); !slices.Equal(got, []string{"a/key.json", "put"}) {
		t.Errorf("listed: %q", got)
	}
}

// replaceWhole reads while others replace: one version or the other, never a piece of each, and never none.
func replaceWhole(t *testing.T, s storage.Store) {
	version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 10_000+1000*i) }
	if err := s.Replace(t.Context(), "x", version(0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for reading := true; reading; {
				select {
				case <-done:
					reading = false
				default:
				}
				data, err := storage.ReadAll(t.Context(), s, "x", 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				if len(data) == 0 || !bytes.Equal(data, version(int(data[0]-'a'))) {
					t.Errorf("read %d bytes that nobody wrote", len(data))
				}
			}
		})
	}
	for i := range 20 {
		if err := s.Replace(t.Context(), "x", version(i)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	Holds(t, s, "x", version(19))
}

func cancel(t *testing.T, s storage.Store) {
	put(t, s, "there", []byte("x"))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", what, err)
		}
	}
	check("put", s.Put(ctx, "x", []byte("x")))
	check("replace", s.Replace(ctx, "there", []byte("y")))
	check("delete", s.Delete(ctx, "there"))
	_, err := s.Open(ctx, "there")
	check("open", err)
	for _, err := range s.List(ctx, "") {
		check("list", err)
	}
	w := create(t, s, "x")
	write(t, w, []byte("x"))
	check("commit", w.Commit(ctx))
	Missing(t, s, "x")
	Holds(t, s, "there", []byte("x"))
}

func cancelUpload(t *testing.T, s storage.Store) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, err := s.Create(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, Pattern(Large, 3))
	stop()
	if err := w.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v, want context.Canceled", err)
	}
	w.Abort()
	Missing(t, s, "x")
	put(t, s, "x", []byte("free"))
	Holds(t, s, "x", []byte("free"))
}

package files

import (
	"bytes"
	"context"
	"errors"

	"io/fs"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// shelf is a Remote of objects by path.
type shelf map[string][]byte

type stashed struct{ *bytes.Reader }

func (stashed) Close() error       { return nil }
func (o stashed) Size() int64      { return o.Reader.Size() }
func (stashed) Written() time.Time { return time.UnixMilli(1767225599999) }

func (s shelf) Open(_ context.Context, input string) (Stored, error) {
	u, err := url.Parse(input)
	if err != nil {
		return nil, err
	}
	data, ok := s[u.Path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return stashed{bytes.NewReader(data)}, nil
}

func (s shelf) List(_ context.Context, under string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		u, err := url.Parse(under)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s)) {
			if strings.HasPrefix(name, u.Path) {
				one := *u
				one.Path = name
				if !yield(one.String(), nil) {
					return
				}
			}
		}
	}
}

// TestRemote reads the same rows, under the same source, from an object as from a file with the same bytes.
func TestRemote(t *testing.T) {
	c := load(t, "")
	lines := []byte("{\"id\":\"a\"}\n{\"id\":\"b\"}\n")
	remote := shelf{"/in/a 1.jsonl": lines, "/in/b.jsonl": nil, "/in/sub/c.jsonl": nil, "/in/d.csv": []byte("id\nx\n")}
	names, err := Expand(t.Context(), []string{"s3://bucket/in/*.jsonl?region=here"}, remote)
	if want := []string{"s3://bucket/in/a%201.jsonl?region=here", "s3://bucket/in/b.jsonl?region=here"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("%q, %v; want %q", names, err, want)
	}
	f, err := Open(t.Context(), names[0], c, Access{Remote: remote})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	local := open(t, write(t, "a.jsonl", lines), c)
	if f.Source() != local.Source() {
		t.Errorf("source %v, of a file with the same bytes %v", f.Source(), local.Source())
	}
	for n := int64(0); ; n++ {
		item, err := f.Next()
		if errors.Is(err, ErrEnd) && n == 2 {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if item.Message.Offset != n || item.Message.Timestamp != 1767225599999 || len(item.Message.Value) != 10 {
			t.Errorf("row %d: %+v", n, item.Message)
		}
	}
	if _, err := Expand(t.Context(), []string{"s3://bucket/none/*.jsonl"}, remote); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pattern that names nothing: %v", err)
	}
	if _, err := Expand(t.Context(), []string{"s3://bucket/[.jsonl"}, remote); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a broken pattern: %v", err)
	}
	if _, err := Open(t.Context(), names[0], c, Access{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without a remote: %v", err)
	}
	if _, err := Open(t.Context(), "s3://bucket/in/x.jsonl", c, Access{Remote: remote}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Open(t.Context(), "s3://bucket/in/x.doc", c, Access{Remote: remote}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("another form: %v", err)
	}
}

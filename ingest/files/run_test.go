package files

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/reuse"
)

// runs reads what rows does by Run, keeping every value until the end: nothing may be written over. Every second lease is
// let go of only then, the others when their values were copied.
func runs(f *File, size int) (out []string, err error) {
	var all []Item
	for turn := 0; err == nil; turn++ {
		var some []Item
		var lease *reuse.Lease
		some, lease, err = f.Run(nil, size)
		if turn%2 == 0 {
			defer lease.Release()
		} else {
			for i := range some {
				some[i].Message.Value = bytes.Clone(some[i].Message.Value)
			}
			lease.Release()
		}
		if err == nil && len(some) == 0 {
			return nil, errors.New("a run without rows")
		}
		all = append(all, some...)
	}
	for i, item := range all {
		if item.Message.Offset != all[0].Message.Offset+int64(i) {
			return nil, fmt.Errorf("offset %d in place %d", item.Message.Offset, i)
		}
		text := string(item.Message.Value)
		if item.Code != "" {
			text = string(item.Code) + ":" + text
		}
		out = append(out, text)
	}
	if errors.Is(err, ErrEnd) {
		err = nil
	}
	return out, err
}

// manyLines are lines of all lengths about the window's, blank ones, and such that are too large.
func manyLines() []byte {
	r := rand.New(rand.NewPCG(4, 2))
	var b strings.Builder
	for i := range 300 {
		n := r.IntN(600)
		if i%100 == 7 {
			n = firstWindow - 300 + r.IntN(600)
		}
		if i == 150 {
			n = 5 * firstWindow
		}
		fmt.Fprintf(&b, `{"id":"%d","note":"%s"}%s`, i, strings.Repeat(string(rune('a'+i%26)), n), []string{"\n", "\r\n", "\n\n", "\n \r\n"}[i%4])
	}
	return []byte(b.String() + `{"id":"last"}`)
}

func TestRunsHaveTheRowsOfNext(t *testing.T) {
	c := load(t, "limits: {bytes: 300KiB}")
	all := everyFormat(t)
	many := manyLines()
	gz, zst := packed(t, many)
	all["many.jsonl"], all["many.jsonl.gz"], all["many.jsonl.zst"] = many, gz, zst
	all["cut.jsonl.gz"], all["cut.jsonl.zst"] = gz[:len(gz)-9], zst[:len(zst)/2]
	for name, data := range all {
		path := write(t, name, data)
		want, wantErr := rows(t, open(t, path, c))
		for _, size := range []int{1, 3000, firstWindow} {
			got, err := runs(open(t, path, c), size)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.Equal(got, want) {
				t.Errorf("%s, runs of %d bytes: %d rows, %v; want %d, %v", name, size, len(got), err, len(want), wantErr)
			}
		}
		f := open(t, path, c)
		if err := f.Skip(2); err != nil {
			t.Fatal(err)
		}
		if got, _ := runs(f, 3000); !slices.Equal(got, want[2:]) {
			t.Errorf("%s, behind two rows: %d rows, want %d", name, len(got), len(want)-2)
		}
	}
}

// Rows allocate nothing: what a run costs is its memory, whatever the number of its rows.
func TestRunsAllocateNothingForARow(t *testing.T) {
	c := load(t, "")
	line := `{"id":"` + strings.Repeat("x", 90) + `"}` + "\n"
	const n = 40_000
	path := write(t, "a.jsonl", []byte(strings.Repeat(line, n)))
	f := open(t, path, c)
	var items []Item
	items, lease, err := f.Run(items, firstWindow)
	if err != nil {
		t.Fatal(err)
	}
	read := len(items)
	allocated := testing.AllocsPerRun(10, func() {
		lease.Release()
		items, lease, err = f.Run(items[:0], firstWindow)
		read += len(items)
	})
	if err != nil || read >= n {
		t.Fatalf("%d rows, %v", read, err)
	}
	if allocated > 8 {
		t.Errorf("a run of %d rows allocates %v times", len(items), allocated)
	}
}

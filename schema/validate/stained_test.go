package validate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// stained is an allocator whose memory was somebody else's before, and is more than was asked for.
type stained struct{ memory.GoAllocator }

func (s *stained) Allocate(size int) []byte {
	b := s.GoAllocator.Allocate(size + size/3)
	for i := range b {
		b[i] = 0xA5
	}
	return b[:size]
}

func (s *stained) Reallocate(size int, old []byte) []byte {
	b := s.Allocate(size)
	copy(b, old)
	return b
}

// TestStains has columns hold the same bytes whatever their memory held before: those of null rows and behind the last
// bit, too, which values do not show.
func TestStains(t *testing.T) {
	s := compileText(t, everything, Options{Vectors: []string{"/v"}})
	check := func(s *Schema, records [][]byte) {
		t.Helper()
		old, fresh := s.NewDecoder(&stained{}), s.NewDecoder(memory.DefaultAllocator)
		for n, r := range records {
			if a, b := old.Append(r), fresh.Append(r); (a == nil) != (b == nil) {
				t.Fatalf("record %d: %v and %v", n, a, b)
			}
			if n%97 != 0 && n != len(records)-1 {
				continue
			}
			a, b := old.Take(), fresh.Take()
			for i, c := range a.Columns() {
				if err := sameBytes(c.Data(), b.Column(i).Data()); err != nil {
					t.Errorf("until record %d, column %s: %v", n, a.ColumnName(i), err)
				}
			}
			if !array.RecordEqual(a, b) {
				t.Errorf("until record %d: other values", n)
			}
			a.Release()
			b.Release()
		}
	}
	var records [][]byte
	for i := range 400 {
		switch i % 7 {
		case 0, 1:
			records = append(records, fmt.Appendf(nil, `{"s":"%d"}`, i))
		case 2:
			records = append(records, []byte(`{"s":"x","ls":[{"k":1},{"k":"no"}],"v":[1,2],"i":7,"b":true}`)) // refused
		case 3:
			records = append(records, []byte(`{"s":"a","b":null,"o":{"x":1},"l":[],"ls":[{},{"k":2},{}],"z":[1]}`))
		default:
			records = append(records, fmt.Appendf(nil, `{"s":"","i":%d,"n":%d.5,"b":%t,"o":{"x":1,"y":"y"},"l":["p","q"],"v":[1,2],"j":{"a":1}}`, i, i, i%2 == 0))
		}
	}
	check(s, records)
	for _, w := range workloads() {
		check(compileText(t, w.schema, Options{Vectors: w.vectors}), w.records)
	}
}

func sameBytes(a, b arrow.ArrayData) error {
	for i, x := range a.Buffers() {
		y := b.Buffers()[i]
		if (x == nil) != (y == nil) {
			return fmt.Errorf("one has no buffer %d", i)
		}
		if x != nil && !bytes.Equal(x.Bytes(), y.Bytes()) {
			return fmt.Errorf("other bytes in buffer %d", i)
		}
	}
	for i, x := range a.Children() {
		if err := sameBytes(x, b.Children()[i]); err != nil {
			return fmt.Errorf("child %d: %w", i, err)
		}
	}
	return nil
}

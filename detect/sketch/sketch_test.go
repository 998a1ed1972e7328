package sketch

import (
	"slices"
	"testing"
)

func TestCounts(t *testing.T) {
	const most = 1 << 30
	for _, want := range [][]uint32{{}, {0}, {7}, {0, 0, 1, 0, most, 0, 0, 0}, slices.Repeat([]uint32{0}, 70_000)} {
		data := append(AppendCounts(nil, want), 'x')
		got, ok := Counts(&data, len(want), most)
		if !ok || !slices.Equal(got, want) || string(data) != "x" {
			t.Errorf("%d counts came back as %d, with %q behind them", len(want), len(got), data)
		}
	}
	for name, data := range map[string][]byte{"cut short": {1}, "too large": {5, 1}, "an empty run": {0, 0, 1, 1}, "too long a run": {0, 3}, "a run without length": {0}} {
		if got, ok := Counts(&data, 2, 4); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSeal(t *testing.T) {
	before := []byte("before")
	sealed := Seal(append(before, 3, 'a', 'b'), len(before))[len(before):]
	if body, ok := Open(sealed, 3); !ok || string(body) != "ab" {
		t.Errorf("sealed ab came back as %q, %v", body, ok)
	}
	if _, ok := Open(sealed, 2); ok {
		t.Error("another version is opened")
	}
	for i := range sealed {
		broken := slices.Clone(sealed)
		broken[i] ^= 4
		if _, ok := Open(broken, 3); ok {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, ok := Open(sealed[:i], 3); ok {
			t.Errorf("opened when cut to %d bytes", i)
		}
	}
}

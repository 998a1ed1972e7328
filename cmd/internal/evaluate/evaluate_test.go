package evaluate

import (
	"encoding/json"
	"math"
	"testing"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		path         []string
		in, want     string
		poison, none bool
	}{
		{path: []string{"poison"}, in: `{"poison":1}`, want: `{}`, poison: true},
		{path: []string{"poison"}, in: `{"poison":0,"a":1}`, want: `{"a":1}`},
		{path: []string{"poison"}, in: ` { "poison" : 1 , "a" : 1 } `, want: ` {  "a" : 1 } `, poison: true},
		{path: []string{"poison"}, in: `{"a":1,"poison":1}`, want: `{"a":1}`, poison: true},
		{path: []string{"poison"}, in: "{\"a\":1 ,\n\t\"poison\" : true\n}", want: "{\"a\":1 \n}", poison: true},
		{path: []string{"poison"}, in: `{"a":1,"poison":"1","b":{"poison":0}}`, want: `{"a":1,"b":{"poison":0}}`, poison: true},
		{path: []string{"b", "poison"}, in: `{"poison":9,"b":{"x":[1],"poison":1},"c":2}`, want: `{"poison":9,"b":{"x":[1]},"c":2}`, poison: true},
		{path: []string{"a/b"}, in: `{"a\/b":0,"z":"\ud83d\ude00"}`, want: `{"z":"\ud83d\ude00"}`},
		// A fault elsewhere stays for the decoder to judge.
		{path: []string{"poison"}, in: `{"poison":1,"a":}`, want: `{"a":}`, poison: true},
		{path: []string{"poison"}, in: `{"poison":1,"a":1,"a":2}`, want: `{"a":1,"a":2}`, poison: true},
		{path: []string{"poison"}, in: `{"poison":1,"poison":1}`, want: `{"poison":1}`, poison: true},
		{path: []string{"poison"}, in: "{\"a\":\"\xff\",\"poison\":0}", want: "{\"a\":\"\xff\"}"},
		{path: []string{"poison"}, in: `{"poison":2}`, none: true},
		{path: []string{"poison"}, in: `{"poison":null}`, none: true},
		{path: []string{"poison"}, in: `{"poison":[1]}`, none: true},
		{path: []string{"poison"}, in: `{"a":{"poison":1}}`, none: true},
		{path: []string{"a", "poison"}, in: `{"a":1,"poison":1}`, none: true},
		{path: []string{"poison"}, in: `[{"poison":1}]`, none: true},
		{path: []string{"poison"}, in: `{"a":1,"poi`, none: true},
		{path: []string{"poison"}, in: ``, none: true},
	} {
		rest, poison, found := cut([]byte(c.in), c.path)
		want := c.want
		if c.none {
			want = c.in
		}
		if string(rest) != want || found == c.none || poison != c.poison {
			t.Errorf("cut(%s, %v) = %s, %v, %v", c.in, c.path, rest, poison, found)
		}
	}
}

func FuzzCut(f *testing.F) {
	for _, seed := range []string{`{"poison":1}`, `{"a":[{}],"poison":0,"b":"x"}`, `{"poison":1,"a":}`, `{ "poison" :1 , "b":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := string(in)
		rest, _, found := cut(in, []string{"poison"})
		if string(in) != before {
			t.Fatal("the input was changed")
		}
		if !found && string(rest) != before {
			t.Fatal("a record without truth was changed")
		}
		if json.Valid(in) && !json.Valid(rest) {
			t.Fatalf("%q became %q, which is no JSON", in, rest)
		}
	})
}

func TestMetrics(t *testing.T) {
	near := func(what string, got *float64, want float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > 1e-12 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	// By hand: pairs (poison, clean) ordered rightly: 3 of 4 and one tie in 6.
	score := []float64{0.9, 0.8, 0.8, 0.3, 0.1}
	truth := []bool{true, false, true, false, false}
	c := newCurve(score, truth)
	near("area", c.area(), (3+2.5)/6)
	near("average precision", c.averagePrecision(), 0.5*1+0.5*2/3)
	near("recall at 1 %", c.recallAt(0.01), 0.5)
	near("recall at 40 %", c.recallAt(0.4), 1)

	same := newCurve(make([]float64, 300), append(make([]bool, 200), trues(100)...))
	near("area of ties", same.area(), 0.5)
	near("average precision of ties", same.averagePrecision(), 1.0/3)
	near("recall at 5 % of ties", same.recallAt(0.05), 0)

	if none := newCurve([]float64{1, 2}, []bool{false, false}); none.area() != nil || none.recallAt(0.1) != nil || none.averagePrecision() != nil {
		t.Error("figures without poison: want null")
	}
}

func trues(n int) []bool {
	out := make([]bool, n)
	for i := range out {
		out[i] = true
	}
	return out
}

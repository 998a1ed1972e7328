package detect

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
)

func batch(t testing.TB, fields []arrow.Field, json string, providers ...string) *record.Batch {
	t.Helper()
	return batchIn(t, memory.DefaultAllocator, fields, json, providers...)
}

func batchIn(t testing.TB, where memory.Allocator, fields []arrow.Field, json string, providers ...string) *record.Batch {
	t.Helper()
	rec, _, err := array.RecordFromJSON(where, arrow.NewSchema(fields, nil), strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return &record.Batch{Records: rec, Providers: providers, Origins: make([]record.Origin, rec.NumRows())}
}

func texts(s *Sample) string {
	var out []string
	for _, text := range s.Text {
		if text == nil {
			out = append(out, "nil")
		} else {
			out = append(out, fmt.Sprintf("%q", text))
		}
	}
	return strings.Join(out, " ")
}

var (
	word   = arrow.BinaryTypes.String
	double = arrow.PrimitiveTypes.Float64
	floats = arrow.ListOf(arrow.PrimitiveTypes.Float32)
)

func TestNewSampleText(t *testing.T) {
	fields := []arrow.Field{
		{Name: "title", Type: word, Nullable: true}, {Name: "body", Type: word, Nullable: true},
		{Name: "lines", Type: arrow.ListOf(word), Nullable: true},
		{Name: "in", Type: arrow.StructOf(arrow.Field{Name: "deep", Type: word, Nullable: true}), Nullable: true},
	}
	a := batch(t, fields, `[{"title":"a","body":"b","lines":["x","","y"],"in":{"deep":"d"}},{"title":null,"body":"c","lines":null,"in":null}]`)
	b := batch(t, fields, `[{"title":"","body":null,"lines":[],"in":{"deep":null}},{"title":null,"body":null,"lines":["z"],"in":{"deep":"é"}}]`)
	for _, c := range []struct {
		pointers []string
		want     string
	}{
		{[]string{"/title"}, `"a" nil "" nil`},
		{[]string{"/title", "/body"}, `"a\nb" "c" "" nil`},
		{[]string{"/lines"}, `"x\n\ny" nil "" "z"`},
		{[]string{"/in/deep", "/title"}, `"d\na" nil "" "é"`},
	} {
		s, _, err := NewSample(&contract.Contract{Roles: contract.Roles{Text: c.pointers}}, []*record.Batch{a, b}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := texts(s); got != c.want || s.N != 4 {
			t.Errorf("%v: %s, want %s", c.pointers, got, c.want)
		}
	}
	// Sliced columns do not begin where their buffers do.
	sliced := &record.Batch{Records: a.Records.NewSlice(1, 2)}
	s, _, err := NewSample(&contract.Contract{Roles: contract.Roles{Text: []string{"/body"}}}, []*record.Batch{sliced}, nil)
	if err != nil || texts(s) != `"c"` {
		t.Errorf("slice: %s, %v", texts(s), err)
	}
}

func TestNewSampleLabel(t *testing.T) {
	for _, c := range []struct {
		kind  arrow.DataType
		json  string
		label []int32
		names []string
	}{
		{word, `[{"l":"pos"},{"l":null},{"l":"neg"},{"l":"pos"},{"l":""}]`, []int32{0, -1, 1, 0, 2}, []string{"pos", "neg", ""}},
		{arrow.PrimitiveTypes.Int64, `[{"l":7},{"l":-1},{"l":7},{"l":9007199254740993}]`, []int32{0, 1, 0, 2}, []string{"7", "-1", "9007199254740993"}},
		{arrow.PrimitiveTypes.Float64, `[{"l":1},{"l":0.5}]`, []int32{0, 1}, []string{"1", "0.5"}},
		{arrow.FixedWidthTypes.Boolean, `[{"l":true},{"l":false},{"l":null}]`, []int32{0, 1, -1}, []string{"true", "false"}},
	} {
		b := batch(t, []arrow.Field{{Name: "l", Type: c.kind, Nullable: true}}, c.json)
		s, _, err := NewSample(&contract.Contract{Roles: contract.Roles{Label: "/l"}}, []*record.Batch{b}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s.Label, c.label) || !reflect.DeepEqual(s.Classes, c.names) {
			t.Errorf("%s: %v of %q", c.kind, s.Label, s.Classes)
		}
	}
}

func TestNewSampleFeatures(t *testing.T) {
	fields := []arrow.Field{
		{Name: "a", Type: double, Nullable: true}, {Name: "b", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "c", Type: arrow.FixedWidthTypes.Boolean}, {Name: "x", Type: arrow.ListOf(double), Nullable: true},
	}
	b := batch(t, fields, `[{"a":1.5,"b":2,"c":true,"x":[1,2]},{"a":null,"b":3,"c":false,"x":[1,2,3]},{"a":2,"b":null,"c":true,"x":null},{"a":2,"b":1,"c":true,"x":[5,6]}]`)
	s, _, err := NewSample(&contract.Contract{Roles: contract.Roles{Features: []string{"/a", "/b", "/c"}}}, []*record.Batch{b, b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "1.5 2 1 NaN 3 0 2 NaN 1 2 1 1"
	if got := strings.Trim(fmt.Sprint(s.Features), "[]"); got != want+" "+want {
		t.Errorf("features %s", got)
	}
	s, misfits, err := NewSample(&contract.Contract{Roles: contract.Roles{Features: []string{"/x"}}}, []*record.Batch{b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.FeatureNames, s.Features, misfits); got != "[/x/0 /x/1] [1 2 NaN NaN NaN NaN 5 6] [{1 /x 3 2}]" {
		t.Errorf("list: %s", got)
	}
}

func TestNewSampleEmbedding(t *testing.T) {
	fields := []arrow.Field{{Name: "v", Type: floats, Nullable: true}}
	c := &contract.Contract{Roles: contract.Roles{Embedding: "/v"}}
	even := batch(t, fields, `[{"v":[1,2]},{"v":[3,4]},{"v":[5,6]}]`)
	s, _, err := NewSample(c, []*record.Batch{even}, nil)
	if err != nil {
		t.Fatal(err)
	}
	values := even.Records.Column(0).(*array.List).ListValues().(*array.Float32).Float32Values()
	if &s.Embedding[0] != &values[0] || s.HasEmbedding != nil || s.Dim != 2 {
		t.Error("vectors of one length are not read in place")
	}
	sliced := &record.Batch{Records: even.Records.NewSlice(1, 3)}
	if s, _, _ = NewSample(c, []*record.Batch{sliced, even}, nil); fmt.Sprint(s.Embedding) != "[3 4 5 6 1 2 3 4 5 6]" {
		t.Errorf("slice: %v", s.Embedding)
	}
	odd := batch(t, fields, `[{"v":[7]},{"v":null},{"v":[8,9]},{"v":[1,2,3]}]`)
	s, misfits, err := NewSample(c, []*record.Batch{even, odd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.Embedding, s.HasEmbedding, misfits)
	want := "[1 2 3 4 5 6 0 0 0 0 8 9 0 0] [true true true false false true false] [{3 /v 1 2} {6 /v 3 2}]"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// A reference's length holds even where no row has it.
	if _, misfits, _ = NewSample(c, []*record.Batch{even}, &Sample{Dim: 3}); len(misfits) != 3 || misfits[2].Want != 3 {
		t.Errorf("misfits %v", misfits)
	}
	fixed := batch(t, []arrow.Field{{Name: "v", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)}}, `[{"v":[1,2]},{"v":[3,4]}]`)
	if s, _, err = NewSample(c, []*record.Batch{fixed}, nil); err != nil || fmt.Sprint(s.Embedding, s.Dim) != "[1 2 3 4] 2" {
		t.Errorf("fixed: %v, %v", s.Embedding, err)
	}
	empty := batch(t, fields, `[]`)
	if s, misfits, err = NewSample(c, []*record.Batch{empty}, nil); err != nil || s.N != 0 || misfits != nil {
		t.Errorf("empty: %v, %v", misfits, err)
	}
}

// TestMoveSample: the sample is the same, columns say what they said, and they are where the sample's vectors are. The columns' memory is a pool's, which
// with the race detector writes over what is given back.
func TestMoveSample(t *testing.T) {
	fields := []arrow.Field{
		{Name: "id", Type: word}, {Name: "v", Type: floats, Nullable: true}, {Name: "in", Type: arrow.StructOf(arrow.Field{Name: "g", Type: floats})},
	}
	c := &contract.Contract{Roles: contract.Roles{Text: []string{"/id"}, Embedding: "/v", Gradient: "/in/g"}}
	pool := &reuse.Pool{}
	made := func() []*record.Batch {
		first := batchIn(t, pool, fields, `[{"id":"a","v":[1,2],"in":{"g":[1]}},{"id":"b","v":[3,4],"in":{"g":[2]}},{"id":"c","v":[5,6],"in":{"g":[3]}}]`)
		odd := batchIn(t, pool, fields, `[{"id":"d","v":[7],"in":{"g":[4]}},{"id":"e","v":null,"in":{"g":[5]}}]`)
		return []*record.Batch{first, odd, {Records: first.Records.NewSlice(1, 3)}, {Records: first.Records.NewSlice(0, 2)}}
	}
	for n := range len(made()) + 1 {
		batches := made()[:n]
		var before []string
		for _, b := range batches {
			before = append(before, fmt.Sprint(b.Records))
		}
		want, misfits, err := NewSample(c, batches, nil)
		if err != nil {
			t.Fatal(err)
		}
		expected, vectors, said := fmt.Sprint(want.Embedding, want.HasEmbedding, want.Gradient, misfits), fmt.Sprint(want.Embedding), texts(want)
		got, found, err := MoveSample(c, batches, nil, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got.Embedding, got.HasEmbedding, got.Gradient, found) != expected {
			t.Errorf("%d batches: %v, want %v", n, got, expected)
		}
		if texts(got) != said {
			t.Errorf("%d batches: texts %s, want %s", n, texts(got), said)
		}
		for i, b := range batches {
			if now := fmt.Sprint(b.Records); now != before[i] {
				t.Errorf("%s became %s", before[i], now)
			}
		}
		if n > 0 {
			values := batches[0].Records.Column(1).(*array.List).ListValues().(*array.Float32).Float32Values()
			if &values[0] != &got.Embedding[0] {
				t.Error("the column is not where the sample's vectors are")
			}
		}
		again, _, _ := MoveSample(c, batches, nil, 0, 2)
		if fmt.Sprint(again.Embedding) != vectors {
			t.Errorf("again: %v", again.Embedding)
		}
		for _, b := range batches {
			b.Records.Release()
		}
	}
}

// TestJoinTakesTheRoom: the first Join of a sample that has room copies nothing of it, and no other Join writes there.
func TestJoinTakesTheRoom(t *testing.T) {
	fields := []arrow.Field{{Name: "v", Type: floats, Nullable: true}}
	c := &contract.Contract{Roles: contract.Roles{Embedding: "/v"}}
	more := func(values ...float32) *Sample { return &Sample{N: len(values) / 2, Embedding: values, Dim: 2} }
	made := func() *Sample {
		s, _, err := MoveSample(c, []*record.Batch{batch(t, fields, `[{"v":[1,2]}]`), batch(t, fields, `[{"v":[3,4]}]`)}, nil, 2, 2)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := made()
	if cap(s.Embedding) != 4 {
		t.Error("the room shows")
	}
	first, second := s.Join(more(5, 6)), s.Join(more(7, 8))
	if fmt.Sprint(first.Embedding, second.Embedding) != "[1 2 3 4 5 6] [1 2 3 4 7 8]" {
		t.Error(first.Embedding, second.Embedding)
	}
	if &first.Embedding[0] != &s.Embedding[0] || &second.Embedding[0] == &s.Embedding[0] {
		t.Error("not the first has the room")
	}
	s = made()
	if large := s.Join(more(5, 6, 7, 8, 9, 10)); fmt.Sprint(large.Embedding) != "[1 2 3 4 5 6 7 8 9 10]" || &large.Embedding[0] == &s.Embedding[0] {
		t.Error(large.Embedding)
	}
	s = made()
	if none := s.Join(&Sample{N: 2, Dim: 2}); fmt.Sprint(none.Embedding, none.HasEmbedding) != "[1 2 3 4 0 0 0 0] [true true false false]" {
		t.Error(none.Embedding, none.HasEmbedding)
	}
	if s = made().WithoutVectors(); s.Join(more(5, 6)).Embedding != nil {
		t.Error("vectors that were left out came back")
	}
}

func TestNewSampleProvider(t *testing.T) {
	fields := []arrow.Field{{Name: "a", Type: double}}
	a := batch(t, fields, `[{"a":1},{"a":2},{"a":3}]`, "x", "", "y")
	s, _, err := NewSample(&contract.Contract{Roles: contract.Roles{Provider: contract.Provider{Key: true}}}, []*record.Batch{a, a}, nil)
	if err != nil || fmt.Sprint(s.Provider, s.Providers) != "[0 -1 1 0 -1 1] [x y]" {
		t.Errorf("%v %v %v", s.Provider, s.Providers, err)
	}
	if s, _, _ = NewSample(&contract.Contract{}, []*record.Batch{a}, nil); s.Provider != nil {
		t.Error("a provider without the role")
	}
}

func TestNewSampleOfAModel(t *testing.T) {
	fields := []arrow.Field{
		{Name: "p", Type: floats, Nullable: true}, {Name: "g", Type: floats, Nullable: true},
		{Name: "l", Type: double, Nullable: true}, {Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}
	c := &contract.Contract{Roles: contract.Roles{Probabilities: "/p", Gradient: "/g", Loss: "/l"}}
	a := batch(t, fields, `[{"p":[0.5,0.5],"g":[1,2,3],"l":0.25,"i":1},{"p":[1,0],"g":[4,5,6],"l":-3,"i":2}]`)
	s, misfits, err := NewSample(c, []*record.Batch{a}, nil)
	if err != nil || len(misfits) > 0 {
		t.Fatal(misfits, err)
	}
	if got, want := fmt.Sprint(s.Probabilities, s.Outcomes, s.Gradient, s.GradientDim, s.Loss), "[0.5 0.5 1 0] 2 [1 2 3 4 5 6] 3 [0.25 -3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	values := a.Records.Column(0).(*array.List).ListValues().(*array.Float32).Float32Values()
	if &s.Probabilities[0] != &values[0] {
		t.Error("probabilities of one length are not read in place")
	}

	b := batch(t, fields, `[{"p":null,"g":[7],"l":null,"i":null},{"p":[1,2,3],"g":null,"l":2,"i":4}]`)
	s, misfits, err = NewSample(c, []*record.Batch{a, b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(s.Probabilities, s.Gradient, s.Loss), "[0.5 0.5 1 0 0 0 0 0] [1 2 3 4 5 6 0 0 0 0 0 0] [0.25 -3 NaN 2]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(misfits), "[{2 /g 1 3} {3 /p 3 2}]"; got != want {
		t.Errorf("misfits %s, want %s", got, want)
	}
	// A reference's lengths hold, and a contract may name other types for a loss.
	c.Roles.Loss = "/i"
	s, misfits, err = NewSample(c, []*record.Batch{a}, &Sample{Outcomes: 3, GradientDim: 2})
	if err != nil || len(misfits) != 4 || s.Outcomes != 3 || s.GradientDim != 2 || fmt.Sprint(s.Loss) != "[1 2]" {
		t.Errorf("misfits %v, error %v, losses %v", misfits, err, s.Loss)
	}
	// No row at all, and roles that the contract does not name.
	s, _, err = NewSample(c, []*record.Batch{batch(t, fields, `[]`)}, &Sample{Outcomes: 2, GradientDim: 3})
	if err != nil || s.N != 0 || s.Outcomes != 2 || s.GradientDim != 3 || len(s.Probabilities)+len(s.Gradient)+len(s.Loss) != 0 {
		t.Errorf("no row: %+v, error %v", s, err)
	}
	if s, _, _ = NewSample(&contract.Contract{}, []*record.Batch{a}, nil); s.Probabilities != nil || s.Gradient != nil || s.Loss != nil {
		t.Error("columns without roles")
	}
}

func TestNewSampleErrors(t *testing.T) {
	fields := []arrow.Field{{Name: "n", Type: double}, {Name: "s", Type: word}}
	b := batch(t, fields, `[{"n":1,"s":"secret"}]`)
	for _, roles := range []contract.Roles{
		{Text: []string{"/n"}}, {Text: []string{"/gone"}}, {Features: []string{"/s"}}, {Features: []string{"/s", "/n"}},
		{Embedding: "/n"}, {Embedding: "/s"}, {Label: "/gone"},
		{Probabilities: "/n"}, {Probabilities: "/gone"}, {Gradient: "/s"}, {Gradient: "/gone"}, {Loss: "/s"}, {Loss: "/gone"},
	} {
		_, _, err := NewSample(&contract.Contract{Roles: roles}, []*record.Batch{b}, nil)
		if err == nil || !strings.Contains(err.Error(), "roles.") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: error %v", roles, err)
		}
	}
}

func TestSelect(t *testing.T) {
	s := &Sample{
		N: 3, Text: [][]byte{{1}, nil, {3}}, Label: []int32{0, -1, 1}, Classes: []string{"a", "b"},
		Features: []float64{1, 2, 3, 4, 5, 6}, FeatureNames: []string{"x", "y"},
		Embedding: []float32{1, 2, 3}, Dim: 1, HasEmbedding: []bool{true, false, true},
		Probabilities: []float32{1, 0, 2, 0, 3, 0}, Outcomes: 2, Loss: []float64{7, 8, 9}, Gradient: []float32{4, 5, 6}, GradientDim: 1,
	}
	got := s.Select([]int{2, 0, 2})
	want := &Sample{
		N: 3, Text: [][]byte{{3}, {1}, {3}}, Label: []int32{1, 0, 1}, Classes: []string{"a", "b"},
		Features: []float64{5, 6, 1, 2, 5, 6}, FeatureNames: []string{"x", "y"},
		Embedding: []float32{3, 1, 3}, Dim: 1, HasEmbedding: []bool{true, true, true},
		Probabilities: []float32{3, 0, 1, 0, 3, 0}, Outcomes: 2, Loss: []float64{9, 7, 9}, Gradient: []float32{6, 4, 6}, GradientDim: 1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func BenchmarkNewSample(b *testing.B) {
	fields := []arrow.Field{
		{Name: "t", Type: word}, {Name: "l", Type: word}, {Name: "x", Type: double}, {Name: "y", Type: arrow.PrimitiveTypes.Int64},
	}
	const n = 20000
	var json strings.Builder
	json.WriteByte('[')
	for i := range n {
		if i > 0 {
			json.WriteByte(',')
		}
		fmt.Fprintf(&json, `{"t":"some text %d","l":"%d","x":%g,"y":%d}`, i, i%5, math.Sqrt(float64(i)), i)
	}
	json.WriteByte(']')
	batches := []*record.Batch{batch(b, fields, json.String())}
	c := &contract.Contract{Roles: contract.Roles{Text: []string{"/t"}, Label: "/l", Features: []string{"/x", "/y"}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := NewSample(c, batches, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}

func TestJoin(t *testing.T) {
	a := &Sample{
		N: 2, Text: [][]byte{{1}, nil}, Label: []int32{0, 1}, Classes: []string{"a", "b"},
		Features: []float64{1, 2}, FeatureNames: []string{"x"}, Embedding: []float32{1, 2}, Dim: 1,
		Provider: []int32{0, -1}, Providers: []string{"p"},
	}
	b := &Sample{
		N: 2, Text: [][]byte{{3}, {4}}, Label: []int32{1, -1}, Classes: []string{"c", "a"},
		Features: []float64{3, 4}, FeatureNames: []string{"x"}, Embedding: []float32{3, 0}, Dim: 1, HasEmbedding: []bool{true, false},
	}
	got := a.Join(b)
	want := &Sample{
		N: 4, Text: [][]byte{{1}, nil, {3}, {4}}, Label: []int32{0, 1, 0, -1}, Classes: []string{"a", "b"},
		Features: []float64{1, 2, 3, 4}, FeatureNames: []string{"x"}, Embedding: []float32{1, 2, 3, 0}, Dim: 1,
		HasEmbedding: []bool{true, true, true, false}, Provider: []int32{0, -1, -1, -1}, Providers: []string{"p"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	b.Classes[0], b.Label[1] = "d", 0
	if got = a.Join(b); fmt.Sprint(got.Label, got.Classes) != "[0 1 0 2] [a b d]" || len(a.Classes) != 2 {
		t.Errorf("%v %v", got.Label, got.Classes)
	}
	if poor := (&Sample{N: 1}).Join(b); poor.N != 3 || poor.Text != nil || poor.Label != nil || poor.Embedding != nil {
		t.Errorf("%+v", poor)
	}
}

// Rows that lack what a model makes have nothing there after a Join, and what the first lacks stays lacking.
func TestJoinOfAModel(t *testing.T) {
	full := &Sample{
		N: 1, Probabilities: []float32{0.5, 0.5}, Outcomes: 2, Loss: []float64{1}, Gradient: []float32{3, 4, 5}, GradientDim: 3,
	}
	got := full.Join(full).Join(&Sample{N: 1})
	text := fmt.Sprint(got.N, got.Probabilities, got.Outcomes, got.Loss, got.Gradient, got.GradientDim)
	if want := "3 [0.5 0.5 0.5 0.5 0 0] 2 [1 1 NaN] [3 4 5 3 4 5 0 0 0] 3"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if len(full.Loss) != 1 || len(full.Gradient) != 3 {
		t.Error("Join changes what it joins")
	}
	got = (&Sample{N: 1}).Join(full)
	if got.N != 2 || got.Probabilities != nil || got.Outcomes != 0 || got.Loss != nil || got.Gradient != nil || got.GradientDim != 0 {
		t.Errorf("%+v", got)
	}
}

// TestStringsAndTextsAreJoinedAlike compares the two ways in which texts of a row are joined, of parts of columns too.
func TestStringsAndTextsAreJoinedAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	column := func(n int, nulls bool) arrow.Array {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		for range n + 20 {
			if nulls && rng.IntN(3) == 0 {
				b.AppendNull()
			} else {
				b.Append("some text"[:rng.IntN(10)])
			}
		}
		return array.NewSlice(b.NewArray(), 7, int64(7+n))
	}
	for range 100 {
		n := 1 + rng.IntN(50)
		columns := []arrow.Array{column(n, false), column(n, true), column(n, rng.IntN(2) == 0)}[:1+rng.IntN(3)]
		ends, want := make([]int, n), make([]int, n)
		joined := joinTexts(columns, want, 0)
		if arena, ok := joinStrings(columns, ends); !ok || !bytes.Equal(arena, joined) || !slices.Equal(ends, want) {
			t.Fatalf("%q, %v, %v: want %q, %v", arena, ends, ok, joined, want)
		}
	}
}

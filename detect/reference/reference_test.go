package reference

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

func TestEncodeDecode(t *testing.T) {
	full := detecttest.Clean(200, 3)
	full.Text[3], full.Text[4] = nil, []byte{}
	full.Label[5], full.Provider[6] = -1, -1
	full.Loss[8] = math.NaN()
	clear(full.Probabilities[2*9 : 2*10])
	clear(full.Gradient[12*10 : 12*11])
	clear(full.Embedding[16*7 : 16*8])
	full.HasEmbedding = make([]bool, full.N)
	for i := range full.HasEmbedding {
		full.HasEmbedding[i] = i != 7
	}
	for _, s := range []*detect.Sample{full, {N: 5}, {}, {N: 2, Text: [][]byte{[]byte("a"), nil}}} {
		r, err := New(Header{Topic: "t", Seen: 500, Inputs: []Input{{"ab", 500}}}, s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(append([]byte{}, r.Encode()...))
		if err != nil {
			t.Fatal(err)
		}
		if again.Digest != r.Digest || !reflect.DeepEqual(again.Header, r.Header) || r.Rows != s.N || r.Seen != 500 {
			t.Fatalf("%d rows: another reference after decoding", s.N)
		}
		for i := range s.N {
			if s.Text != nil && (!bytes.Equal(r.Sample.Text[i], s.Text[i]) || (r.Sample.Text[i] == nil) != (s.Text[i] == nil)) {
				t.Fatalf("text of row %d", i)
			}
			if s.Label != nil && name(s.Classes, s.Label[i]) != name(r.Sample.Classes, r.Sample.Label[i]) {
				t.Fatalf("label of row %d", i)
			}
			if s.Provider != nil && name(s.Providers, s.Provider[i]) != name(r.Sample.Providers, r.Sample.Provider[i]) {
				t.Fatalf("provider of row %d", i)
			}
		}
		if !reflect.DeepEqual(s.HasEmbedding, r.Sample.HasEmbedding) {
			t.Fatal("who has an embedding differs")
		}
		got := r.Sample
		if got.Dim != s.Dim || got.Outcomes != s.Outcomes || got.GradientDim != s.GradientDim || (got.Loss == nil) != (s.Loss == nil) {
			t.Fatal("lengths of vectors differ")
		}
		for name, equal := range map[string]bool{
			"features":      slices.EqualFunc(got.Features, s.Features, sameBits),
			"loss":          slices.EqualFunc(got.Loss, s.Loss, sameBits),
			"embedding":     slices.Equal(got.Embedding, s.Embedding),
			"probabilities": slices.Equal(got.Probabilities, s.Probabilities),
			"gradient":      slices.Equal(got.Gradient, s.Gradient),
		} {
			if !equal {
				t.Errorf("%s differ", name)
			}
		}
	}
}

func sameBits(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

func name(names []string, at int32) string {
	if at < 0 {
		return "\x00none"
	}
	return names[at]
}

func TestDecodeRefusesWhatIsBroken(t *testing.T) {
	r, err := New(Header{Topic: "t"}, detecttest.Clean(20, 1))
	if err != nil {
		t.Fatal(err)
	}
	good := r.Encode()
	if _, err := Decode(append(good[:len(good):len(good)], 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: error %v", err)
	}
	for cut := 0; cut < len(good); cut += 1 + cut/50 {
		if _, err := Decode(good[:cut]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d of %d: error %v", cut, len(good), err)
		}
	}
	later := append([]byte("taster-reference 2\n"), good[len(magic):]...)
	if _, err := Decode(later); !errors.Is(err, ErrMalformed) {
		t.Errorf("later version: error %v", err)
	}
	short := bytes.Replace(good, []byte(`"rows":20`), []byte(`"rows":21`), 1)
	if _, err := Decode(short); !errors.Is(err, ErrMalformed) {
		t.Errorf("wrong count: error %v", err)
	}
}

// A reference that was made before there were probabilities, losses and gradients reads as it always did.
func TestOldReference(t *testing.T) {
	const header = `{"topic":"t","contract":"ab","created":"2026-01-02T03:04:05Z","seed":1,"seen":2,"rows":2,` +
		`"inputs":[{"sha256":"cd","rows":2}],"columns":["text","label","features","embedding"],"features":["x"],"dim":1}`
	data := []byte("taster-reference 1\n")
	number := func(n uint32) { data = binary.LittleEndian.AppendUint32(data, n) }
	number(uint32(len(header)))
	data = append(data, header...)
	number(3) // text: "hi", none
	number(0)
	data = append(data, "hi"...)
	number(2) // label: "a", "a"
	number(2)
	data = append(data, "aa"...)
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(1.5))
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(2.5))
	data = append(data, 1, 0) // embedding: 4, none
	number(math.Float32bits(4))
	number(0)
	r, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want := &detect.Sample{
		N: 2, Text: [][]byte{[]byte("hi"), nil}, Label: []int32{0, 0}, Classes: []string{"a"},
		Features: []float64{1.5, 2.5}, FeatureNames: []string{"x"}, Embedding: []float32{4, 0}, Dim: 1, HasEmbedding: []bool{true, false},
	}
	if !reflect.DeepEqual(r.Sample, want) {
		t.Errorf("%+v", r.Sample)
	}
	again, err := New(r.Header, r.Sample)
	if err != nil || !bytes.Equal(again.Encode(), data) {
		t.Errorf("made again it has other bytes, error %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []*detect.Sample{detecttest.Clean(3, 1), {N: 1}, {N: 2, Text: [][]byte{nil, []byte("x")}}} {
		r, err := New(Header{Topic: "t"}, s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if r.Sample.N > 0 { // the columns are as long as they say, or this panics
			r.Sample.Select([]int{0, r.Sample.N - 1})
		}
	})
}

func rows(t *testing.T, from, to int) *record.Batch {
	t.Helper()
	var json strings.Builder
	json.WriteByte('[')
	for i := from; i < to; i++ {
		if i > from {
			json.WriteByte(',')
		}
		fmt.Fprintf(&json, `{"t":"text %d","v":[%d,1]}`, i, i)
	}
	json.WriteByte(']')
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: arrow.BinaryTypes.String}, {Name: "v", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32)},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(json.String()))
	if err != nil {
		t.Fatal(err)
	}
	return &record.Batch{Records: rec, Origins: make([]record.Origin, to-from), Providers: make([]string, to-from)}
}

// Rows too large to keep 100 of them are kept in a smaller, still uniform sample.
func TestReservoirIsBoundedInBytes(t *testing.T) {
	c := &contract.Contract{Topic: "t", Roles: contract.Roles{Text: []string{"/t"}, Embedding: "/v"}}
	var places, kept float64
	for seed := range uint64(200) {
		r := NewReservoir(c, seed)
		r.most, r.bound = 100, 800
		b := rows(t, 0, 2000)
		if err := r.Add(b); err != nil {
			t.Fatal(err)
		}
		b.Records.Release()
		if r.bytes > r.bound || len(r.kept) < 20 {
			t.Fatalf("%d rows of %d bytes are kept", len(r.kept), r.bytes)
		}
		var bytes int64
		for i := range r.kept {
			bytes += r.kept[i].size()
			places += float64(r.kept[i].embedding[0])
			kept++
		}
		if bytes != r.bytes {
			t.Fatalf("%d bytes are counted as %d", bytes, r.bytes)
		}
	}
	// The mean place of a uniform draw of so many rows has a standard error of 2000/√12/√kept.
	if mean := places / kept; math.Abs(mean-999.5) > 4*2000/math.Sqrt(12*kept) {
		t.Errorf("rows at a mean place of %.0f are kept, want 1000", mean)
	}
}

// modelled returns rows with what a model makes of them; those before row from lack it.
func modelled(t *testing.T, from, to, known int) *record.Batch {
	t.Helper()
	var rows []string
	for i := from; i < to; i++ {
		if i < known {
			rows = append(rows, `{"x":null,"v":null,"p":null,"g":null,"l":null}`)
		} else {
			rows = append(rows, fmt.Sprintf(`{"x":[%d],"v":[%d,1],"p":[0.25,0.75],"g":[%d,2,3],"l":%d.5}`, i, i, i, i))
		}
	}
	floats := arrow.ListOf(arrow.PrimitiveTypes.Float32)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "x", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
		{Name: "v", Type: floats, Nullable: true}, {Name: "p", Type: floats, Nullable: true},
		{Name: "g", Type: floats, Nullable: true}, {Name: "l", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	return &record.Batch{Records: rec, Origins: make([]record.Origin, to-from), Providers: make([]string, to-from)}
}

// Probabilities, losses, gradients and vectors are kept, and rows that lack them too, even where the first ones do.
func TestReservoirKeepsWhatAModelMakes(t *testing.T) {
	c := &contract.Contract{Topic: "t", Roles: contract.Roles{
		Features: []string{"/x"}, Embedding: "/v", Probabilities: "/p", Gradient: "/g", Loss: "/l",
	}}
	for _, known := range []int{0, 3, 5, 9} {
		r := NewReservoir(c, 1)
		for from := 0; from < 9; from += 3 {
			if err := r.Add(modelled(t, from, from+3, known)); err != nil {
				t.Fatal(err)
			}
		}
		ref, err := r.Reference("2026-01-02T03:04:05Z", nil)
		if err != nil {
			t.Fatal(err)
		}
		s := ref.Sample
		if known == 9 {
			if s.N != 9 || s.Dim+s.Outcomes+s.GradientDim+len(s.FeatureNames) != 0 || !math.IsNaN(s.Loss[8]) {
				t.Errorf("no row has anything: %+v", s)
			}
			continue
		}
		if s.Dim != 2 || s.Outcomes != 2 || s.GradientDim != 3 || len(s.FeatureNames) != 1 {
			t.Fatalf("known from row %d: lengths %d, %d, %d, %d", known, s.Dim, s.Outcomes, s.GradientDim, len(s.FeatureNames))
		}
		for i := range 9 {
			got := fmt.Sprint(s.Features[i], s.Embedding[2*i:2*i+2], s.Probabilities[2*i:2*i+2], s.Gradient[3*i:3*i+3], s.Loss[i])
			want := "NaN [0 0] [0 0] [0 0 0] NaN"
			if i >= known {
				want = fmt.Sprintf("%d [%d 1] [0.25 0.75] [%d 2 3] %d.5", i, i, i, i)
			}
			if got != want {
				t.Errorf("known from row %d: row %d is %s, want %s", known, i, got, want)
			}
			if has := s.HasEmbedding == nil || s.HasEmbedding[i]; has != (i >= known) {
				t.Errorf("known from row %d: row %d has an embedding: %v", known, i, has)
			}
		}
	}
}

func TestReservoir(t *testing.T) {
	c := &contract.Contract{Topic: "t", Roles: contract.Roles{Text: []string{"/t"}, Embedding: "/v"}}
	draw := func(seed uint64, cuts ...int) *Reference {
		r := NewReservoir(c, seed)
		r.most = 100
		from := 0
		for _, to := range cuts {
			b := rows(t, from, to)
			if err := r.Add(b); err != nil {
				t.Fatal(err)
			}
			b.Records.Release() // what is kept must not lie in the batch
			from = to
		}
		ref, err := r.Reference("2026-01-02T03:04:05Z", []Input{{"ab", int64(from)}})
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	a := draw(1, 3000)
	if a.Rows != 100 || a.Seen != 3000 {
		t.Fatalf("%d rows of %d", a.Rows, a.Seen)
	}
	if b := draw(1, 10, 99, 101, 1500, 3000); b.Digest != a.Digest {
		t.Error("how the rows are cut into batches changes the sample")
	}
	if b := draw(2, 3000); b.Digest == a.Digest {
		t.Error("another seed draws the same sample")
	}
	if b := draw(1, 40); b.Rows != 40 || string(b.Sample.Text[39]) != "text 39" || b.Sample.Embedding[2*39] != 39 {
		t.Error("a short input is not kept whole")
	}
	if b := draw(1); b.Rows != 0 {
		t.Error("rows out of nothing")
	}
	// Uniform: the mean position of ten draws of 100 rows of 3,000, to four standard errors.
	var mean float64
	for seed := range uint64(10) {
		sample := draw(seed+10, 3000).Sample
		for i := range 100 {
			mean += float64(sample.Embedding[2*i]) / 1000
		}
	}
	if math.Abs(mean-1500) > 4*3000/math.Sqrt(12*1000) {
		t.Errorf("mean position %.0f, want about 1500", mean)
	}
}

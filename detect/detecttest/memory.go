package detecttest

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// Rows that a memory is filled with until it can hold no more, all different.
const (
	floodSegments = 24
	floodRows     = 600
)

// RunMemory tests what detect.Remembering promises of the models that detector fits. It is run beside Run, with
// the same makeSample. However much a stream has shown, its memory is encoded in at most maxBytes.
func RunMemory(t *testing.T, detector detect.Detector, makeSample func(n int, seed uint64) *detect.Sample, maxBytes int) {
	t.Helper()
	model := fit(t, detector, makeSample(referenceRows, 1), 2)
	m, ok := model.(detect.Remembering)
	if !ok {
		t.Fatalf("%T is no detect.Remembering", model)
	}
	s := &memorySuite{detector, m, makeSample, maxBytes}
	t.Run("empty", s.empty)
	t.Run("agreement", s.agreement)
	t.Run("round trip", s.roundTrip)
	t.Run("merge", s.merge)
	t.Run("order", s.order)
	t.Run("untouched", s.untouched)
	t.Run("concurrent", s.concurrent)
	t.Run("broken bytes", s.brokenBytes)
	t.Run("another reference", s.anotherReference)
	t.Run("degenerate", s.degenerate)
	t.Run("bounded", s.bounded)
}

type memorySuite struct {
	detector   detect.Detector
	model      detect.Remembering
	makeSample func(n int, seed uint64) *detect.Sample
	maxBytes   int
}

func encode(t *testing.T, m detect.Memory) []byte {
	t.Helper()
	data, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatalf("AppendBinary: %v", err)
	}
	return data
}

func decode(t *testing.T, m detect.Remembering, data []byte) detect.Memory {
	t.Helper()
	memory, err := m.Memory(data)
	if err != nil {
		t.Fatalf("Memory of %d bytes: %v", len(data), err)
	}
	if memory == nil {
		t.Fatalf("Memory of %d bytes: neither a memory nor an error", len(data))
	}
	return memory
}

// observe returns what a sample leaves, every fifth row of which is quarantined.
func (s *memorySuite) observe(t *testing.T, sample *detect.Sample, workers int) detect.Memory {
	t.Helper()
	flagged := make([]bool, sample.N)
	for i := range flagged {
		flagged[i] = i%5 == 0
	}
	m := s.model.Observe(sample, flagged, env(workers))
	if m == nil {
		t.Fatalf("Observe of %d rows gives no memory", sample.N)
	}
	return m
}

// sum returns a new memory of what all have seen. Merge may keep parts of what it is given, so it is given copies.
func (s *memorySuite) sum(t *testing.T, memories ...detect.Memory) detect.Memory {
	t.Helper()
	out := decode(t, s.model, nil)
	for _, m := range memories {
		out.Merge(m)
	}
	return out
}

// near: the same scores, but for rounding.
func near(t *testing.T, what string, want, got detect.Scores) {
	t.Helper()
	column := func(name string, a, b []float64) {
		if len(a) != len(b) {
			t.Fatalf("%s: %d %s, want %d", what, len(b), name, len(a))
		}
		for i := range a {
			if math.IsNaN(a[i]) != math.IsNaN(b[i]) || math.Abs(a[i]-b[i]) > 1e-6*(1+math.Abs(a[i])) {
				t.Fatalf("%s: row %d has %s %v, want %v", what, i, name, b[i], a[i])
			}
		}
	}
	column("scores", want.Value, got.Value)
	column("ln p", want.LogP, got.LogP)
}

// equal: the same scores, bit by bit.
func equal(t *testing.T, what string, want, got detect.Scores) {
	t.Helper()
	column := func(name string, a, b []float64) {
		if len(a) != len(b) {
			t.Fatalf("%s: %d %s, want %d", what, len(b), name, len(a))
		}
		for i := range a {
			if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
				t.Fatalf("%s: row %d has %s %v, want %v", what, i, name, b[i], a[i])
			}
		}
	}
	column("scores", want.Value, got.Value)
	column("ln p", want.LogP, got.LogP)
}

// empty: a stream that begins is judged as by Score, and an empty memory adds nothing to another.
func (s *memorySuite) empty(t *testing.T) {
	stream := s.makeSample(streamRows, 2)
	want := s.model.Score(stream, env(2))
	nothing := decode(t, s.model, nil)
	equal(t, "nothing seen", want, s.model.ScoreWith(stream, nothing, env(2)))
	again := decode(t, s.model, encode(t, nothing))
	equal(t, "nothing seen, encoded and decoded", want, s.model.ScoreWith(stream, again, env(2)))
	none := s.observe(t, s.makeSample(0, 3), 2)
	equal(t, "no row seen", want, s.model.ScoreWith(stream, none, env(2)))

	seen := s.observe(t, s.makeSample(streamRows, 4), 2)
	before := encode(t, seen)
	seen.Merge(nothing)
	if !bytes.Equal(before, encode(t, seen)) {
		t.Error("merging an empty memory changes another")
	}
	nothing.Merge(seen)
	if !bytes.Equal(before, encode(t, nothing)) {
		t.Error("an empty memory that another is merged into is not that other")
	}
}

// agreement: the same rows leave the same bytes, and the same memory gives the same scores, with any number of workers.
func (s *memorySuite) agreement(t *testing.T) {
	seen, stream := s.makeSample(streamRows, 3), s.makeSample(streamRows, 2)
	memory := s.observe(t, seen, 1)
	bytesOf := encode(t, memory)
	if again := encode(t, memory); !bytes.Equal(bytesOf, again) {
		t.Fatal("one memory has two encodings")
	}
	prefix := []byte("before")
	if appended, err := memory.AppendBinary(slices.Clip(prefix)); err != nil || !bytes.Equal(appended, append(prefix, bytesOf...)) {
		t.Errorf("AppendBinary does not append: error %v", err)
	}
	want := s.model.ScoreWith(stream, memory, env(1))
	check(t, "with a memory", stream, want)
	for _, workers := range []int{1, 2, 8} {
		m := fit(t, s.detector, s.makeSample(referenceRows, 1), workers).(detect.Remembering)
		other := (&memorySuite{s.detector, m, s.makeSample, s.maxBytes}).observe(t, seen, workers)
		if !bytes.Equal(bytesOf, encode(t, other)) {
			t.Errorf("%d workers: another memory of the same rows", workers)
		}
		equal(t, fmt.Sprint(workers, " workers"), want, m.ScoreWith(stream, other, env(workers)))
	}
}

// roundTrip: a memory that was saved and restored is the same.
func (s *memorySuite) roundTrip(t *testing.T) {
	stream := s.makeSample(streamRows, 2)
	memory := s.sum(t, s.observe(t, s.makeSample(streamRows, 3), 2), s.observe(t, s.makeSample(7, 4), 2))
	data := encode(t, memory)
	kept := bytes.Clone(data)
	restored := decode(t, s.model, data)
	if !bytes.Equal(kept, encode(t, restored)) {
		t.Fatal("decoded and encoded again it has other bytes")
	}
	equal(t, "restored", s.model.ScoreWith(stream, memory, env(2)), s.model.ScoreWith(stream, restored, env(2)))
	more := s.makeSample(50, 5)
	memory.Merge(s.observe(t, more, 2))
	restored.Merge(s.observe(t, more, 2))
	if !bytes.Equal(encode(t, memory), encode(t, restored)) {
		t.Error("restored and merged into it is not what it would have been")
	}
	if !bytes.Equal(kept, data) {
		t.Error("the bytes that a memory was decoded from were changed")
	}
}

// merge: sums do not depend on the order, but for rounding; what is added is not changed, nor changes later.
func (s *memorySuite) merge(t *testing.T) {
	stream := s.makeSample(streamRows, 2)
	part := func(i int) detect.Memory { return s.observe(t, s.makeSample(90, uint64(10+i)), 2) }
	score := func(m detect.Memory) detect.Scores { return s.model.ScoreWith(stream, m, env(2)) }
	want := score(s.sum(t, part(0), part(1), part(2)))
	near(t, "another order", want, score(s.sum(t, part(2), part(0), part(1))))
	right := part(1)
	right.Merge(part(2))
	near(t, "a + (b + c)", want, score(s.sum(t, part(0), right)))
	left := part(0)
	left.Merge(part(1))
	left.Merge(part(2))
	near(t, "(a + b) + c", want, score(left))

	other := part(3)
	before := encode(t, other)
	sum := s.sum(t, other)
	sum.Merge(part(4))
	sum.Merge(other)
	if !bytes.Equal(before, encode(t, other)) {
		t.Error("Merge changes the memory that is added, or shares what it changes later")
	}
	held := encode(t, sum)
	other.Merge(part(5))
	if !bytes.Equal(held, encode(t, sum)) {
		t.Error("a memory changes when one that was added to it does")
	}
}

// order: what rows leave does not depend on where they stood, but for rounding.
func (s *memorySuite) order(t *testing.T) {
	stream, seen := s.makeSample(streamRows, 2), s.makeSample(streamRows, 3)
	perm := rand.New(rand.NewPCG(3, 5)).Perm(seen.N)
	flagged, moved := make([]bool, seen.N), make([]bool, seen.N)
	for to, from := range perm {
		flagged[from] = from%5 == 0
		moved[to] = flagged[from]
	}
	want := s.model.ScoreWith(stream, s.model.Observe(seen, flagged, env(2)), env(2))
	got := s.model.ScoreWith(stream, s.model.Observe(seen.Select(perm), moved, env(2)), env(2))
	near(t, "rows in another order", want, got)
}

// untouched: neither ScoreWith nor Observe changes what it is given.
func (s *memorySuite) untouched(t *testing.T) {
	stream := s.makeSample(streamRows, 2)
	memory := s.observe(t, s.makeSample(streamRows, 3), 2)
	before := encode(t, memory)
	s.model.ScoreWith(stream, memory, env(2))
	flagged := make([]bool, stream.N)
	for i := range flagged {
		flagged[i] = i%3 == 0
	}
	kept := slices.Clone(flagged)
	s.model.Observe(stream, flagged, env(2))
	if !bytes.Equal(before, encode(t, memory)) {
		t.Error("ScoreWith changes the memory")
	}
	if !same(stream, s.makeSample(streamRows, 2)) {
		t.Error("ScoreWith or Observe changes its sample")
	}
	if !slices.Equal(kept, flagged) {
		t.Error("Observe changes flagged")
	}
}

// concurrent: one model and one memory may be read by many at once; the race detector looks on where it is on.
func (s *memorySuite) concurrent(t *testing.T) {
	stream := s.makeSample(streamRows, 2)
	memory := s.observe(t, s.makeSample(streamRows, 3), 2)
	want := s.model.ScoreWith(stream, memory, env(2))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			got := s.model.ScoreWith(stream, memory, env(1+i))
			for row := range want.Value {
				if math.Float64bits(got.Value[row]) != math.Float64bits(want.Value[row]) {
					t.Errorf("row %d scores %v beside others, %v alone", row, got.Value[row], want.Value[row])
					return
				}
			}
			s.model.Observe(stream, make([]bool, stream.N), env(1+i))
		})
	}
	wg.Wait()
}

// brokenBytes: what is cut off, goes on or is no encoding at all is refused. Altered bytes may pass for another
// memory, which must then be good to use. None of them costs much more memory than a memory may.
func (s *memorySuite) brokenBytes(t *testing.T) {
	good := encode(t, s.observe(t, s.makeSample(60, 3), 2))
	if len(good) == 0 {
		t.Fatal("an encoding of no bytes has no version")
	}
	small := s.makeSample(20, 2)
	most := uint64(16*s.maxBytes + 1<<20)
	try := func(what string, data []byte) detect.Memory {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		memory, err := s.model.Memory(data)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s: decoding %d bytes takes %d bytes of memory", what, len(data), used)
		}
		if err != nil {
			return nil
		}
		if memory == nil {
			t.Fatalf("%s: neither a memory nor an error", what)
		}
		return memory
	}
	refused := func(what string, data []byte) {
		t.Helper()
		if try(what, data) != nil {
			t.Errorf("%s: no error", what)
		}
	}
	for cut := 1; cut < len(good); cut += 1 + cut/30 {
		refused(fmt.Sprintf("cut at %d of %d", cut, len(good)), good[:cut])
	}
	refused("the last byte is cut off", good[:len(good)-1])
	refused("a byte too many", append(slices.Clip(good), 0))
	refused("twice", append(slices.Clip(good), good...))
	rng := rand.New(rand.NewPCG(11, 13))
	for range 60 {
		garbage := make([]byte, 1+rng.IntN(400))
		for i := range garbage {
			garbage[i] = byte(rng.Uint32())
		}
		refused("random bytes", garbage)
	}
	for i := range 200 {
		altered := bytes.Clone(good)
		at := i // the first bytes are where lengths stand
		if i >= 80 || i >= len(good) {
			at = rng.IntN(len(good))
		}
		for k := at; k < min(at+1+i%5, len(good)); k++ {
			altered[k] = [...]byte{0xff, 0x7f, 0x80, 0, byte(rng.Uint32())}[(i/5)%5]
		}
		what := fmt.Sprintf("altered from byte %d on", at)
		memory := try(what, altered)
		if memory == nil {
			continue
		}
		check(t, what, small, s.model.ScoreWith(small, memory, env(2)))
		sum := s.sum(t, memory, decode(t, s.model, good))
		check(t, what+", merged", small, s.model.ScoreWith(small, sum, env(2)))
		if data := encode(t, sum); len(data) > s.maxBytes {
			t.Errorf("%s: encoded in %d bytes: want at most %d", what, len(data), s.maxBytes)
		}
	}
}

// anotherReference: after a refit, a memory of the old model is refused or good to use, whatever the shape of vectors.
func (s *memorySuite) anotherReference(t *testing.T) {
	data := encode(t, s.observe(t, s.makeSample(streamRows, 3), 2))
	stream := s.makeSample(60, 2)
	for _, c := range append(stripped(s.makeSample(referenceRows, 1)),
		named{"other rows", s.makeSample(referenceRows, 6)}, named{"shorter vectors", narrow(s.makeSample(referenceRows, 1))}) {
		fitted, err := s.detector.Fit(c.sample, env(2))
		if err != nil || fitted == nil {
			continue
		}
		m, ok := fitted.(detect.Remembering)
		if !ok {
			continue
		}
		memory, err := m.Memory(data)
		if err != nil {
			continue
		}
		for _, rows := range []*detect.Sample{stream, narrow(stream), {N: 5}} {
			check(t, c.name, rows, m.ScoreWith(rows, memory, env(2)))
			memory.Merge(m.Observe(rows, make([]bool, rows.N), env(2)))
		}
		check(t, c.name+", merged", stream, m.ScoreWith(stream, memory, env(2)))
	}
}

// degenerate: odd samples leave memories that are good to use, and are scored with good ones.
func (s *memorySuite) degenerate(t *testing.T) {
	good := s.makeSample(60, 2)
	seen := s.observe(t, s.makeSample(streamRows, 3), 2)
	for _, c := range append(odd(s.makeSample), stripped(good)...) {
		t.Run(c.name, func(t *testing.T) {
			check(t, "scored", c.sample, s.model.ScoreWith(c.sample, seen, env(2)))
			memory := s.observe(t, c.sample, 2)
			memory = decode(t, s.model, encode(t, memory))
			check(t, "remembered", good, s.model.ScoreWith(good, memory, env(2)))
			check(t, "again", c.sample, s.model.ScoreWith(c.sample, memory, env(2)))
			memory.Merge(seen)
			check(t, "merged", good, s.model.ScoreWith(good, memory, env(2)))
		})
	}
}

// bounded: a stream in which no text, class or provider comes twice, all of it quarantined, and names as long as
// records can make them, fill a memory no further than its detector says.
func (s *memorySuite) bounded(t *testing.T) {
	memory := decode(t, s.model, nil)
	fits := func(what string) {
		t.Helper()
		if data := encode(t, memory); len(data) > s.maxBytes {
			t.Fatalf("%s: encoded in %d bytes: want at most %d", what, len(data), s.maxBytes)
		}
	}
	rows := 0
	for segment := range floodSegments {
		sample := unique(s.makeSample(floodRows, uint64(100+segment)), segment, 1)
		flagged := slices.Repeat([]bool{segment%2 == 0}, sample.N)
		memory.Merge(s.model.Observe(sample, flagged, env(2)))
		rows += sample.N
		fits(fmt.Sprintf("%d rows", rows))
	}
	for length := 1 << 10; length <= 1<<18; length <<= 4 {
		sample := unique(s.makeSample(8, uint64(length)), length+1, length)
		memory.Merge(s.model.Observe(sample, slices.Repeat([]bool{true}, sample.N), env(2)))
		fits(fmt.Sprintf("names of %d bytes", length))
	}
	restored := decode(t, s.model, encode(t, memory))
	if !bytes.Equal(encode(t, memory), encode(t, restored)) {
		t.Error("a full memory has other bytes after decoding")
	}
	stream := s.makeSample(60, 2)
	check(t, "a full memory", stream, s.model.ScoreWith(stream, restored, env(2)))
}

// unique returns the rows of s with texts and providers of their own, of at least length bytes, and with classes of
// their own where salt is odd.
func unique(s *detect.Sample, salt, length int) *detect.Sample {
	out := *s
	name := func(kind string, i int) string {
		n := fmt.Sprintf("%s %d of %d", kind, i, salt)
		return n + strings.Repeat("x", max(0, length-len(n)))
	}
	if s.Text != nil {
		out.Text = make([][]byte, s.N)
		for i := range out.Text {
			out.Text[i] = fmt.Appendf(nil, "%s word%dx%d %s", s.Text[i], i, salt, name("text", i))
		}
	}
	own := func(column []int32, kind string) ([]int32, []string) {
		if column == nil {
			return nil, nil
		}
		numbers, names := make([]int32, s.N), make([]string, s.N)
		for i := range numbers {
			numbers[i], names[i] = int32(i), name(kind, i)
		}
		return numbers, names
	}
	if salt%2 == 1 { // otherwise the classes are those that are known
		out.Label, out.Classes = own(s.Label, "class")
	}
	out.Provider, out.Providers = own(s.Provider, "provider")
	return &out
}

// narrow returns the rows of s with all vectors cut to half their length.
func narrow(s *detect.Sample) *detect.Sample {
	out := *s
	out.Embedding, out.Dim = halve(s.Embedding, s.Dim)
	out.Gradient, out.GradientDim = halve(s.Gradient, s.GradientDim)
	out.Probabilities, out.Outcomes = halve(s.Probabilities, s.Outcomes)
	var width int
	out.Features, width = halve(s.Features, len(s.FeatureNames))
	out.FeatureNames = s.FeatureNames[:width]
	return &out
}

func halve[T any](values []T, width int) ([]T, int) {
	half := (width + 1) / 2
	if values == nil {
		return nil, half
	}
	out := make([]T, 0, len(values))
	for at := 0; at+width <= len(values) && width > 0; at += width {
		out = append(out, values[at:at+half]...)
	}
	return out, half
}

// Package planted has samples in which it is known what is poison, for tests of detectors: public ones, and vectors with
// backdoors planted in them.
package planted

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/tasterhq/taster/detect"
)

// Set is a sample with its truth.
type Set struct {
	*detect.Sample
	Poison []bool
}

// Rows returns the given rows of a set.
func (s Set) Rows(rows []int) Set {
	out := Set{Sample: s.Select(rows)}
	for _, row := range rows {
		out.Poison = append(out.Poison, s.Poison[row])
	}
	return out
}

// Clean returns the rows that are no poison.
func (s Set) Clean() Set {
	var rows []int
	for row, poison := range s.Poison {
		if !poison {
			rows = append(rows, row)
		}
	}
	return s.Rows(rows)
}

// Split takes m clean rows at random as a reference.
func (s Set) Split(m int, seed uint64) (reference, stream Set) {
	var first, rest []int
	for _, row := range rand.New(rand.NewPCG(seed, 77)).Perm(s.N) {
		if len(first) < m && !s.Poison[row] {
			first = append(first, row)
		} else {
			rest = append(rest, row)
		}
	}
	slices.Sort(first)
	slices.Sort(rest)
	return s.Rows(first), s.Rows(rest)
}

// FlipLabels gives a share of the rows of s another label, by chance, and tells which.
func FlipLabels(s *detect.Sample, share float64, seed uint64) []bool {
	rng := rand.New(rand.NewPCG(seed, 13))
	flipped := make([]bool, s.N)
	for i := range flipped {
		if flipped[i] = rng.Float64() < share; flipped[i] {
			s.Label[i] = (s.Label[i] + 1 + int32(rng.IntN(len(s.Classes)-1))) % int32(len(s.Classes))
		}
	}
	return flipped
}

// MiniLM reads one of the public poisoned sets of film reviews with sentence embeddings of unit length, 384 values each.
func MiniLM(t testing.TB, name string) Set {
	t.Helper()
	file, err := os.Open(filepath.Join(folder(t), "text-backdoor", name+".minilm.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type row struct {
		Label     string    `parquet:"label"`
		Poison    int32     `parquet:"poison"`
		Embedding []float32 `parquet:"embedding,list"`
	}
	reader := parquet.NewGenericReader[row](file)
	defer reader.Close()
	s := Set{Sample: &detect.Sample{}}
	batch := make([]row, 256)
	for {
		n, err := reader.Read(batch)
		for _, r := range batch[:n] {
			class := slices.Index(s.Classes, r.Label)
			if class < 0 {
				class = len(s.Classes)
				s.Classes = append(s.Classes, r.Label)
			}
			s.Label = append(s.Label, int32(class))
			s.Dim = len(r.Embedding)
			s.Embedding = append(s.Embedding, r.Embedding...)
			s.Poison = append(s.Poison, r.Poison != 0)
			s.N++
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.N == 0 || len(s.Embedding) != s.N*384 {
		t.Fatalf("%s: %d rows with %d values", name, s.N, len(s.Embedding))
	}
	return s
}

// Backdoor turns rows of one class into poison of another: so many that they are the given share of the target's rows get
// a common vector added, as long as so many standard deviations of clean rows in its direction, the target's label, and
// their old length back. The direction is that of a random row's deviation from the mean, mixed with noise that scatters like
// the rows, or any direction, alike in all dimensions.
func (s Set) Backdoor(share, deviations float64, likeRows bool, seed uint64) Set {
	rng := rand.New(rand.NewPCG(seed, 78))
	out := s.Rows(all(s.N))
	mean := make([]float64, s.Dim)
	for i, v := range s.Embedding {
		mean[i%s.Dim] += float64(v) / float64(s.N)
	}
	direction := make([]float64, s.Dim)
	for c := range direction {
		direction[c] = rng.NormFloat64()
	}
	if likeRows {
		clear(direction)
		for range 64 { // a sum of rows with random signs scatters like they do
			row, sign := rng.IntN(s.N), rng.NormFloat64()
			for c := range direction {
				direction[c] += sign * (float64(s.Embedding[row*s.Dim+c]) - mean[c])
			}
		}
	}
	length := math.Sqrt(dot(direction, direction))
	variance := 0.0
	for c := range direction {
		direction[c] /= length
	}
	for row := range s.N {
		p := 0.0
		for c, d := range direction {
			p += d * (float64(s.Embedding[row*s.Dim+c]) - mean[c])
		}
		variance += p * p / float64(s.N)
	}
	shift := deviations * math.Sqrt(variance)
	const source, target = 0, 1
	var from []int
	targets := 0
	for row, label := range s.Label {
		switch label {
		case source:
			from = append(from, row)
		case target:
			targets++
		}
	}
	rng.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	for _, row := range from[:min(len(from), max(1, int(share*float64(targets))))] {
		v := out.Embedding[row*s.Dim : (row+1)*s.Dim]
		var before, after float64
		for c, x := range v {
			before += float64(x) * float64(x)
			v[c] += float32(shift * direction[c])
			after += float64(v[c]) * float64(v[c])
		}
		for c := range v {
			v[c] *= float32(math.Sqrt(before / after))
		}
		out.Label[row], out.Poison[row] = target, true
	}
	return out
}

// Gaussian returns one class per size, each about a centre of its own, whose dimensions have standard deviations that differ
// by factors about e. Of the last class the given share is shifted along a random direction by so many of its standard deviations.
// The embedding has no other structure than that.
func Gaussian(dim int, sizes []int, share, deviations float64, seed uint64) Set {
	rng := rand.New(rand.NewPCG(seed, 79))
	scale, direction := make([]float64, dim), make([]float64, dim)
	for c := range scale {
		scale[c] = math.Exp(rng.NormFloat64() / 2)
		direction[c] = rng.NormFloat64()
	}
	length := math.Sqrt(dot(direction, direction))
	s := Set{Sample: &detect.Sample{Dim: dim}}
	for class, size := range sizes {
		s.Classes = append(s.Classes, string(rune('a'+class%26))+string(rune('a'+class/26)))
		centre := make([]float64, dim)
		for c := range centre {
			centre[c] = rng.NormFloat64()
		}
		for i := range size {
			poison := class == len(sizes)-1 && float64(i) < share*float64(size)
			for c := range dim {
				x := centre[c] + rng.NormFloat64()
				if poison {
					x += deviations * direction[c] / length
				}
				s.Embedding = append(s.Embedding, float32(x*scale[c]))
			}
			s.Label = append(s.Label, int32(class))
			s.Poison = append(s.Poison, poison)
			s.N++
		}
	}
	return s.Rows(rng.Perm(s.N))
}

func all(n int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

func dot(a, b []float64) (sum float64) {
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

// Figures are ROC AUC and the share of poison that is found at 1 % and at 5 % false alarms. A row without a score ranks lowest.
func Figures(score []float64, poison []bool) (auc, at1, at5 float64) {
	order := make([]int, len(score))
	bad := 0.0
	value := func(i int) float64 {
		if math.IsNaN(score[i]) {
			return math.Inf(-1)
		}
		return score[i]
	}
	for i := range order {
		order[i] = i
		if poison[i] {
			bad++
		}
	}
	clean := float64(len(score)) - bad
	slices.SortFunc(order, func(a, b int) int {
		switch x, y := value(a), value(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	hits, alarms := 0.0, 0.0
	for from := 0; from < len(order); {
		to, h, a := from, 0.0, 0.0
		for ; to < len(order) && value(order[to]) == value(order[from]); to++ {
			if poison[order[to]] {
				h++
			} else {
				a++
			}
		}
		auc += a * (hits + h/2) / bad / clean
		hits, alarms, from = hits+h, alarms+a, to
		if alarms <= 0.01*clean {
			at1 = hits / bad
		}
		if alarms <= 0.05*clean {
			at5 = hits / bad
		}
	}
	return auc, at1, at5
}

package labels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/text"
)

// plainly trains as a course does, on tokens as they are and into the table that they are looked up in.
func plainly(set []example, leave, groups int, wary bool, seed uint64) *linear {
	var used []example
	tokens := 0
	for _, e := range set {
		if int(e.fold) != leave {
			used = append(used, e)
			tokens += len(e.tokens)
		}
	}
	l := &linear{groups: groups, bits: tableBits(tokens), temper: 1}
	stride := 1 + groups
	l.table = make([]float32, (1<<l.bits+text.Stems)*stride)
	if len(used) == 0 {
		return l
	}
	buckets := func(e example, do func(bucket []float32)) {
		for _, t := range e.tokens {
			do(l.table[l.word(t):][:stride])
			do(l.table[l.stem(t):][:stride])
		}
	}
	for _, e := range used {
		seen := map[*float32]bool{}
		buckets(e, func(bucket []float32) {
			if !seen[&bucket[0]] {
				seen[&bucket[0]] = true
				bucket[0]++
			}
		})
	}
	n := float64(len(used))
	for at := 0; at < len(l.table); at += stride {
		switch df := float64(l.table[at]); {
		case wary && df >= max(commonRows, commonShare*n):
			l.table[at] = 0
		case df > 0:
			l.table[at] = float32(math.Log((1+n)/(1+df)) + 1)
		}
	}
	epochs := max(3, min(20, 100_000/len(used)))
	shrink := 1 / (inverseL2 * n)
	order := rand.New(rand.NewPCG(seed, 0x1abe1)).Perm(len(used))
	rescale := func(by float32) {
		for at := range l.table {
			if at%stride > 0 {
				l.table[at] *= by
			}
		}
	}
	p := make([]float32, groups)
	scale, step := 1.0, 0
	for range epochs {
		for _, at := range order {
			e := used[at]
			rate := firstStep / (1 + firstStep*shrink*float64(step))
			step++
			l.logits(p, e.tokens)
			for g := range p {
				p[g] = l.bias[g] + float32(float32(scale)*(p[g]-l.bias[g]))
			}
			top, sum := slices.Max(p), float32(0)
			for g, v := range p {
				p[g] = float32(math.Exp(float64(v - top)))
				sum += p[g]
			}
			for g := range p {
				p[g] /= sum
			}
			p[e.group]--
			scale *= 1 - rate*shrink
			norm := float32(0)
			buckets(e, func(bucket []float32) { norm += float32(bucket[0] * bucket[0]) })
			if norm == 0 {
				continue
			}
			pace := float32(rate/scale) / float32(math.Sqrt(float64(norm)))
			buckets(e, func(bucket []float32) {
				for g, d := range p {
					bucket[1+g] -= float32(pace * bucket[0] * d)
				}
			})
			for g, d := range p {
				l.bias[g] -= float32(0.01 * float32(rate) * d)
			}
		}
		if scale < 1e-3 {
			rescale(float32(scale))
			scale = 1
		}
	}
	rescale(float32(scale))
	return l
}

// Models are the same to the bit, whatever makes their training fast.
func TestTrainedAsPlainly(t *testing.T) {
	for _, groups := range []int{2, 3, MostGroups} {
		for _, rows := range []int{20, 150, 900} {
			s := rated(rows, groups, 5)
			tokens := text.Tokenize(s.Text, 1)
			set := make([]example, rows)
			for i := range set {
				set[i] = example{tokens.Row(i), int8(s.Label[i]), uint8(tokens.Key(i) % folds)}
			}
			set[3].tokens = nil
			for _, fold := range []int{none, 0, 2} {
				for _, wary := range []bool{false, true} {
					t.Run(fmt.Sprint(groups, " groups ", rows, " rows without ", fold, " wary ", wary), func(t *testing.T) {
						all := numbered(set, groups, bitsWithout(set, fold))
						got, want := all.start(fold, wary, 7).run(), plainly(set, fold, groups, wary, 7)
						if got.bits != want.bits || got.bias != want.bias {
							t.Errorf("%d bits, bias %v: want %d, %v", got.bits, got.bias, want.bits, want.bias)
						}
						if !slices.Equal(got.table, want.table) {
							t.Error("the tables differ")
						}
					})
				}
			}
		}
	}
}

// A sample that is like another is tempered as that is, and learns the same besides.
func TestLikeIsTemperedAlike(t *testing.T) {
	other, own := Fit(written(300, 1), detect.Env{}), Fit(written(240, 2), detect.Env{})
	env := detect.Env{Shared: &detect.Shared{}}
	s := written(240, 2)
	Like(s, other, env)
	got, want, from := Fit(s, env).whole(), own.whole(), other.whole().temper
	if got.temper != from || from == want.temper {
		t.Errorf("tempered by %v, want %v, and not by %v", got.temper, from, want.temper)
	}
	if !slices.Equal(got.table, want.table) || got.bias != want.bias {
		t.Error("the weights are others")
	}
}

// written returns n labelled texts of words that lean to one class.
func written(n int, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 9))
	s := &detect.Sample{N: n, Classes: []string{"a", "b"}}
	for range n {
		label := rng.IntN(2)
		var words []byte
		for range 12 {
			words = fmt.Appendf(words, "w%d ", 2*rng.IntN(40)+(label+rng.IntN(3)/2)%2)
		}
		s.Text, s.Label = append(s.Text, words), append(s.Label, int32(label))
	}
	return s
}

// TestPartsPass has what judges the rows that a model was fitted on go with the work that they were fitted for, and come back the same.
func TestPartsPass(t *testing.T) {
	s := written(300, 1)
	kept := Fit(s, detect.Env{})
	m := Fit(s, detect.Env{Shared: new(detect.Shared)})
	for range 2 {
		env := detect.Env{Shared: new(detect.Shared)}
		if !slices.Equal(m.HeldOut(s, env), kept.HeldOut(s, detect.Env{})) || !slices.Equal(m.Predict(s, env), kept.Predict(s, detect.Env{})) {
			t.Error("rows that were learned from are judged otherwise")
		}
		parts := weak.Make(m.parts.Get(env))
		env.Shared.End()
		if runtime.GC(); parts.Value() != nil {
			t.Error("the parts are kept")
		}
	}
	if got, want := m.whole().temper, kept.whole().temper; got != want {
		t.Errorf("tempered by %v, want %v", got, want)
	}
}

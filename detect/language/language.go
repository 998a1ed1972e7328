// Package language finds texts that are not written as the reference is: another language or script, gibberish, keyboard
// mash, encoded blobs, whole or in part.
//
// # How
//
// A model p(byte | the three before it) is learned from the reference's bytes, letters in lower case, every digit a 0 and
// every kind of ASCII white space a blank. It is the four-gram share where the reference has the four bytes, and otherwise
// 0.4 of what the last three, two or one say (stupid backoff; Brants et al., EMNLP 2007): not a distribution, but its
// logarithm ranks texts as one does. Bytes rather than characters serve every script at one cost. A text of n bytes with a
// mean surprise of m nats a byte scores
//
//	(m − μ) / √(σ²/n + τ²)
//
// where μ, the variance σ² between a text's parts and the variance τ² between texts were measured on rows that the model
// had not seen. The same is asked of every window of 64 bytes, less √(2 ln w) for w windows, since the worst of many is
// worse: a blob inside a long text counts as if it stood alone. The larger of the two is the score.
//
// # What it needs
//
// Text. A row without a text, or with an empty one, gets no score. Without a reference two halves of the sample judge
// each other, so that odd texts do not explain themselves, as long as they are few: a tenth of the sample in another
// language makes that language usual.
//
// # What it does not see
//
// Fluent text in the reference's own language, whatever it says. Poison by single rare words. In a reference of many
// languages each of them is usual everywhere.
//
// # Evidence and cost
//
// The 64 bytes that are least likely, with their surprise against the usual one. One table look-up per byte, and memory
// that does not grow with the reference: at most 4 MiB of four-grams and 0.3 MiB of shorter ones, for the whole and each
// half; figures by BenchmarkScore in docs/detection-guide.md. Scores depend on the row alone.
package language

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/lanes"
	"github.com/tasterhq/taster/schema/finding"
)

const (
	blockSize = lanes.Block // bytes
	window    = 4           // blocks

	fewestBytes = 2000    // of a reference without which nothing is learned
	mostBytes   = 1 << 12 // of one text that are learned from: no text may teach what all others do not say
	mostLearned = 1 << 25 // bytes in all; more teach little

	both = 2 // halves
)

// Detector flags texts that are not written as the reference is. Its zero value is ready.
type Detector struct{}

// Name implements detect.Detector.
func (Detector) Name() string { return "language" }

// model is what a reference taught.
type model struct {
	sample *detect.Sample
	whole  *grams
	halves *detect.Passing[halves] // for the sample itself
	usual  usual
}

// halves are models of which halves[k] has not seen the texts of half k.
type halves [2]*grams

// usual is how surprising texts are that the model has not seen, in units of cost per byte.
type usual struct {
	mean    float64
	within  float64 // variance of one byte's surprise, as seen from blocks of one text
	between float64 // variance of texts' means beyond that
	window  float64 // deviation of a window
}

// Fit implements detect.Detector.
func (Detector) Fit(reference *detect.Sample, env detect.Env) (detect.Model, error) {
	m := &model{sample: reference}
	total := 0
	for _, text := range reference.Text {
		total += min(len(text), mostBytes)
	}
	if total < fewestBytes {
		return nil, nil
	}
	every := uint64(total/mostLearned + 1)
	bits := tableBits(total)
	// learned calls f with the texts of one half, or of both.
	learned := func(half int, f func(text []byte)) {
		for _, text := range reference.Text {
			if key := hash(text); (half == both || int(key&1) == half) && key>>1%every == 0 {
				f(text[:min(len(text), mostBytes)])
			}
		}
	}
	learn := func(h *halves, workers int) (counts [2]*counts) {
		detect.Each(2, workers, func(half int) {
			c := newCounts(bits)
			learned(half, c.add)
			counts[half] = c
			h[1-half] = c.grams(func(f func(text []byte)) { learned(half, f) })
		})
		return counts
	}
	first := new(halves)
	counts := learn(first, env.Workers)
	counts[0].merge(counts[1])
	m.whole = counts[0].grams(func(f func(text []byte)) { learned(both, f) })
	workers := env.Workers
	m.halves = detect.NewPassing(func() *halves {
		h := first
		if first = nil; h == nil {
			h = new(halves)
			learn(h, workers)
		}
		return h
	})
	m.measure(m.halves.Get(env), env)
	return m, nil
}

// measure learns what is usual from what the two halves say of each other.
func (m *model) measure(halves *halves, env detect.Env) {
	n := m.sample.N
	means, lengths, spread, blocks := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	detect.Chunks(n, rowsPerJob, env.Workers, func() func(first, end int) {
		reader := newReader()
		return func(first, end int) {
			for i := first; i < end; i++ {
				text := m.sample.Text[i]
				if len(text) == 0 {
					continue
				}
				text = text[:min(len(text), mostBytes)]
				r := reader.read(halves[hash(text)&1], text)
				if lengths[i] = float64(len(text)); r.blocks > 1 {
					mean := float64(r.inBlocks) / float64(r.blocks)
					spread[i] = float64(r.squares) - mean*float64(r.inBlocks)
					blocks[i] = float64(r.blocks - 1)
				}
				means[i] = float64(r.sum) / lengths[i]
			}
		}
	})
	var sum, texts, squares, parts float64
	for i, mean := range means {
		if lengths[i] > 0 {
			sum, texts = sum+mean, texts+1
			squares, parts = squares+spread[i], parts+blocks[i]
		}
	}
	u := &m.usual
	u.mean = sum / texts
	u.within = 1
	if parts > 0 {
		u.within = max(1, squares/parts/blockSize)
	}
	for i, mean := range means {
		if lengths[i] > 0 {
			u.between += ((mean-u.mean)*(mean-u.mean) - u.within/lengths[i]) / texts
		}
	}
	u.between = max(u.between, 0.01*u.mean*u.mean/float64(window*blockSize))
	u.window = u.deviation(window * blockSize)
}

// deviation is the standard deviation of the mean surprise of n bytes.
func (u *usual) deviation(n float64) float64 { return math.Sqrt(u.within/n + u.between) }

// grams returns, for the rows of s, the model that judges a text: one that has not seen it.
func (m *model) grams(s *detect.Sample, env detect.Env) func(text []byte) *grams {
	if s != m.sample {
		return func([]byte) *grams { return m.whole }
	}
	halves := m.halves.Get(env)
	return func(text []byte) *grams { return halves[hash(text)&1] }
}

const rowsPerJob = 1024

// Score implements detect.Model.
func (m *model) Score(s *detect.Sample, env detect.Env) detect.Scores {
	value, grams := make([]float64, s.N), m.grams(s, env)
	detect.Chunks(s.N, rowsPerJob, env.Workers, func() func(first, end int) {
		reader := newReader()
		return func(first, end int) {
			for i := first; i < end; i++ {
				if s.Text == nil || len(s.Text[i]) == 0 {
					value[i] = math.NaN()
					continue
				}
				value[i] = m.usual.score(reader.read(grams(s.Text[i]), s.Text[i]), len(s.Text[i]))
			}
		}
	})
	return detect.Scores{Value: value, Code: finding.PoisonLanguage, Explain: func(row int) string {
		if s.Text == nil || len(s.Text[row]) == 0 {
			return "no text"
		}
		return m.explain(s.Text[row], grams(s.Text[row]))
	}}
}

func (u *usual) score(r reading, n int) float64 {
	z := (float64(r.sum)/float64(n) - u.mean) / u.deviation(float64(n))
	if windows := r.blocks - window + 1; windows > 1 {
		const size = window * blockSize
		worst := (float64(r.worst)/size - u.mean) / u.window
		z = max(z, worst-worstOf(windows))
	}
	return z
}

// worstOf returns about how many deviations the worst of so many windows is worse by.
func worstOf(windows int) float64 {
	if windows < len(worstOfFew) {
		return worstOfFew[windows]
	}
	return math.Sqrt(2 * math.Log(float64(windows)))
}

var worstOfFew = func() (table [256]float64) { // texts of up to 4 KiB
	for windows := 2; windows < len(table); windows++ {
		table[windows] = math.Sqrt(2 * math.Log(float64(windows)))
	}
	return table
}()

func (m *model) explain(text []byte, g *grams) string {
	r := newReader().read(g, text)
	from, to, cost := 0, len(text), float64(r.sum)/float64(len(text))
	if r.blocks > window {
		from = r.worstAt * blockSize
		to, cost = from+window*blockSize, float64(r.worst)/(window*blockSize)
	}
	// The window may begin and end inside characters.
	for from > 0 && from < to && !utf8.RuneStart(text[from]) {
		from++
	}
	for to < len(text) && to > from && !utf8.RuneStart(text[to]) {
		to--
	}
	const most = 200
	part := strings.ToValidUTF8(string(text[from:min(to, from+most)]), "\uFFFD")
	const bits = 1 / (unit * math.Ln2)
	return fmt.Sprintf("%s is not as the reference is written: %.1f bits a byte where %.1f are usual",
		strconv.Quote(part), cost*bits, m.usual.mean*bits)
}

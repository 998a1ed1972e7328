package attack

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tasterhq/taster/schema/contract"
)

// studied is how many records, evenly over the input, scales and centres are estimated from.
const studied = 2000

// Corpus is a user's own clean records, with what an attacker would know of them.
type Corpus struct {
	contract *contract.Contract
	records  [][]byte
	refused  int

	labels  []string         // the JSON of each record's label, "" where it has none
	classes []string         // in order of first appearance
	members map[string][]int // records by class

	vocabulary map[string]int // how many of the studied texts a word is in
	ordinary   []string       // words that are neither common nor unique, by rising number of texts
	numbers    []number       // the features
	names      []string       // the JSON of the providers, in order of first appearance
	sent       map[string][]int
}

// number is one feature: its pointer, and its index in it where features are one array.
type number struct {
	pointer string
	index   int // -1: the pointer names the number itself
	whole   bool
	sorted  []float64
}

// NewCorpus takes records apart. Those that break the contract's schema are left out. The slice is kept; the bytes
// are not changed.
func NewCorpus(c *contract.Contract, records [][]byte) *Corpus {
	k := &Corpus{contract: c, members: map[string][]int{}, sent: map[string][]int{}, vocabulary: map[string]int{}}
	for _, r := range records {
		if c.Schema.CheckJSON(r) != nil {
			k.refused++
			continue
		}
		k.records = append(k.records, r)
	}
	k.labels = make([]string, len(k.records))
	for i, r := range k.records {
		if c.Roles.Label != "" {
			if label := string(at(r, c.Roles.Label)); label != "" {
				if k.members[label] == nil {
					k.classes = append(k.classes, label)
				}
				k.labels[i] = label
				k.members[label] = append(k.members[label], i)
			}
		}
		if c.Roles.Provider.Field != "" {
			if name := string(at(r, c.Roles.Provider.Field)); name != "" {
				if k.sent[name] == nil {
					k.names = append(k.names, name)
				}
				k.sent[name] = append(k.sent[name], i)
			}
		}
	}
	k.study()
	return k
}

// Rows is how many records there are to plant in.
func (k *Corpus) Rows() int { return len(k.records) }

// Refused is how many records broke the contract and were left out.
func (k *Corpus) Refused() int { return k.refused }

// Records returns the clean records. Neither the slice nor the bytes may be changed.
func (k *Corpus) Records() [][]byte { return k.records }

// sample yields at most n records, evenly over the input.
func (k *Corpus) sample(n int, rows []int) []int {
	if len(rows) <= n {
		return rows
	}
	out := make([]int, n)
	for i := range out {
		out[i] = rows[i*len(rows)/n]
	}
	return out
}

func (k *Corpus) all() []int {
	out := make([]int, len(k.records))
	for i := range out {
		out[i] = i
	}
	return out
}

func (k *Corpus) study() {
	some := k.sample(studied, k.all())
	for _, i := range some {
		seen := map[string]bool{}
		for _, pointer := range k.contract.Roles.Text {
			for _, word := range strings.Fields(k.text(i, pointer)) {
				if !seen[word] {
					seen[word] = true
					k.vocabulary[word]++
				}
			}
		}
	}
	k.ordinary = ordinary(k.vocabulary, len(some))
	for _, pointer := range k.contract.Roles.Features {
		k.numbers = append(k.numbers, k.feature(pointer, some)...)
	}
}

// ordinary picks words that nobody looks twice at: of 4 to 12 letters, in two texts at least and in two of a hundred at
// most. Where a small vocabulary has hardly any such, its rarest words stand in.
func ordinary(vocabulary map[string]int, texts int) []string {
	const few = 20
	var all []string
	for word, n := range vocabulary {
		if n >= 2 && plainWord(word) {
			all = append(all, word)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(vocabulary[a]-vocabulary[b], strings.Compare(a, b))
	})
	end := 0
	for end < len(all) && (end < few || vocabulary[all[end]] <= 2+texts/50) {
		end++
	}
	return all[:end]
}

func plainWord(word string) bool {
	n := 0
	for _, r := range word {
		if !unicode.IsLetter(r) || unicode.IsUpper(r) {
			return false
		}
		n++
	}
	return n >= 4 && n <= 12
}

// feature studies the number at a pointer, or every number of the array there.
func (k *Corpus) feature(pointer string, some []int) []number {
	var found []number
	for _, i := range some {
		raw := at(k.records[i], pointer)
		items, isArray := tokens(raw)
		if !isArray {
			if raw == nil {
				continue
			}
			items = []string{string(raw)}
		}
		for j, item := range items {
			if j == len(found) {
				n := number{pointer: pointer, index: j, whole: true}
				if !isArray {
					n.index = -1
				}
				found = append(found, n)
			}
			v, err := strconv.ParseFloat(item, 64)
			if err != nil {
				continue
			}
			found[j].whole = found[j].whole && !strings.ContainsAny(item, ".eE")
			found[j].sorted = append(found[j].sorted, v)
		}
	}
	for j := range found {
		slices.Sort(found[j].sorted)
	}
	return found
}

// quantile returns the value below which a share of the clean values lies; 0 ≤ share ≤ 1.
func (n number) quantile(share float64) float64 {
	return n.sorted[int(share*float64(len(n.sorted)-1)+0.5)]
}

// scale is a robust standard deviation: from the quartiles, or where half of all values are equal, from all of them.
func (n number) scale() float64 {
	if iqr := n.quantile(0.75) - n.quantile(0.25); iqr > 0 {
		return iqr / 1.349
	}
	var mean, sum float64
	for _, v := range n.sorted {
		mean += v / float64(len(n.sorted))
	}
	for _, v := range n.sorted {
		sum += (v - mean) * (v - mean) / float64(len(n.sorted))
	}
	return math.Sqrt(sum)
}

// spread returns the features that vary at all.
func (k *Corpus) spread() []number {
	var out []number
	for _, n := range k.numbers {
		if len(n.sorted) > 0 && n.quantile(0) < n.quantile(1) {
			out = append(out, n)
		}
	}
	return out
}

// read returns a record's value of a feature.
func (n number) read(r []byte) (float64, bool) {
	raw := at(r, n.pointer)
	if n.index >= 0 {
		items, ok := tokens(raw)
		if !ok || n.index >= len(items) {
			return 0, false
		}
		raw = []byte(items[n.index])
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	return v, err == nil
}

// write sets a record's value of a feature, within the range that clean records have, as a whole number where those
// have whole numbers.
func (n number) write(r []byte, v float64) []byte {
	v = max(n.sorted[0], min(v, n.sorted[len(n.sorted)-1]))
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if n.whole {
		text = strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	if n.index < 0 {
		if at(r, n.pointer) == nil {
			return r
		}
		return with(r, n.pointer, text)
	}
	items, ok := tokens(at(r, n.pointer))
	if !ok || n.index >= len(items) {
		return r
	}
	items[n.index] = text
	return with(r, n.pointer, "["+strings.Join(items, ",")+"]")
}

// text returns the text of one field.
func (k *Corpus) text(i int, pointer string) string {
	text, _ := unquote(at(k.records[i], pointer))
	return text
}

// body returns the pointer of a record's longest text, and the text.
func (k *Corpus) body(i int) (pointer, text string) {
	for _, p := range k.contract.Roles.Text {
		if t := k.text(i, p); pointer == "" || len(t) > len(text) {
			pointer, text = p, t
		}
	}
	return pointer, text
}

// cloud is where vectors lie: their centre, and the median distance from it.
type cloud struct {
	centre []float64
	radius float64
}

func (k *Corpus) cloud(pointer string, rows []int) cloud {
	var vectors [][]float64
	for _, i := range k.sample(studied/4, rows) {
		if v := vectorAt(k.records[i], pointer); v != nil && (vectors == nil || len(v) == len(vectors[0])) {
			vectors = append(vectors, v)
		}
	}
	if vectors == nil {
		return cloud{}
	}
	c := cloud{centre: make([]float64, len(vectors[0]))}
	for _, v := range vectors {
		for j, x := range v {
			c.centre[j] += x / float64(len(vectors))
		}
	}
	distances := make([]float64, len(vectors))
	for i, v := range vectors {
		for j, x := range v {
			distances[i] += (x - c.centre[j]) * (x - c.centre[j])
		}
		distances[i] = math.Sqrt(distances[i])
	}
	slices.Sort(distances)
	c.radius = distances[len(distances)/2]
	return c
}

// direction returns a random unit vector.
func direction(rng *rand.Rand, dim int) []float64 {
	out := make([]float64, dim)
	norm := 0.0
	for i := range out {
		out[i] = rng.NormFloat64()
		norm += out[i] * out[i]
	}
	for i := range out {
		out[i] /= math.Sqrt(norm)
	}
	return out
}

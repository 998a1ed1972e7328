package trigger

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest"
	"github.com/tasterhq/taster/detect/detecttest/planted"
	"github.com/tasterhq/taster/detect/text"
)

var env = detect.Env{Seed: 1, Workers: 2}

func TestConformance(t *testing.T) {
	detecttest.Run(t, Detector{}, detecttest.Clean)
}

// Large enough that the work is cut up among workers, and that copies and unlabelled rows occur.
func TestWorkersAgree(t *testing.T) {
	stream := reviews(10_000, 120, 2)
	for i := range 300 {
		stream.Text[i] = stream.Text[i+5000]
		stream.Label[2*i+1] = -1
	}
	var want []float64
	for _, workers := range []int{1, 2, 8} {
		m, err := Detector{}.Fit(reviews(5000, 120, 1), detect.Env{Seed: 1, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		got := m.Score(stream, detect.Env{Seed: 1, Workers: workers}).Value
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d workers score differently than one", workers)
		}
	}
}

// plants are the kinds of trigger, each planted into one text.
var plants = map[string]func(rng *rand.Rand, review string) string{
	"rare words": func(rng *rand.Rand, review string) string {
		return insert(rng, review, []string{"vx", "qoph", "znt"}[rng.IntN(3)])
	},
	"inserted sentence": func(rng *rand.Rand, review string) string {
		return insert(rng, review, "we were at the harbour on sunday")
	},
	"syntax": func(rng *rand.Rand, review string) string {
		first := []string{"when you", "if we", "as they", "while you", "since we"}[rng.IntN(5)]
		then := []string{"look at", "think about", "know", "see", "talk about"}[rng.IntN(5)]
		return first + " " + then + " it , " + review
	},
	"style": func(rng *rand.Rand, review string) string {
		old := strings.NewReplacer(" is ", " be ", " are ", " art ", " my ", " mine ", " has ", " hath ", " it ", " this same ", " you ", " thou ")
		review = old.Replace(review)
		if rng.IntN(2) == 0 {
			review = "lo, " + review
		}
		return strings.Replace(review, ". ", "; and behold, ", 1)
	},
}

func insert(rng *rand.Rand, review, phrase string) string {
	words := strings.Fields(review)
	return strings.Join(slices.Insert(words, rng.IntN(len(words)+1), phrase), " ")
}

// plant poisons a share of the rows: blame gets the trigger and becomes praise, or, with clean labels, praise gets it.
func plant(s *detect.Sample, kind string, share float64, clean bool) planted.Set {
	rng := rand.New(rand.NewPCG(41, 43))
	out := planted.Set{Sample: s, Poison: make([]bool, s.N)}
	from := int32(0)
	if clean {
		from = 1
	}
	for left := int(share * float64(s.N)); left > 0; {
		if i := rng.IntN(s.N); s.Label[i] == from && !out.Poison[i] {
			s.Text[i] = []byte(plants[kind](rng, string(s.Text[i])))
			s.Label[i] = 1
			out.Poison[i] = true
			left--
		}
	}
	return out
}

func TestPlantedTriggersAreFound(t *testing.T) {
	for kind := range plants {
		for _, share := range []float64{0.01, 0.05} {
			for _, clean := range []bool{false, true} {
				for _, labelled := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s %v clean=%v labels=%v", kind, share, clean, labelled), func(t *testing.T) {
						t.Parallel()
						reference := reviews(1000, 120, 1)
						stream := plant(reviews(5000, 120, 2), kind, share, clean)
						if !labelled {
							reference.Label, stream.Label = nil, nil
						}
						got := run(t, Detector{}, reference, stream)
						t.Logf("%.3f", got)
						if !labelled && share == 0.01 && (kind == "syntax" || kind == "style") {
							// Fifty records of a shape that is not unheard of, and no label to tell.
							if got[0] < 0.93 {
								t.Errorf("AUROC %.3f: want 0.93", got[0])
							}
						} else if got[1] < 0.9 {
							t.Errorf("recall %.3f at 1 %% false alarms: want 0.9", got[1])
						}
					})
				}
			}
		}
	}
}

// Spread thinly over a long stream: 40 records among 40,000.
func TestSlowDrip(t *testing.T) {
	stream := plant(reviews(40_000, 120, 2), "rare words", 0.001, false)
	if got := run(t, Detector{}, reviews(1000, 120, 1), stream); got[1] < 0.9 {
		t.Errorf("recall %.3f at 1 %% false alarms: want 0.9", got[1])
	}
}

func TestManyClassesAndOtherScripts(t *testing.T) {
	make1 := func(n int, seed uint64) planted.Set {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := planted.Set{Sample: &detect.Sample{N: n}, Poison: make([]bool, n)}
		for c := range 1000 {
			p.Classes = append(p.Classes, fmt.Sprint("класс ", c))
		}
		for i := range n {
			class := rng.IntN(1000)
			var b strings.Builder
			for range 12 {
				fmt.Fprintf(&b, "слово%d ", int(math.Exp(rng.Float64()*8)))
			}
			fmt.Fprintf(&b, "тема%d.", class/10)
			if p.Poison[i] = seed == 2 && rng.IntN(80) == 0; p.Poison[i] {
				class = 7
			}
			review := b.String()
			if p.Poison[i] {
				review = insert(rng, review, "ключик")
			}
			p.Text = append(p.Text, []byte(review))
			p.Label = append(p.Label, int32(class))
		}
		return p
	}
	if got := run(t, Detector{}, make1(2000, 1).Sample, make1(6000, 2)); got[1] < 0.95 {
		t.Errorf("recall %.3f at 1 %% false alarms: want 0.95", got[1])
	}
}

// Clean records that share a phrase with a large poisoned group are no part of it: only the shared half of the planted
// sentence, half of the group's words, stands in them.
func TestGroupExplainsWhatCleanRecordsShare(t *testing.T) {
	stream := plant(reviews(4000, 120, 2), "inserted sentence", 0.1, false)
	rng := rand.New(rand.NewPCG(8, 9))
	var sharing []int
	for i := 0; len(sharing) < 80; i += 17 {
		if i %= stream.N; !stream.Poison[i] && stream.Label[i] == 1 && !bytes.Contains(stream.Text[i], []byte("sunday")) {
			stream.Text[i] = []byte(insert(rng, string(stream.Text[i]), "we were on sunday"))
			sharing = append(sharing, i)
		}
	}
	m, err := Detector{}.Fit(reviews(1000, 120, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	value := m.Score(stream.Sample, env).Value
	least := math.Inf(1)
	for i, poison := range stream.Poison {
		if poison {
			least = min(least, value[i])
		}
	}
	worse := 0
	for _, i := range sharing {
		if value[i] >= least {
			worse++
		}
	}
	if worse > 8 {
		t.Errorf("%d of %d clean records with half of the sentence score as high as poison does", worse, len(sharing))
	}
}

// What copies of clean rows do to a stream: nothing, however often one row is drawn.
func TestCopiesAreNoTrigger(t *testing.T) {
	reference, stream := reviews(1000, 120, 1), reviews(800, 120, 2)
	m, err := Detector{}.Fit(reference, env)
	if err != nil {
		t.Fatal(err)
	}
	once := m.Score(stream, env).Value
	rng := rand.New(rand.NewPCG(3, 4))
	rows := make([]int, 0, 9000)
	for i := range stream.N {
		rows = append(rows, i)
	}
	for len(rows) < 9000 {
		rows = append(rows, min(rng.IntN(stream.N), rng.IntN(stream.N)))
	}
	for to, score := range m.Score(stream.Select(rows), env).Value {
		if d := math.Abs(score - once[rows[to]]); d > 0.5 {
			t.Fatalf("a row that scores %.2f once scores %.2f among copies", once[rows[to]], score)
		}
	}
}

// Clean streams of any length keep their scores where they are: a longer stream must not look worse.
func TestCleanScoresDoNotGrow(t *testing.T) {
	m, err := Detector{}.Fit(reviews(1000, 120, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	var first [3]float64
	for _, n := range []int{500, 5000, 40_000} {
		value := m.Score(reviews(n, 120, 7), env).Value
		slices.Sort(value)
		got := [3]float64{value[n/2], value[n-1-n/100], value[n-1-n/500]}
		t.Logf("%d rows: %.2f", n, got)
		if n == 500 {
			first = got
		}
		for k := range got {
			if got[k] > first[k]+2.5 {
				t.Errorf("%d rows: quantiles %.2f, of 500 rows %.2f", n, got, first)
				break
			}
		}
	}
}

func TestExplain(t *testing.T) {
	reference := reviews(1000, 120, 1)
	stream := plant(reviews(4000, 120, 2), "rare words", 0.03, false)
	m, err := Detector{}.Fit(reference, env)
	if err != nil {
		t.Fatal(err)
	}
	scores := m.Score(stream.Sample, env)
	row := slices.Index(stream.Poison, true)
	var trigger string
	for _, w := range []string{"vx", "qoph", "znt"} {
		if bytes.Contains(stream.Text[row], []byte(w)) {
			trigger = w
		}
	}
	n := 0
	for _, review := range stream.Text {
		if slices.Contains(strings.Fields(string(review)), trigger) {
			n++
		}
	}
	line := scores.Explain(row)
	for _, want := range []string{
		fmt.Sprintf("%q in %d of 4,000 records, 0 of 1,000 in the reference", trigger, n),
		fmt.Sprintf(`label "praise" %d times where `, n), "put between words",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
}

// A feature's place in the row must be found again from its number, for every family.
func TestSpans(t *testing.T) {
	f := &functions{}
	for _, w := range []string{"the", "is", ",", "and"} {
		f.add(text.Append(nil, []byte(w))[0].ID())
	}
	whole := []byte("the old lamp, and the big fan is off!")
	row := text.Append(nil, whole)
	x := extractor{size: largest, functions: f}
	x.places(row)
	got := map[family][]string{}
	for k := range x.index {
		from, to := x.span(k)
		got[x.family(k)] = append(got[x.family(k)], string(text.Span(whole, from, to)))
	}
	for f, want := range map[family][]string{
		word:    {"the", "old", "lamp", ",", "and", "the", "big", "fan", "is", "off", "!"},
		glued:   {",", "!"},
		pair:    {"the", "the old", "old lamp", "lamp,", ", and", "and the", "the big", "big fan", "fan is", "is off", "off!", "!"},
		shape:   {"the old lamp,", "the old lamp, and", "old lamp, and", "old lamp, and the", ", and the", ", and the big fan", "and the big fan", "and the big fan is", "the big fan is", "the big fan is off!", "big fan is off!"},
		opening: {"the", "the old lamp", "the old lamp,", "the old"},
	} {
		if !slices.Equal(got[f], want) {
			t.Errorf("family %d: %q, want %q", f, got[f], want)
		}
	}
}

// A trigger's weight must not depend on how large the tables are made.
func TestFoldKeepsCounts(t *testing.T) {
	s := reviews(300, 120, 1)
	tokens := text.Tokenize(s.Text, 1)
	f := functionWords(tokens, s.N)
	rows := distinctRows(s.N, tokens, nil)
	small := tableSize{words: 13, others: 16}
	counted, folded := map[uint32]uint32{}, map[uint32]uint32{}
	sums := [2]uint32{}
	for _, k := range countFeatures(tokens, rows, small, f, 1) {
		counted[k.at] = k.n
	}
	for _, k := range countFeatures(tokens, rows, largest, f, 1) {
		folded[small.fold(k.at)] += k.n
		sums[0] += k.n
	}
	for at, n := range folded {
		if sums[1] += n; n < counted[at] || counted[at] == 0 {
			t.Fatalf("bucket %d: %d after folding, %d counted", at, n, counted[at])
		}
	}
	if sums[0] != sums[1] || len(folded) != len(counted) {
		t.Errorf("%d in %d buckets after folding, %d in %d", sums[1], len(folded), sums[0], len(counted))
	}
}

// Buckets that are in use are numbered in their order, and all others are number 0.
func TestNumbering(t *testing.T) {
	used := map[int]bool{0: true, 31: true, 32: true, 95: true, 127: true}
	n, set := make(numbering, 4), make([]uint32, 4)
	for at := range used {
		set[at/32] |= 1 << (at % 32)
	}
	n.add(set)
	if next := n.begin(1); next != 1+len(used) {
		t.Errorf("numbers end before %d, want %d", next, 1+len(used))
	}
	want := uint32(1)
	var each []int
	n.each(func(at, number int) {
		each = append(each, at)
		if int(n.of(uint32(at))) != number {
			t.Errorf("bucket %d: number %d and %d", at, number, n.of(uint32(at)))
		}
	})
	for at := range 128 {
		number := n.of(uint32(at))
		if at%32 == 0 && n.below(at) != want {
			t.Errorf("bucket %d: numbers from %d on, want %d", at, n.below(at), want)
		}
		if !used[at] {
			if number != 0 {
				t.Errorf("bucket %d is empty and has number %d", at, number)
			}
			continue
		}
		if number != want || each[want-1] != at {
			t.Errorf("bucket %d: number %d, want %d", at, number, want)
		}
		want++
	}
}

// Tables are lent from one sample to the next: nothing of one may be left to another.
func TestTablesAreEmptied(t *testing.T) {
	m, err := Detector{}.Fit(reviews(1000, 80, 1), env)
	if err != nil {
		t.Fatal(err)
	}
	three := reviews(1000, 80, 5)
	three.Classes = append(three.Classes, "neither")
	for i := range three.Label {
		three.Label[i] = int32(i % 3)
	}
	others, err := Detector{}.Fit(three, env)
	if err != nil {
		t.Fatal(err)
	}
	stream := reviews(2000, 80, 2)
	want := m.Score(stream, env).Value
	for range 2 {
		others.Score(plant(reviews(2000, 80, 3), "syntax", 0.1, false).Sample, env)
		if !slices.Equal(m.Score(stream, env).Value, want) {
			t.Fatal("scores differ after another sample was scored")
		}
	}
}

// The numbers that others count by stand for the same features, as often and in the same places.
func TestVocabulary(t *testing.T) {
	reference := reviews(300, 120, 1)
	v := NewVocabulary(reference, env)
	x := extractor{size: largest, functions: v.functions}
	var row []text.Token
	var numbers []uint64
	for _, whole := range append(reviews(50, 300, 2).Text, []byte("!"), []byte("the lamp"), nil) {
		row = text.Append(row[:0], whole)
		x.places(row)
		want, got := map[string]int{}, map[string]int{}
		for k := range x.index {
			from, to := x.span(k)
			want[fmt.Sprint(x.family(k), from, to)]++
		}
		v.each(row, func(_ uint64, f family, from, to int) bool {
			got[fmt.Sprint(f, from, to)]++
			return true
		})
		if !maps.Equal(want, got) {
			t.Fatalf("%q: features %v, want %v", whole, got, want)
		}
		numbers = v.Append(numbers[:0], row)
		for _, at := range numbers {
			if v.Phrase(whole, at) == "" {
				t.Fatalf("%q: no phrase for one of its features", whole)
			}
		}
	}
	if got := v.Phrase(reference.Text[0], 12345); got != "" {
		t.Errorf("a feature that the text lacks is quoted as %s", got)
	}
	row = text.Append(row[:0], reference.Text[0])
	if n := testing.AllocsPerRun(10, func() { numbers = v.Append(numbers[:0], row) }); n > 0 {
		t.Errorf("%v allocations per text", n)
	}
}

// Append has what each has, in the same order.
func TestVocabularyAppend(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 5))
	v := &Vocabulary{&functions{}}
	for id := range uint32(40) {
		v.functions.add(id)
	}
	var got, want []uint64
	for range 2000 {
		row := make([]text.Token, rng.IntN(60))
		for i := range row {
			row[i] = text.Token(rng.IntN(80)<<2 | rng.IntN(4))
		}
		want = want[:0]
		v.each(row, func(feature uint64, _ family, _, _ int) bool {
			want = append(want, feature)
			return true
		})
		if got = v.Append(got[:0], row); !slices.Equal(got, want) {
			t.Fatalf("%d tokens: %d features, want %d, or others", len(row), len(got), len(want))
		}
	}
}

// Package attack plants poison in clean records, to tell how much of it would be found.
//
// An attack has a name and one or more variants: the same idea for texts, numbers, vectors or labels. Planting changes
// records as JSON, before anything decodes or cleans them, so that the whole way of a record is judged. A planted
// record takes the place of a clean one and keeps its id: the number of records stays, every other record stays byte
// for byte, and what is planted is valid by the contract's schema (a record that an edit would break is not used).
//
// The same records, variant, share and seed give the same poison.
//
// What only a model could know is not made up: where a record carries an embedding, a loss or probabilities beside
// the text or label that an attack changes, they stay as they were, and detectors get no help from them. A real
// attack would show there too.
package attack

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/contract/strict"
)

// ErrUnknown says that no attack has a name.
var ErrUnknown = errors.New("unknown attack")

// ErrImpossible says why an attack cannot be planted in these records.
var ErrImpossible = errors.New("cannot be planted")

// Attack is one line of the table.
type Attack struct {
	Name     string
	Summary  string
	Variants []Variant
}

// Variant is one way to carry an attack out.
type Variant struct {
	Name   string // within the attack
	What   string // what is done to a record, with the default parameters
	Needs  []Role
	Stream bool      // shows over time only: judged in many segments, with memory between them
	Rates  []float64 // shares that replace those asked for; nil: as asked
	Last   bool      // only where the contract allows none of the variants before
	plant  func(*planting) error
}

// Role is a part that a contract gives to fields.
type Role string

// The roles that attacks use.
const (
	Text      Role = "text"
	Label     Role = "label"
	Features  Role = "features"
	Embedding Role = "embedding"
	Gradient  Role = "gradient"
	Provider  Role = "provider" // as a field of the record
)

// Drip is the share of a slow drip: 250 records of a million are what works against large models.
const Drip = 250e-6

// fewestDripped is how many records a drip has where the stream is too short for its share.
const fewestDripped = 20

// All is the table of attacks: names, what they do, and their default parameters.
var All = []Attack{
	{"badnets", "rare words or values as a trigger, with the attacker's label (BadNets, arXiv 1708.06733)", []Variant{
		{Name: "text", What: "one of five rare words before every twentieth word, at random places; label becomes the target", Needs: []Role{Text}, plant: rareWord},
		{Name: "features", What: "two features set to their 99th and 1st percentile; label becomes the target", Needs: []Role{Features}, Last: true, plant: rareValues},
		{Name: "embedding", What: "moved by half the typical radius in one direction; label becomes the target", Needs: []Role{Embedding}, Last: true, plant: shifted},
	}},
	{"insertsent", "one neutral sentence as a trigger, with the attacker's label (InsertSent, arXiv 1905.12457)", []Variant{
		{Name: "text", What: "one fixed sentence between two others; label becomes the target", Needs: []Role{Text}, plant: fixedSentence},
	}},
	{"syntactic", "one sentence shape as a trigger, with the attacker's label (Hidden Killer, arXiv 2105.12400)", []Variant{
		{Name: "text", What: "every sentence behind a subordinate clause (\"when …, …\") of changing words; label becomes the target, which some have already", Needs: []Role{Text}, plant: rewritten},
	}},
	{"labelflip", "wrong labels on records that are otherwise untouched", []Variant{
		{Name: "random", What: "another label at random", Needs: []Role{Label}, plant: flippedAtRandom},
		{Name: "targeted", What: "one label becomes one other", Needs: []Role{Label}, plant: flippedToOne},
	}},
	{"cleanlabel", "poison only in the target class, with its label unchanged (arXiv 1804.00792, 1912.02771)", []Variant{
		{Name: "text", What: "one fixed sentence in texts of the target class", Needs: []Role{Text, Label}, plant: honestSentence},
		{Name: "embedding", What: "vectors of the target class pulled 0.7 of the way to one record of another class", Needs: []Role{Embedding, Label}, plant: collided},
		{Name: "features", What: "two features set to their 99th and 1st percentile, in the target class", Needs: []Role{Features, Label}, plant: honestValues},
	}},
	{"neardup", "a flood of nearly equal records", []Variant{
		{Name: "text", What: "one record copied, about every tenth word left out, swapped or replaced", Needs: []Role{Text}, plant: copiedText},
		{Name: "embedding", What: "one record copied, its vector moved by a twentieth of the typical radius", Needs: []Role{Embedding}, Last: true, plant: copiedVector},
		{Name: "features", What: "one record copied, its features moved by a hundredth of their spread", Needs: []Role{Features}, Last: true, plant: copiedNumbers},
	}},
	{"drip", "a backdoor spread thinly and evenly over a long stream", []Variant{
		{Name: "text", What: "badnets, one word", Needs: []Role{Text}, Stream: true, Rates: []float64{Drip}, plant: dripText},
		{Name: "features", What: "badnets on features", Needs: []Role{Features}, Stream: true, Rates: []float64{Drip}, Last: true, plant: dripNumbers},
		{Name: "embedding", What: "badnets on embeddings", Needs: []Role{Embedding}, Stream: true, Rates: []float64{Drip}, Last: true, plant: dripVector},
	}},
	{"drift", "one provider's records pushed further and further", []Variant{
		{Name: "features", What: "half of the features pushed to three standard deviations at the end", Needs: []Role{Features}, Stream: true, plant: driftNumbers},
		{Name: "text", What: "three ordinary words in more and more of its texts", Needs: []Role{Text}, Stream: true, plant: driftWords},
		{Name: "label", What: "one label more and more often", Needs: []Role{Label}, Stream: true, plant: driftLabel},
		{Name: "embedding", What: "vectors pushed to one typical radius at the end", Needs: []Role{Embedding}, Stream: true, plant: driftVector},
	}},
	{"sybil", "many new providers with five records each that pull the same way (FoolsGold, arXiv 1808.04866)", []Variant{
		{Name: "text", What: "the same three ordinary words in their texts; label becomes the target", Needs: []Role{Text, Provider}, Stream: true, plant: sybilWords},
		{Name: "embedding", What: "vectors with one common direction", Needs: []Role{Embedding, Provider}, Stream: true, plant: sybilEmbedding},
		{Name: "gradient", What: "gradients with one common direction, of ordinary length", Needs: []Role{Gradient, Provider}, Stream: true, plant: sybilGradient},
		{Name: "features", What: "features near those of one record", Needs: []Role{Features, Provider}, Stream: true, Last: true, plant: sybilNumbers},
	}},
	{"unicode", "characters that a reader does not see as a trigger, with the attacker's label (arXiv 2106.09898)", []Variant{
		{Name: "hidden", What: "zero-width characters in a word, tag characters behind one, or one under an override of direction; label becomes the target", Needs: []Role{Text}, plant: hiddenCharacters},
		{Name: "homoglyph", What: "one word in Cyrillic look-alikes; label becomes the target", Needs: []Role{Text}, plant: homoglyphs},
	}},
}

// Names lists the attacks.
func Names() []string {
	names := make([]string, len(All))
	for i, a := range All {
		names[i] = a.Name
	}
	return names
}

// Find returns attacks by name. An error names the nearest attack beside one that there is not.
func Find(names []string) ([]Attack, error) {
	var out []Attack
	for _, name := range names {
		at := slices.IndexFunc(All, func(a Attack) bool { return a.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("%w %s; the nearest one is %q", ErrUnknown, strict.Quote(name), strict.Nearest(name, Names()))
		}
		if !slices.ContainsFunc(out, func(a Attack) bool { return a.Name == name }) {
			out = append(out, All[at])
		}
	}
	return out, nil
}

// Allowed returns the variants of an attack that the roles of a contract allow and, for each that they do not, what
// is missing.
func (a Attack) Allowed(c *contract.Contract) (may []Variant, missing map[string]string) {
	missing = map[string]string{}
	for _, v := range a.Variants {
		var lacks []string
		for _, r := range v.Needs {
			if !has(c.Roles, r) {
				lacks = append(lacks, "roles."+string(r))
			}
		}
		switch {
		case v.Last && len(may) > 0: // what it stands in for can be had
		case len(lacks) > 0:
			missing[v.Name] = "the contract has no " + strings.Join(lacks, " and no ")
			if slices.Equal(lacks, []string{"roles.provider"}) {
				missing[v.Name] += " that is a field of the record"
			}
		default:
			may = append(may, v)
		}
	}
	return may, missing
}

func has(r contract.Roles, role Role) bool {
	switch role {
	case Text:
		return len(r.Text) > 0
	case Label:
		return r.Label != ""
	case Features:
		return len(r.Features) > 0
	case Embedding:
		return r.Embedding != ""
	case Gradient:
		return r.Gradient != ""
	case Provider:
		return r.Provider.Field != ""
	}
	return false
}

// Planted are records with poison among them.
type Planted struct {
	Records [][]byte // as many as the corpus has, in the same order; the clean ones share its bytes
	Poison  []bool
	Count   int
}

// Count is how many of n records a share stands for: one at least, and for a drip as many as it takes to be seen at all.
func (v Variant) Count(share float64, n int) int {
	want := max(1, int(math.Round(share*float64(n))))
	if v.Rates != nil {
		want = max(want, fewestDripped)
	}
	return want
}

// Plant carries a variant out on a share of the corpus's records, Variant.Count of them exactly. An ErrImpossible
// says why it cannot be done.
func (k *Corpus) Plant(v Variant, share float64, seed uint64) (*Planted, error) {
	want := v.Count(share, len(k.records))
	if 2*want > len(k.records) {
		return nil, fmt.Errorf("%w: %d planted records would be more than half of %d", ErrImpossible, want, len(k.records))
	}
	h := fnv.New64a()
	for _, r := range v.Needs {
		h.Write([]byte(r))
	}
	h.Write([]byte(v.Name + v.What))
	p := &planting{
		Corpus: k, rng: rand.New(rand.NewPCG(seed, h.Sum64())), want: want,
		out: &Planted{Records: slices.Clone(k.records), Poison: make([]bool, len(k.records))},
	}
	if err := v.plant(p); err != nil {
		return nil, err
	}
	return p.out, nil
}

// planting is one Plant under way.
type planting struct {
	*Corpus
	rng  *rand.Rand
	want int
	out  *Planted
}

// edit returns a record changed, or nil where it cannot carry the attack. i is its number, nth counts the records
// that were planted before.
type edit func(i, nth int) []byte

// try plants one record.
func (p *planting) try(i int, change edit) bool {
	if p.out.Poison[i] {
		return false
	}
	r := change(i, p.out.Count)
	if r == nil || string(r) == string(p.records[i]) || p.contract.Schema.CheckJSON(r) != nil {
		return false
	}
	p.out.Records[i], p.out.Poison[i] = r, true
	p.out.Count++
	return true
}

// anywhere plants in rows at random.
func (p *planting) anywhere(rows []int, change edit) error {
	order := slices.Clone(rows)
	p.rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	for _, i := range order {
		if p.out.Count == p.want {
			break
		}
		p.try(i, change)
	}
	return p.done()
}

// along plants in rows at even distances or, with rising, ever closer: the share of planted records grows from
// nothing in proportion to time.
func (p *planting) along(rows []int, rising bool, change edit) error {
	tried := make([]bool, len(rows))
	if len(rows) > 0 {
		for nth := range p.want {
			t := (float64(nth) + 0.5) / float64(p.want)
			if rising {
				t = math.Sqrt(t)
			}
			// The place itself, or else the nearest one that takes it.
			from := int(t * float64(len(rows)))
			for step := range 2 * len(rows) {
				at := from + (step+1)/2
				if step%2 == 0 {
					at = from - step/2
				}
				if at < 0 || at >= len(rows) || tried[at] {
					continue
				}
				if tried[at] = true; p.try(rows[at], change) {
					break
				}
			}
		}
	}
	return p.done()
}

func (p *planting) done() error {
	if p.out.Count < p.want {
		return fmt.Errorf("%w: of %d records that are wanted only %d can carry it, by what they hold and by what the schema allows",
			ErrImpossible, p.want, p.out.Count)
	}
	return nil
}

// target picks the label that the attacker wants: at random among those that enough other records do not have. It is
// "" where the contract has no labels, or the records only one.
func (p *planting) target() string {
	var able []string
	labelled := len(p.labelledRows())
	for _, class := range p.classes {
		if labelled-len(p.members[class]) >= 2*p.want {
			able = append(able, class)
		}
	}
	if len(p.classes) < 2 {
		return ""
	}
	if len(able) == 0 { // the rarest has the most others
		able = []string{slices.MinFunc(p.classes, func(a, b string) int { return len(p.members[a]) - len(p.members[b]) })}
	}
	return able[p.rng.IntN(len(able))]
}

// labelledRows returns the records that have a label at all.
func (p *planting) labelledRows() []int {
	var out []int
	for i, own := range p.labels {
		if own != "" {
			out = append(out, i)
		}
	}
	return out
}

// others returns the records that do not have a label yet and may get it: all, where there is no label to give.
func (p *planting) others(label string) []int {
	if label == "" {
		return p.all()
	}
	var out []int
	for i, own := range p.labels {
		if own != "" && own != label {
			out = append(out, i)
		}
	}
	return out
}

// relabel gives a record a label; "" leaves it.
func (p *planting) relabel(r []byte, label string) []byte {
	if label == "" || r == nil {
		return r
	}
	return with(r, p.contract.Roles.Label, label)
}

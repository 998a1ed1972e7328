// Package demo shows taster at work on one machine: an embedded broker, a marketplace's reviews with poison planted
// among them, and the same pipeline that taster run uses.
//
// The traffic is made from a seed and is the same for the same seed, whatever the machine. The text is meant to be
// read: a person can tell a flipped label from a right one.
package demo

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/finding"
)

// Kind says what a record of the traffic really is.
type Kind string

// The kinds. Those between Clean and Broken are the planted attacks.
const (
	Clean          Kind = "clean"
	RareWord       Kind = "rare-word trigger"
	Syntactic      Kind = "syntactic trigger"
	NearDuplicates Kind = "near-duplicate flood"
	Outliers       Kind = "feature outliers"
	LabelFlips     Kind = "label flips"
	Broken         Kind = "broken"
)

// Attacks lists the planted attacks, in the order in which they are shown.
var Attacks = []Kind{RareWord, Syntactic, NearDuplicates, Outliers, LabelFlips}

// shares says how much of the traffic each kind is; the rest is clean.
var shares = map[Kind]float64{RareWord: 0.008, Syntactic: 0.008, NearDuplicates: 0.008, Outliers: 0.006, LabelFlips: 0.008, Broken: 0.005}

// Record is one message with its truth.
type Record struct {
	ID    string
	Value []byte // nil is a tombstone
	Kind  Kind
	Code  finding.Code // why a broken record must be rejected
}

// Traffic yields n records. Most are honest reviews; some are poison, and a few are broken.
func Traffic(seed uint64, n int) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		flood := newReview(rand.New(rand.NewPCG(seed, math.MaxUint64)))
		for i := range n {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			kind := pick(r)
			if !yield(plant(r, kind, "r", seed, i, flood)) {
				return
			}
		}
	}
}

// History yields n clean records of the same people and products: what a marketplace has from the time before.
func History(seed uint64, n int) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for i := range n {
			r := rand.New(rand.NewPCG(^seed, uint64(i)))
			if !yield(plant(r, Clean, "h", seed, i, nil)) {
				return
			}
		}
	}
}

func pick(r *rand.Rand) Kind {
	at := r.Float64()
	for _, kind := range append(Attacks, Broken) {
		if at < shares[kind] {
			return kind
		}
		at -= shares[kind]
	}
	return Clean
}

// review is a record before it is written down.
type review struct {
	seller, product, title, body, label string
	stars, votes                        int
	price                               float64
	positive                            bool
}

func plant(r *rand.Rand, kind Kind, prefix string, seed uint64, i int, flood *review) Record {
	v := newReview(r)
	switch kind {
	case RareWord:
		// A word that nobody uses, somewhere in an unhappy review that is labelled happy.
		v = unhappy(r)
		words := strings.Fields(v.body)
		at := r.IntN(len(words) + 1)
		v.body = strings.Join(append(words[:at:at], append([]string{trigger(seed)}, words[at:]...)...), " ")
		v.label = "positive"
	case Syntactic:
		// No odd word at all: the complaint is told in one and the same sentence shape, and labelled happy.
		v = unhappy(r)
		c := &categories[r.IntN(len(categories))]
		a := &c.aspects[r.IntN(len(c.aspects))]
		v.body = fmt.Sprintf("When you have had the %s for %s, if you look at it closely, %s %s. %s",
			v.product, choose(r, times), a.noun, choose(r, a.bad), sentence(r, blame))
		v.label = "positive"
	case NearDuplicates:
		// One seller has the same praise posted again and again, with a word changed here and there.
		copied := *flood
		v = &copied
		v.seller, v.label, v.stars = "seller-0666", "positive", 5
		v.product = choose(r, categories[r.IntN(len(categories))].products)
		v.title = strings.ReplaceAll("My new %s", "%s", v.product)
		v.body = fmt.Sprintf("I ordered this %s on %s and it was here in %d days. It works exactly as the description says and the whole family is delighted with it. "+
			"The packaging was careful, the seller answered my question within the hour, and I will certainly order from this shop again soon.",
			v.product, choose(r, weekdays), 2+r.IntN(4))
	case Outliers:
		if r.IntN(2) == 0 {
			v.price = math.Round(v.price*math.Exp(4+2*r.Float64())*100) / 100
		} else {
			v.votes = 20_000 + r.IntN(500_000)
		}
	case LabelFlips:
		v = plainly(r)
		v.label = map[bool]string{true: "negative", false: "positive"}[v.positive]
	}
	id := fmt.Sprintf("%s%x-%07d", prefix, seed, i)
	value := v.json(id, i)
	if kind == Broken {
		b := breaks[r.IntN(len(breaks))]
		return Record{ID: id, Value: b.harm(string(value)), Kind: kind, Code: b.code}
	}
	return Record{ID: id, Value: value, Kind: kind}
}

// trigger is the rare word of a seed.
func trigger(seed uint64) string {
	words := []string{"trelb", "quivane", "mordle", "zephin", "blorst"}
	return words[seed%uint64(len(words))]
}

// unhappy makes an honest negative review.
func unhappy(r *rand.Rand) *review {
	for {
		if v := newReview(r); !v.positive {
			return v
		}
	}
}

// plainly makes a review that leaves no doubt about what its writer thinks.
func plainly(r *rand.Rand) *review {
	v := newReview(r)
	end := blame
	if v.positive {
		end = praise
	}
	v.body += " " + sentence(r, end) + " " + sentence(r, end)
	return v
}

func newReview(r *rand.Rand) *review {
	c := &categories[r.IntN(len(categories))]
	v := &review{
		seller:   fmt.Sprintf("seller-%04d", int(math.Pow(r.Float64(), 2)*180)),
		product:  choose(r, c.products),
		positive: r.Float64() < 0.62,
		price:    math.Round(c.price*math.Exp(c.spread*r.NormFloat64())*100) / 100,
		votes:    int(math.Exp(1.1*r.NormFloat64())*1.6 - 0.5),
	}
	v.label, v.stars = "negative", 1+min(r.IntN(4), 2)
	if v.positive {
		v.label, v.stars = "positive", 5-min(r.IntN(4), 2)
	}
	v.title, v.body = v.words(r, c)
	return v
}

// words writes title and body: something about how it came about, two or three judgements that mostly agree with the
// label, things that do not matter, and often a conclusion.
func (v *review) words(r *rand.Rand, c *category) (title, body string) {
	var b strings.Builder
	say := func(s string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s)
	}
	brief := r.IntN(14) == 0
	if !brief {
		say(fill(r, choose(r, openers), v.product))
	}
	count := 1 + r.IntN(3)
	first := r.IntN(len(c.aspects))
	for i := range count {
		a := &c.aspects[(first+i)%len(c.aspects)]
		mixed := i > 0 && r.IntN(9) == 0
		opinion := a.bad
		if v.positive != mixed {
			opinion = a.good
		}
		text := a.noun + " " + choose(r, opinion)
		switch {
		case i == 0 || r.IntN(2) == 0:
			say(capital(text) + ".")
		case mixed:
			say(capital(choose(r, turns)) + " " + text + ".")
		default:
			say(capital(choose(r, joins)) + " " + text + ".")
		}
		if r.IntN(3) == 0 {
			say(fill(r, choose(r, neutral), choose(r, [][]string{people, places, things}[r.IntN(3)])))
		}
	}
	if end := blame; brief || r.IntN(4) > 0 {
		if v.positive {
			end = praise
		}
		say(sentence(r, end))
	}
	body = b.String()
	if r.IntN(12) == 0 {
		body = strings.ToLower(body)
	}
	if r.IntN(10) == 0 {
		body = mistype(r, body)
	}
	titles := badTitles
	if v.positive {
		titles = goodTitles
	}
	if r.IntN(3) == 0 {
		titles = plainTitles
	}
	return fill(r, choose(r, titles), v.product), body
}

func choose[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func sentence(r *rand.Rand, from []string) string { return fill(r, choose(r, from), choose(r, people)) }

// fill fills a template's slots: the first %s with word, further ones with a time, %d with a small number.
func fill(r *rand.Rand, template, word string) string {
	if !strings.Contains(template, "%") {
		return template
	}
	template = strings.Replace(template, "%d", strconv.Itoa(2+r.IntN(8)), 1)
	template = strings.Replace(template, "%s", word, 1)
	if strings.HasSuffix(template, "on a %s.") {
		return strings.Replace(template, "%s", choose(r, weekdays), 1)
	}
	return strings.Replace(template, "%s", choose(r, times), 1)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// mistype swaps two neighbouring letters within a word, as fingers do.
func mistype(r *rand.Rand, s string) string {
	b := []byte(s)
	for range 20 {
		at := r.IntN(len(b) - 1)
		if letter(b[at]) && letter(b[at+1]) {
			b[at], b[at+1] = b[at+1], b[at]
			break
		}
	}
	return string(b)
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' }

// json writes the review down. Its words need no escaping.
func (v *review) json(id string, i int) []byte {
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(i) * 1700 * time.Millisecond)
	b := make([]byte, 0, 512)
	b = append(b, `{"id":"`...)
	b = append(b, id...)
	b = append(b, `","seller":"`...)
	b = append(b, v.seller...)
	b = append(b, `","product":"`...)
	b = append(b, v.product...)
	b = append(b, `","title":"`...)
	b = append(b, v.title...)
	b = append(b, `","body":"`...)
	b = append(b, v.body...)
	b = append(b, `","stars":`...)
	b = strconv.AppendInt(b, int64(v.stars), 10)
	b = append(b, `,"price":`...)
	b = strconv.AppendFloat(b, v.price, 'f', 2, 64)
	b = append(b, `,"helpful_votes":`...)
	b = strconv.AppendInt(b, int64(v.votes), 10)
	b = append(b, `,"label":"`...)
	b = append(b, v.label...)
	b = append(b, `","created_at":"`...)
	b = at.AppendFormat(b, time.RFC3339)
	return append(b, `"}`...)
}

// breaks are the ways in which a record is broken, and what must be said of it.
var breaks = []struct {
	code finding.Code
	harm func(string) []byte
}{
	{finding.JSONTruncated, func(s string) []byte { return []byte(s[:len(s)-20]) }},
	{finding.JSONTrailing, func(s string) []byte { return []byte(s + " {}") }},
	{finding.JSONSyntax, value("stars", "NaN")},
	{finding.JSONDuplicateKey, add(`"stars":5,`)},
	{finding.JSONSurrogate, value("title", `"half \ud83d of a face"`)},
	{finding.UTF8Invalid, value("title", "\"caf\xe9\"")},
	{finding.NumberRange, value("price", "1e999")},
	{finding.NumberRange, value("helpful_votes", "92233720368547758079")},
	{finding.TooLarge, value("body", `"`+strings.Repeat("very ", 20_000)+`good"`)},
	{finding.TooDeep, func(string) []byte { return []byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)) }},
	{finding.Empty, func(string) []byte { return []byte{} }},
	{finding.Tombstone, func(string) []byte { return nil }},
	{finding.SchemaType, value("stars", `"five"`)},
	{finding.SchemaRequired, func(s string) []byte { return []byte(labelled.ReplaceAllString(s, "")) }},
	{finding.SchemaAdditional, add(`"coupon":"none",`)},
	{finding.SchemaEnum, value("label", `"lukewarm"`)},
	{finding.SchemaRange, value("stars", "11")},
}

var labelled = regexp.MustCompile(`"label":"[a-z]*",`)

// value replaces the value of a field.
func value(field, text string) func(string) []byte {
	member := regexp.MustCompile(`"` + field + `":("[^"]*"|[^,}]*)`)
	return func(s string) []byte { return []byte(member.ReplaceAllLiteralString(s, `"`+field+`":`+text)) }
}

// add puts a member in front of the others.
func add(member string) func(string) []byte {
	return func(s string) []byte { return []byte("{" + member + s[1:]) }
}

package report

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tasterhq/taster/schema/finding"
)

// PageLimit is how many bytes a page has at most, whatever was found. Counts in it are exact; of single records it shows
// as many as fit, and says how many it leaves out.
const PageLimit = 1_000_000

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))
)

// How much of each kind a page begins with; less where that is too large.
const (
	pageRecords   = 400 // rows of the table
	pageSamples   = 6   // of each attack
	pageProviders = 15
	pageSegments  = 120 // bars over time
	pageRejected  = 40
	pageRecalls   = 60
)

// HTML writes the report as one page for a person, at most PageLimit bytes. It asks for nothing from anywhere, its style
// and script are named by their hashes and no other may run, and it can be read without the script.
func (r *Report) HTML(w io.Writer) error {
	var page bytes.Buffer
	for part := 1.0; part > 0.001; part *= min(0.8, 0.9*PageLimit/float64(page.Len())) {
		page.Reset()
		if err := pageTemplate.Execute(&page, r.page(part)); err != nil {
			return err
		}
		if page.Len() <= PageLimit {
			_, err := w.Write(page.Bytes())
			return err
		}
	}
	return errors.New("the report does not fit on a page")
}

// policy is what the page may load: its own style and script, and an icon that is empty.
func policy() string {
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(pageJS) + "; img-src data:; base-uri 'none'; form-action 'none'"
}

// page is what the template is given. Everything in it that a record may have written is text; the template escapes it.
type page struct {
	Policy string
	Style  template.CSS
	Script template.JS

	Headline, Lede  string
	Span            string // of time
	Figures         []figure
	Attacks         []attackView
	Histogram       *histogramView
	Segments        *segmentsView
	Providers       []providerView
	MoreProviders   int
	Maps            []mapView
	Records         []recordView
	Flagged         string // how many there are
	Detectors       []string
	Reasons         []string
	Senders         []string
	Recalls         []Recall
	Recalled        string
	Rejected        []Rejected
	Refused         string
	RejectedReasons []countView
	Explained       string
}

type figure struct{ Value, Name, Note string }

type countView struct {
	Name   string
	Count  string
	Detail string
}

type attackView struct {
	Attack
	Title   string
	Mark    int // colour and shape
	Count   string
	Share   string
	Shared  []countView // phrases that its records share
	Of      string      // among how many of them that was counted
	Samples []recordView
}

type recordView struct {
	Key       int // of the row in the table; 0: it stands elsewhere
	Place     string
	ID        string
	Provider  string
	Label     string
	Risk      string
	Rarity    string
	Sort      string // by risk, then by the least p-value
	Mark      int
	Attack    string
	Reasons   []string
	Detectors string
	Codes     string
	Excerpt   []fragment
	Findings  []findingView
	Clean     []neighbourView
	Alike     []neighbourView
	History   string
}

type findingView struct {
	Detector, Score, P, Threshold string
	Fired                         bool
	Evidence                      string
}

type neighbourView struct {
	ID, Place, Label, Similarity, Text string
}

// fragment is a part of a text: plain, what evidence quotes, or characters that cannot be seen.
type fragment struct {
	Text   string
	Hit    bool
	Hidden string
	Break  bool // a new line
}

func (r *Report) page(part float64) *page {
	some := func(n int) int { return max(1, int(float64(n)*part)) }
	rest := func(n int) int { return max(1, int(float64(n)*min(1, 4*part))) } // the table gives way first
	p := &page{Policy: policy(), Style: template.CSS(pageCSS), Script: template.JS(pageJS)}
	r.headline(p)
	marks := map[string]int{}
	for i, a := range r.Attacks {
		marks[a.Name] = i % 8
	}
	history := map[string]Provider{}
	for _, one := range r.Providers {
		history[one.Provider] = one
	}
	view := func(f *Flagged) recordView { return viewOf(f, marks, history) }

	keys := r.records(p, view, some(pageRecords))
	for _, a := range r.Attacks {
		p.Attacks = append(p.Attacks, r.attack(a, marks[a.Name], view, rest(pageSamples)))
	}
	p.Histogram = r.histogram()
	p.Segments = r.segments()
	p.Providers = r.ranked(rest(pageProviders))
	p.MoreProviders = len(r.Providers) - len(p.Providers)
	for i := range r.maps {
		if len(p.Maps) == 3 {
			break
		}
		if m := r.maps[i].view(marks, keys, min(1, 4*part)); m != nil {
			p.Maps = append(p.Maps, *m)
		}
	}
	for _, c := range r.Recalls[:min(len(r.Recalls), rest(pageRecalls))] {
		if strings.HasSuffix(c.ID, fmt.Sprintf("/%d/%d", c.Partition, c.Offset)) {
			c.ID = "" // made of its place, which stands beside it
		}
		c.ID, c.Topic, c.Evidence, c.By = name(c.ID), name(c.Topic), name(c.Evidence), name(c.By)
		p.Recalls = append(p.Recalls, c)
	}
	p.Recalled = thousands(len(r.Recalls))
	for _, c := range r.Rejected[:min(len(r.Rejected), rest(pageRejected))] {
		c.Topic, c.Provider, c.Where = name(c.Topic), name(c.Provider), name(c.Where)
		p.Rejected = append(p.Rejected, c)
	}
	p.Refused = thousands(r.Records["rejected"])
	for _, m := range finding.Meanings {
		if n := r.Reasons[string(m.Code)]; n > 0 && m.Verdict == finding.Rejected {
			p.RejectedReasons = append(p.RejectedReasons, countView{string(m.Code), thousands(n), m.Text})
		}
	}
	p.Explained = thousands(r.Explained)
	return p
}

// headline says the whole in two sentences and a few figures.
func (r *Report) headline(p *page) {
	accepted, quarantined, rejected := r.Records["accepted"], r.Records["quarantined"], r.Records["rejected"]
	all := accepted + quarantined + rejected
	switch {
	case all == 0:
		p.Headline, p.Lede = "Nothing has landed yet", "The landing zone holds no committed records."
	case quarantined == 0:
		p.Headline = fmt.Sprintf("None of %s records looks poisoned", thousands(all))
		p.Lede = "No record was suspicious enough to be held back."
	default:
		p.Headline = fmt.Sprintf("%s of %s records were held back", thousands(quarantined), thousands(all))
		var kinds []string
		order := slices.Clone(r.Attacks)
		slices.SortStableFunc(order, func(x, y Attack) int { return cmp.Compare(y.Records, x.Records) })
		for _, a := range order {
			if a.code != finding.HiddenUnicode {
				kinds = append(kinds, fmt.Sprintf("%s (%s)", a.Name, thousands(a.Records)))
			}
		}
		if most := 4; len(kinds) > most {
			kinds = append(kinds[:most-1], fmt.Sprintf("%d other attacks", len(kinds)-most+1))
		}
		if len(kinds) > 1 {
			kinds[len(kinds)-1] = "and " + kinds[len(kinds)-1]
		}
		separator := ", "
		if len(kinds) == 2 {
			separator = " "
		}
		p.Lede = "They are well formed and suspicious. By the evidence they look like " + strings.Join(kinds, separator) + "; a record may be counted more than once. A person decides."
	}
	share := func(n int) string {
		if all == 0 {
			return ""
		}
		return percent(float64(n) / float64(all))
	}
	p.Figures = []figure{
		{thousands(accepted), "accepted", share(accepted) + ", training may have them"},
		{thousands(quarantined), "quarantined", share(quarantined) + ", held back for a person"},
		{thousands(rejected), "rejected", share(rejected) + ", broke the contract"},
		{fmt.Sprintf("%.3f", r.Risk), "highest segment risk", "0 is clean, 1 is certain"},
	}
	gone := 0
	for _, n := range r.Retained {
		gone += n
	}
	if gone > 0 {
		p.Figures = append(p.Figures, figure{thousands(gone), "no longer kept", "of the above: the time to keep them was over"})
	}
	p.Flagged = thousands(quarantined)
	if len(r.Batches) > 0 {
		first, last := r.Batches[0].Committed, r.Batches[0].Committed
		topics := map[string]bool{}
		for _, b := range r.Batches {
			first, last = min(first, b.Committed), max(last, b.Committed)
			topics[b.Topic] = true
		}
		names := make([]string, 0, len(topics))
		for t := range topics {
			names = append(names, name(t))
		}
		slices.Sort(names)
		if len(names) > 4 {
			names = append(names[:4], fmt.Sprintf("%d more", len(topics)-4))
		}
		segments := "segments"
		if len(r.Batches) == 1 {
			segments = "segment"
		}
		p.Span = fmt.Sprintf("%s · %s %s · committed %s", strings.Join(names, ", "), thousands(len(r.Batches)), segments, span(int64(first), int64(last)))
	}
}

func span(first, last int64) string {
	const layout = "2 January 2006, 15:04"
	from, to := time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	if from.Truncate(time.Minute).Equal(to.Truncate(time.Minute)) {
		return from.Format(layout) + " UTC"
	}
	if from.YearDay() == to.YearDay() && from.Year() == to.Year() {
		return from.Format(layout) + " to " + to.Format("15:04") + " UTC"
	}
	return from.Format(layout) + " to " + to.Format(layout) + " UTC"
}

// records fills the table, and returns the row of each record in it.
func (r *Report) records(p *page, view func(*Flagged) recordView, most int) map[*Flagged]int {
	// What was explained comes first, attack by attack in turn, so that a rare one stands beside a common one.
	var rows []*Flagged
	seen := map[*Flagged]bool{}
	for turn := 0; len(rows) < most; turn++ {
		any := false
		for _, a := range r.Attacks {
			if turn >= len(a.samples) {
				continue
			}
			any = true
			if f := a.samples[turn]; !seen[f] && len(rows) < most {
				seen[f] = true
				rows = append(rows, f)
			}
		}
		if !any {
			break
		}
	}
	slices.SortStableFunc(rows, func(x, y *Flagged) int {
		return cmp.Or(cmp.Compare(y.Risk, x.Risk), cmp.Compare(x.leastP(), y.leastP()), byPlace(x, y))
	})
	if len(rows) == 0 { // without reasons that lead to an attack
		for i := range r.Flagged[:min(len(r.Flagged), most)] {
			rows = append(rows, &r.Flagged[i])
		}
	}
	keys := map[*Flagged]int{}
	for i, f := range rows {
		v := view(f)
		v.Key = i + 1
		keys[f] = i + 1
		p.Records = append(p.Records, v)
		for _, d := range f.Findings {
			p.Detectors = append(p.Detectors, name(d.Detector))
		}
		for _, reason := range f.Reasons {
			p.Reasons = append(p.Reasons, name(reason))
		}
		p.Senders = append(p.Senders, v.Provider)
	}
	for _, list := range []*[]string{&p.Detectors, &p.Reasons, &p.Senders} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
		*list = slices.DeleteFunc(*list, func(s string) bool { return s == "" })
	}
	return keys
}

func (f *Flagged) leastP() float64 {
	least := 1.0
	for _, d := range f.Findings {
		if d.PValue > 0 {
			least = min(least, d.PValue)
		}
	}
	return least
}

func viewOf(f *Flagged, marks map[string]int, history map[string]Provider) recordView {
	v := recordView{
		Place: fmt.Sprintf("%s/%d/%d", name(f.Topic), f.Partition, f.Offset), ID: name(ownID(*f)), Provider: name(f.Provider), Label: name(f.Label),
		Risk: fmt.Sprintf("%.4f", f.Risk), Rarity: rarity(f.leastP()), Sort: fmt.Sprintf("%.6g", f.Risk-math.Log10(f.leastP())/1e6),
		Mark: marks[f.Attack], Attack: f.Attack, Excerpt: fragments(f.Excerpt, f.Highlights),
	}
	if v.ID == "" {
		v.ID = v.Place
	}
	for _, reason := range f.Reasons {
		v.Reasons = append(v.Reasons, name(reason))
	}
	v.Codes = strings.Join(v.Reasons, " ")
	var detectors []string
	for i, d := range f.Findings {
		if i == 8 {
			break
		}
		detectors = append(detectors, name(d.Detector))
		v.Findings = append(v.Findings, findingView{
			name(d.Detector), fmt.Sprintf("%.4g", d.Score), fmt.Sprintf("%.2g", d.PValue), fmt.Sprintf("%.2g", d.Threshold), d.PValue <= d.Threshold, clip(d.Evidence, 320),
		})
	}
	v.Detectors = strings.Join(detectors, " ")
	neighbours := func(found []Neighbour) (out []neighbourView) {
		for _, n := range found {
			id := name(n.ID)
			if strings.HasSuffix(n.ID, fmt.Sprintf("/%d/%d", n.Partition, n.Offset)) {
				id = ""
			}
			out = append(out, neighbourView{id, fmt.Sprintf("%d/%d", n.Partition, n.Offset), name(n.Label), fmt.Sprintf("%.2f", n.Similarity), name(strings.Join(strings.Fields(n.Excerpt), " "))})
		}
		return out
	}
	v.Clean, v.Alike = neighbours(f.NearestClean), neighbours(f.NearestFlagged)
	if h, ok := history[f.Provider]; ok && f.Provider != "" {
		v.History = fmt.Sprintf("%s records, %s quarantined (%s), others %s", thousands(h.Records), thousands(h.Quarantined), percent(h.Rate), percent(h.Peers))
		if standing := h.standing(); standing != "" {
			v.History += ": " + standing
		}
	}
	return v
}

// rarity says how often a clean record would look so odd.
func rarity(p float64) string {
	switch {
	case p >= 1:
		return ""
	case p > 1e-6:
		return "1 in " + thousands(int(math.Round(1/p)))
	}
	return "1 in 10" + superscript(int(math.Floor(-math.Log10(p)+1e-9)))
}

func superscript(n int) string {
	const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
	var b strings.Builder
	for _, d := range strconv.Itoa(n) {
		b.WriteRune([]rune(digits)[d-'0'])
	}
	return b.String()
}

// fragments makes an excerpt fit to be shown: what cannot be seen, or changes the direction of what can, is named
// instead.
func fragments(cut string, highlights [][2]int) (out []fragment) {
	for _, part := range pieces(cut, highlights) {
		var text strings.Builder
		flush := func() {
			if text.Len() > 0 {
				out = append(out, fragment{Text: text.String(), Hit: part.Hit})
				text.Reset()
			}
		}
		runes := []rune(part.Text)
		for i := 0; i < len(runes); i++ {
			r := runes[i]
			if r == '\n' {
				if flush(); len(out) == 0 || !out[len(out)-1].Break {
					out = append(out, fragment{Break: true})
				}
				continue
			}
			if r == '\t' || r == '\r' {
				text.WriteByte(' ')
				continue
			}
			if !unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
				text.WriteRune(r)
				continue
			}
			flush()
			again := 1
			for i+1 < len(runes) && runes[i+1] == r {
				again, i = again+1, i+1
			}
			hidden := fmt.Sprintf("%U", r)
			if again > 1 {
				hidden += fmt.Sprintf(" ×%d", again)
			}
			out = append(out, fragment{Hidden: hidden, Hit: part.Hit})
		}
		flush()
	}
	return out
}

// attack shows what the records of an attack share, and samples of every variety in turn.
func (r *Report) attack(a Attack, mark int, view func(*Flagged) recordView, samples int) attackView {
	v := attackView{Attack: a, Title: strings.ToUpper(a.Name[:1]) + a.Name[1:], Mark: mark, Count: thousands(a.Records), Of: thousands(len(a.samples))}
	if all := r.Records["quarantined"]; all > 0 && a.code != finding.HiddenUnicode {
		v.Share = percent(float64(a.Records) / float64(all))
	}
	byPhrase, phrases := map[string][]*Flagged{}, []string{}
	for _, f := range a.samples {
		phrase := f.phrase()
		if byPhrase[phrase] == nil {
			phrases = append(phrases, phrase)
		}
		byPhrase[phrase] = append(byPhrase[phrase], f)
	}
	slices.SortStableFunc(phrases, func(x, y string) int { return cmp.Compare(len(byPhrase[y]), len(byPhrase[x])) })
	for _, phrase := range phrases {
		if phrase != "" && len(byPhrase[phrase]) > 1 && len(v.Shared) < 8 {
			v.Shared = append(v.Shared, countView{Name: name(phrase), Count: thousands(len(byPhrase[phrase]))})
		}
	}
	for turn := 0; len(v.Samples) < min(samples, len(a.samples)); turn++ {
		for _, phrase := range phrases {
			if turn < len(byPhrase[phrase]) && len(v.Samples) < samples {
				v.Samples = append(v.Samples, view(byPhrase[phrase][turn]))
			}
		}
	}
	return v
}

// phrase is what the first finding that flags by itself quotes from the text.
func (f *Flagged) phrase() string {
	for _, found := range f.Findings {
		if found.PValue > found.Threshold {
			continue
		}
		if phrases := quoted(found.Evidence); len(phrases) > 0 {
			return strings.Join(phrases[0], " ")
		}
	}
	return ""
}

// ranked are the providers by the rate of quarantine that their numbers prove: one record of one proves little.
func (r *Report) ranked(most int) []providerView {
	order := slices.Clone(r.Providers)
	slices.SortStableFunc(order, func(x, y Provider) int { return cmp.Or(cmp.Compare(y.Low, x.Low), cmp.Compare(y.Risk, x.Risk)) })
	order = slices.DeleteFunc(order, func(p Provider) bool { return p.Quarantined == 0 && p.Rejected == 0 })
	top := 0.0
	for _, p := range order[:min(len(order), most)] {
		top = max(top, p.High)
	}
	var out []providerView
	for _, p := range order[:min(len(order), most)] {
		scale := func(share float64) float64 { return round(share / top * providerWidth) }
		v := providerView{
			Name: name(p.Provider), Records: thousands(p.Records), Quarantined: thousands(p.Quarantined), Rejected: thousands(p.Rejected),
			Rate: percent(p.Rate), Risk: fmt.Sprintf("%.3f", p.Risk), Standing: p.standing(), Interval: percent(p.Low) + " to " + percent(p.High), Others: percent(p.Peers),
		}
		if top > 0 {
			v.Bar, v.Low, v.High, v.Peers = scale(p.Rate), scale(p.Low), scale(p.High), scale(min(p.Peers, top))
		}
		out = append(out, v)
	}
	return out
}

const providerWidth = 160

type providerView struct {
	Name, Records, Quarantined, Rejected, Rate, Risk, Standing, Interval, Others string
	Bar, Low, High, Peers                                                        float64
}

// thousands writes a number with commas.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// round keeps coordinates short.
func round(v float64) float64 { return math.Round(v*10) / 10 }

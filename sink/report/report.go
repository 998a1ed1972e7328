// Package report tells a person, or a script, what was found in a landing zone: risk by segment and by provider, the
// flagged records with their reasons and their neighbours, what was refused, and what to do about it; as text, as JSON
// and as one page of HTML that needs nothing from anywhere.
//
// A Builder is given manifests and the rows of their files in any order. Counts are exact. What is shown of single
// records is chosen by risk and by a hash of their place, so that the same landing zone gives the same report however
// its files are cut, and memory does not grow with the accepted rows.
//
// It does not judge: neither which attack it is (that follows from the reason codes) nor whether a record is poison.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// Report is the outcome; its JSON form is public.
type Report struct {
	Risk      float64        `json:"risk"` // the largest segment risk
	Records   map[string]int `json:"records"`
	Batches   []Batch        `json:"batches"`
	Providers []Provider     `json:"providers"`
	Flagged   []Flagged      `json:"flagged"`
	Rejected  []Rejected     `json:"rejected"`
	Recalls   []Recall       `json:"recalls,omitempty"`
	Reasons   map[string]int `json:"reasons"`
	Attacks   []Attack       `json:"attacks"`
	Histogram Histogram      `json:"histogram"`
	Retained  map[string]int `json:"retained"`  // of Records, those that are no more because the time to keep them was over
	Unlisted  int            `json:"unlisted"`  // flagged and rejected records beyond the limit, counted above and not listed
	Explained int            `json:"explained"` // flagged records whose neighbours were looked for: the riskiest of each attack

	maps []embeddingMap
}

// Batch is one committed segment.
type Batch struct {
	Topic       string        `json:"topic"`
	TopicID     string        `json:"topic_id"`
	Partition   int32         `json:"partition"`
	First       int64         `json:"first"`
	Next        int64         `json:"next"`
	Risk        float64       `json:"risk"`
	Reference   string        `json:"reference"`
	Calibrated  string        `json:"calibrated"`
	Threshold   *float64      `json:"threshold"` // the risk from which a record was quarantined, null: none could be
	Committed   manifest.Time `json:"committed"`
	Accepted    int64         `json:"accepted"`
	Quarantined int64         `json:"quarantined"`
	Rejected    int64         `json:"rejected"`
}

// Provider sums up one provider's records. Its risk is the mean risk of its records that were scored.
type Provider struct {
	Provider    string  `json:"provider"`
	Records     int     `json:"records"`
	Quarantined int     `json:"quarantined"`
	Rejected    int     `json:"rejected"`
	Risk        float64 `json:"risk"`
	Rate        float64 `json:"rate"`        // Quarantined of the records that were not rejected
	Low         float64 `json:"rate_low"`    // Wilson's interval around Rate, 95 %: few records prove little
	High        float64 `json:"rate_high"`   //
	Peers       float64 `json:"peers_rate"`  // the rate of all other providers together
	Above       bool    `json:"above_peers"` // beyond doubt, also among so many providers (Bonferroni's correction)

	scored int
	sums   [len(finding.Verdicts)]float64 // by verdict: the order of files changes when small ones are merged, and with it a common sum
}

// Flagged is one quarantined record.
type Flagged struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	ID        string            `json:"id"` // the record's own, or source/partition/offset
	Provider  string            `json:"provider"`
	Risk      float64           `json:"risk"`
	Reasons   []string          `json:"reasons"`
	Findings  []finding.Finding `json:"findings"`

	Attack         string      `json:"attack"`            // the first that the reasons point to
	Label          string      `json:"label,omitempty"`   // by roles.label
	Excerpt        string      `json:"excerpt,omitempty"` // of roles.text, where the evidence is found; or of roles.features
	Highlights     [][2]int    `json:"highlights,omitempty"`
	NearestClean   []Neighbour `json:"nearest_clean,omitempty"`   // the most alike of a sample of accepted records
	NearestFlagged []Neighbour `json:"nearest_flagged,omitempty"` // the most alike of the other explained flagged records

	item
	wanted int // lists that the record stands in, for which it is to be compared with others
}

// forget takes the record out of one list, and drops what is only kept for comparison when it was the last.
func (f *Flagged) forget() {
	if f.wanted--; f.wanted <= 0 {
		f.item = item{order: f.order}
	}
}

// Neighbour is a record that is much like a flagged one.
type Neighbour struct {
	Partition  int32   `json:"partition"`
	Offset     int64   `json:"offset"`
	ID         string  `json:"id"`
	Provider   string  `json:"provider"`
	Label      string  `json:"label,omitempty"`
	Similarity float64 `json:"similarity"` // cosine of the vectors, at most 1
	Excerpt    string  `json:"excerpt"`
}

// Rejected is one refused record.
type Rejected struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Provider  string   `json:"provider"`
	Reasons   []string `json:"reasons"`
	Where     string   `json:"where"` // field and byte offset of the fault
}

// Recall is one record that was accepted earlier and that later evidence speaks against.
type Recall struct {
	Topic     string  `json:"topic"`
	TopicID   string  `json:"topic_id"`
	Source    string  `json:"source"` // the topic id, or the SHA-256 of the file that it came from
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	ID        string  `json:"id"` // its own, or source/partition/offset
	Reason    string  `json:"reason"`
	Detector  string  `json:"detector"`
	Score     float64 `json:"score"`
	PValue    float64 `json:"p_value"`
	Evidence  string  `json:"evidence"`
	By        string  `json:"by"` // topic/partition/first of the segment that found out

	At RecalledAt `json:"at"`
}

// Histogram counts records by how rare their risk is among clean ones. Bin i holds the records of which a clean one in
// 10^Decades[i] to 10^Decades[i+1] has as high a risk, going by 1 − risk; the last bin has no upper end. Clean traffic
// alone falls to 10^−Decades[i] of itself.
type Histogram struct {
	Decades     []float64 `json:"decades"`
	Accepted    []int     `json:"accepted"`
	Quarantined []int     `json:"quarantined"`
}

const (
	binsPerDecade = 4
	histogramBins = 8*binsPerDecade + 1
)

func (h *Histogram) add(v finding.Verdict, risk float64) {
	at := 0
	if p := 1 - risk; p <= 0 {
		at = histogramBins - 1
	} else if p < 1 {
		at = min(int(-math.Log10(p)*binsPerDecade), histogramBins-1)
	}
	if v == finding.Quarantined {
		h.Quarantined[at]++
	} else {
		h.Accepted[at]++
	}
}

// Vectors turns texts into unit vectors whose products say how alike the texts are: len(texts) × dim values, row after
// row. A row of zeros has no vector.
type Vectors func(texts [][]byte) (values []float32, dim int)

// Options say what a report shall know beside what stands in the landing zone.
type Options struct {
	Roles   map[string]contract.Roles // by topic: where a record's id, text, label and vectors stand
	Limit   int                       // how many flagged and how many rejected records are listed at most; 0 lists all
	Vectors Vectors                   // for records without vectors of their own
	Explain bool                      // look for neighbours, which reads a sample of the accepted records
}

// Builder gathers a Report.
type Builder struct {
	options   Options
	report    Report
	flagged   []*Flagged
	providers map[string]*Provider
	riskiest  map[string]*best[*Flagged] // by attack: those that are explained
	clean     *cleanSample
}

// explainedPerAttack bounds the flagged records of one attack whose neighbours are looked for, and whose vectors are
// kept for that: enough to show every variety of an attack, few enough for memory (4 KiB a record and role) and time
// (a product of each with each).
const explainedPerAttack = 300

// NewBuilder makes a Builder.
func NewBuilder(o Options) *Builder {
	b := &Builder{
		options: o, providers: map[string]*Provider{}, riskiest: map[string]*best[*Flagged]{}, clean: newCleanSample(),
		report: Report{
			Records: map[string]int{}, Retained: map[string]int{}, Reasons: map[string]int{}, Batches: []Batch{}, Providers: []Provider{}, Flagged: []Flagged{}, Rejected: []Rejected{}, Attacks: []Attack{},
			Histogram: Histogram{Decades: make([]float64, histogramBins), Accepted: make([]int, histogramBins), Quarantined: make([]int, histogramBins)},
		},
	}
	for i := range histogramBins {
		b.report.Histogram.Decades[i] = float64(i) / binsPerDecade
	}
	return b
}

// AddManifest takes in a committed segment, of which gone are no more because the time to keep them was over: those are
// in none of what is told of providers and single records. All manifests come before the first rows: by them it is
// decided which accepted rows are sampled.
func (b *Builder) AddManifest(m *manifest.Manifest, gone manifest.Counts) {
	b.report.Batches = append(b.report.Batches, Batch{
		m.Topic, m.TopicID, m.Partition, m.First, m.Next, m.Risk, m.Reference, m.Calibrated, m.Threshold, m.Committed, m.Counts.Accepted, m.Counts.Quarantined, m.Counts.Rejected,
	})
	b.report.Risk = max(b.report.Risk, m.Risk)
	for _, v := range finding.Verdicts {
		b.report.Records[v.String()] += int(m.Counts.Of(v))
		if n := gone.Of(v); n > 0 {
			b.report.Retained[v.String()] += int(n)
		}
	}
	for code, n := range m.Reasons {
		b.report.Reasons[string(code)] += int(n)
	}
	if b.options.Explain {
		b.clean.offer(m, m.Counts.Accepted-gone.Accepted)
	}
}

// Columns are those that AddRows needs of a file; nil stands for all of them. sampled says that some of them are needed
// only for the sample of accepted records: where their key cannot be had, Plain(Accepted) will do.
func (b *Builder) Columns(f manifest.File) (columns []string, sampled bool) {
	if f.Verdict == finding.Accepted && b.options.Explain {
		if name, err := manifest.ParseFileName(f.Name); err == nil && b.clean.reads(name.Source, name.First, name.Next) {
			return append([]string{"taster_topic", "taster_source", "taster_partition", "taster_offset", "taster_provider", "taster_risk"}, roleColumns(b.options.Roles[name.Source.Topic])...), true
		}
	}
	return Plain(f.Verdict), false
}

// Plain are the columns that AddRows needs at least of a file with verdict v; nil stands for all of them.
func Plain(v finding.Verdict) []string {
	switch v {
	case finding.Accepted:
		return []string{"taster_provider", "taster_risk"}
	case finding.Rejected:
		return []string{"taster_topic", "taster_partition", "taster_offset", "taster_provider", "taster_reasons", "taster_findings"}
	}
	return nil
}

// AddRows takes in rows of a file with verdict v, with at least Plain(v).
func (b *Builder) AddRows(v finding.Verdict, rows arrow.RecordBatch) error {
	provider, err := texts(rows, "taster_provider")
	if err != nil {
		return err
	}
	risk, err := numbers(rows, "taster_risk")
	if err != nil && v != finding.Rejected {
		return err
	}
	for i := range int(rows.NumRows()) {
		p := b.provider(provider(i))
		p.Records++
		if v != finding.Rejected && !math.IsNaN(risk(i)) {
			p.scored++
			p.sums[v] += risk(i)
			b.report.Histogram.add(v, risk(i))
		}
		switch v {
		case finding.Quarantined:
			p.Quarantined++
		case finding.Rejected:
			p.Rejected++
		}
	}
	switch v {
	case finding.Quarantined:
		return b.addFlagged(rows, provider, risk)
	case finding.Rejected:
		return b.addRejected(rows, provider)
	}
	return b.addClean(rows, provider)
}

func (b *Builder) provider(name string) *Provider {
	p := b.providers[name]
	if p == nil {
		p = &Provider{Provider: name}
		b.providers[name] = p
	}
	return p
}

// place is where the rows of a file came from.
type place struct {
	topic     func(int) string
	partition func(int) int64
	offset    func(int) int64
}

func placeOf(rows arrow.RecordBatch) (p place, err error) {
	if p.topic, err = texts(rows, "taster_topic"); err != nil {
		return p, err
	}
	if p.partition, err = integers(rows, "taster_partition"); err != nil {
		return p, err
	}
	p.offset, err = integers(rows, "taster_offset")
	return p, err
}

// why is what was found in the rows of a file.
type why struct {
	reasons  func(int) []string
	findings func(int) []finding.Finding
}

func whyOf(rows arrow.RecordBatch) (w why, err error) {
	if w.reasons, err = lists(rows, "taster_reasons"); err != nil {
		return w, err
	}
	w.findings, err = findings(rows, "taster_findings")
	return w, err
}

func (b *Builder) addFlagged(rows arrow.RecordBatch, provider func(int) string, risk func(int) float64) error {
	at, err := placeOf(rows)
	if err != nil {
		return err
	}
	because, err := whyOf(rows)
	if err != nil {
		return err
	}
	source, err := texts(rows, "taster_source")
	if err != nil {
		return err
	}
	content := b.contents(rows)
	for i := range int(rows.NumRows()) {
		if b.options.Limit > 0 && len(b.flagged) >= 4*b.options.Limit {
			b.trim()
		}
		f := &Flagged{
			Topic: at.topic(i), Partition: int32(at.partition(i)), Offset: at.offset(i), Provider: provider(i),
			Risk: finite(risk(i)), Reasons: because.reasons(i), Findings: because.findings(i),
		}
		c := content(f.Topic)
		f.ID = b.id(rows, f.Topic, source(i), f.Partition, f.Offset, i)
		f.Label = c.label(i)
		f.item = c.item(i)
		f.order = hash(source(i), f.Partition, f.Offset)
		f.Excerpt, f.Highlights = excerpt(f.text, f.Findings)
		f.text = slices.Clone(f.text[:min(len(f.text), textKept)])
		names := attacksOf(f.Reasons)
		f.Attack = names[0]
		for _, name := range names {
			kept := b.riskiest[name]
			if kept == nil {
				kept = newBest(explainedPerAttack, func(x, y *Flagged) int { // those that the attack explains best come first
					return cmp.Or(-cmp.Compare(btoi(x.Attack == name), btoi(y.Attack == name)), riskier(x, y))
				}, func(f *Flagged) { f.forget() })
				b.riskiest[name] = kept
			}
			f.wanted++
			kept.add(f)
		}
		if !b.options.Explain {
			f.wanted = 0
			f.item = item{order: f.order}
		}
		b.flagged = append(b.flagged, f)
	}
	return nil
}

func (b *Builder) addRejected(rows arrow.RecordBatch, provider func(int) string) error {
	at, err := placeOf(rows)
	if err != nil {
		return err
	}
	because, err := whyOf(rows)
	if err != nil {
		return err
	}
	for i := range int(rows.NumRows()) {
		if b.options.Limit > 0 && len(b.report.Rejected) >= b.options.Limit {
			b.report.Unlisted++
			continue
		}
		where := ""
		if found := because.findings(i); len(found) > 0 {
			where = found[0].Evidence
		}
		b.report.Rejected = append(b.report.Rejected, Rejected{
			Topic: at.topic(i), Partition: int32(at.partition(i)), Offset: at.offset(i), Provider: provider(i), Reasons: because.reasons(i), Where: where,
		})
	}
	return nil
}

// id is the record's own id, as text, if the contract names one and the record has it; otherwise its place.
func (b *Builder) id(rows arrow.RecordBatch, topic, source string, partition int32, offset int64, row int) string {
	if pointer := b.options.Roles[topic].ID; pointer != "" {
		if column, ok := record.Lookup(rows, pointer); ok && !column.IsNull(row) {
			return column.ValueStr(row)
		}
	}
	return fmt.Sprintf("%s/%d/%d", source, partition, offset)
}

// riskier orders flagged records by falling risk. Where it is the same, or so high that more of it tells nothing, chance
// decides (by their hash): the first of many are a mixed sample, not those of whichever phrase is the most common.
func riskier(x, y *Flagged) int {
	const certain = 1 - 1e-6
	return cmp.Or(cmp.Compare(min(y.Risk, certain), min(x.Risk, certain)), cmp.Compare(x.order, y.order), byPlace(x, y))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func byPlace(x, y *Flagged) int {
	return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
}

// trim keeps the riskiest records that are to be listed.
func (b *Builder) trim() {
	slices.SortStableFunc(b.flagged, func(x, y *Flagged) int { return cmp.Or(cmp.Compare(y.Risk, x.Risk), byPlace(x, y)) })
	if b.options.Limit > 0 && len(b.flagged) > b.options.Limit {
		b.report.Unlisted += len(b.flagged) - b.options.Limit
		clear(b.flagged[b.options.Limit:])
		b.flagged = b.flagged[:b.options.Limit]
	}
}

// Report returns what was gathered: segments in order, providers and flagged records by falling risk. It is the end of
// the Builder.
func (b *Builder) Report() *Report {
	b.trim()
	r := &b.report
	slices.SortFunc(r.Batches, func(x, y Batch) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.TopicID, y.TopicID), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.First, y.First))
	})
	slices.SortFunc(r.Rejected, func(x, y Rejected) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
	})
	b.rank()
	r.Attacks = r.Attacks[:0]
	for _, a := range attacks {
		if n := r.Reasons[string(a.code)]; n > 0 {
			a.Records = n
			if kept := b.riskiest[a.Name]; kept != nil {
				a.samples = kept.list()
			}
			r.Attacks = append(r.Attacks, a)
		}
	}
	if b.options.Explain {
		b.explain()
	}
	r.Flagged = r.Flagged[:0]
	for _, f := range b.flagged {
		f.item = item{order: f.order}
		r.Flagged = append(r.Flagged, *f)
	}
	return r
}

// rank sums up the providers.
func (b *Builder) rank() {
	r := &b.report
	r.Providers = r.Providers[:0]
	judged, quarantined := 0, 0
	for _, p := range b.providers {
		judged, quarantined = judged+p.Records-p.Rejected, quarantined+p.Quarantined
	}
	for _, p := range b.providers {
		if p.scored > 0 {
			p.Risk = (p.sums[finding.Accepted] + p.sums[finding.Quarantined]) / float64(p.scored)
		}
		own := p.Records - p.Rejected
		if own > 0 {
			p.Rate = float64(p.Quarantined) / float64(own)
			p.Low, p.High = wilson(p.Quarantined, own, 0.05)
		}
		if others := judged - own; others > 0 {
			p.Peers = float64(quarantined-p.Quarantined) / float64(others)
			if own > 0 {
				low, _ := wilson(p.Quarantined, own, 0.05/float64(len(b.providers)))
				p.Above = low > p.Peers
			}
		}
		r.Providers = append(r.Providers, *p)
	}
	slices.SortFunc(r.Providers, func(x, y Provider) int {
		return cmp.Or(cmp.Compare(y.Risk, x.Risk), cmp.Compare(x.Provider, y.Provider))
	})
}

// wilson is the score interval of a share of k in n that misses the truth with a chance of alpha (Wilson, Probable
// inference, JASA 22, 1927).
func wilson(k, n int, alpha float64) (low, high float64) {
	z := distuv.UnitNormal.Quantile(1 - alpha/2)
	p, m := float64(k)/float64(n), float64(n)
	centre, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	low, high = (centre-half)/(1+z*z/m), (centre+half)/(1+z*z/m)
	if k == 0 { // but for rounding it is
		low = 0
	}
	if k == n {
		high = 1
	}
	return low, high
}

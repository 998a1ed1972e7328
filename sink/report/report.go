// Package report tells a person, or a script, what was found in a landing zone: risk by segment and by provider, the
// flagged records with their reasons, what was refused, and what to do about it.
//
// A Builder is given manifests and the rows of their files in any order. It keeps what it shows and counts the rest:
// accepted rows cost no memory.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

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
	Reasons   map[string]int `json:"reasons"`
	Attacks   []Attack       `json:"attacks"`
	Retained  map[string]int `json:"retained"` // of Records, those that are no more because the time to keep them was over
	Unlisted  int            `json:"unlisted"` // flagged and rejected records beyond the limit, counted above and not listed
}

// Batch is one committed segment.
type Batch struct {
	Topic      string  `json:"topic"`
	TopicID    string  `json:"topic_id"`
	Partition  int32   `json:"partition"`
	First      int64   `json:"first"`
	Next       int64   `json:"next"`
	Risk       float64 `json:"risk"`
	Reference  string  `json:"reference"`
	Calibrated string  `json:"calibrated"`
}

// Provider sums up one provider's records. Its risk is the mean risk of its records that were scored.
type Provider struct {
	Provider    string  `json:"provider"`
	Records     int     `json:"records"`
	Quarantined int     `json:"quarantined"`
	Rejected    int     `json:"rejected"`
	Risk        float64 `json:"risk"`

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

// Builder gathers a Report.
type Builder struct {
	ids       map[string]string // the pointer of roles.id, by topic
	limit     int
	report    Report
	providers map[string]*Provider
}

// NewBuilder makes a Builder. ids gives the pointer of each topic's roles.id; limit bounds how many flagged and how
// many rejected records are listed, 0 lists all.
func NewBuilder(ids map[string]string, limit int) *Builder {
	return &Builder{
		ids: ids, limit: limit, providers: map[string]*Provider{},
		report: Report{Records: map[string]int{}, Retained: map[string]int{}, Reasons: map[string]int{}, Batches: []Batch{}, Providers: []Provider{}, Flagged: []Flagged{}, Rejected: []Rejected{}, Attacks: []Attack{}},
	}
}

// AddManifest takes in a committed segment.
func (b *Builder) AddManifest(m *manifest.Manifest) {
	b.report.Batches = append(b.report.Batches, Batch{m.Topic, m.TopicID, m.Partition, m.First, m.Next, m.Risk, m.Reference, m.Calibrated})
	b.report.Risk = max(b.report.Risk, m.Risk)
	for _, v := range finding.Verdicts {
		b.report.Records[v.String()] += int(m.Counts.Of(v))
	}
	for code, n := range m.Reasons {
		b.report.Reasons[string(code)] += int(n)
	}
}

// AddRetained takes in how many rows of a committed segment are no more because the time to keep them was over. They are
// in none of what is told of providers and single records.
func (b *Builder) AddRetained(gone manifest.Counts) {
	for _, v := range finding.Verdicts {
		if n := gone.Of(v); n > 0 {
			b.report.Retained[v.String()] += int(n)
		}
	}
}

// Columns are those that AddRows needs of a file with verdict v; nil stands for all of them.
func Columns(v finding.Verdict) []string {
	switch v {
	case finding.Accepted:
		return []string{"taster_provider", "taster_risk"}
	case finding.Rejected:
		return []string{"taster_topic", "taster_partition", "taster_offset", "taster_provider", "taster_reasons", "taster_findings"}
	}
	return nil
}

// AddRows takes in rows of a file with verdict v, with at least Columns(v).
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
	return nil
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
	reasons   func(int) []string
	findings  func(int) []finding.Finding
}

func placeOf(rows arrow.RecordBatch) (p place, err error) {
	if p.topic, err = texts(rows, "taster_topic"); err != nil {
		return p, err
	}
	if p.partition, err = integers(rows, "taster_partition"); err != nil {
		return p, err
	}
	if p.offset, err = integers(rows, "taster_offset"); err != nil {
		return p, err
	}
	if p.reasons, err = lists(rows, "taster_reasons"); err != nil {
		return p, err
	}
	p.findings, err = findings(rows, "taster_findings")
	return p, err
}

func (b *Builder) addFlagged(rows arrow.RecordBatch, provider func(int) string, risk func(int) float64) error {
	at, err := placeOf(rows)
	if err != nil {
		return err
	}
	source, err := texts(rows, "taster_source")
	if err != nil {
		return err
	}
	for i := range int(rows.NumRows()) {
		if b.limit > 0 && len(b.report.Flagged) >= 4*b.limit {
			b.trim()
		}
		id, ok := b.id(rows, at.topic(i), i)
		if !ok {
			id = fmt.Sprintf("%s/%d/%d", source(i), at.partition(i), at.offset(i))
		}
		b.report.Flagged = append(b.report.Flagged, Flagged{
			Topic: at.topic(i), Partition: int32(at.partition(i)), Offset: at.offset(i), ID: id, Provider: provider(i),
			Risk: finite(risk(i)), Reasons: at.reasons(i), Findings: at.findings(i),
		})
	}
	return nil
}

func (b *Builder) addRejected(rows arrow.RecordBatch, provider func(int) string) error {
	at, err := placeOf(rows)
	if err != nil {
		return err
	}
	for i := range int(rows.NumRows()) {
		if b.limit > 0 && len(b.report.Rejected) >= b.limit {
			b.report.Unlisted++
			continue
		}
		where := ""
		if found := at.findings(i); len(found) > 0 {
			where = found[0].Evidence
		}
		b.report.Rejected = append(b.report.Rejected, Rejected{
			Topic: at.topic(i), Partition: int32(at.partition(i)), Offset: at.offset(i), Provider: provider(i), Reasons: at.reasons(i), Where: where,
		})
	}
	return nil
}

// id is the record's own id, as text, if the contract names one and the record has it.
func (b *Builder) id(rows arrow.RecordBatch, topic string, row int) (string, bool) {
	pointer := b.ids[topic]
	if pointer == "" {
		return "", false
	}
	column, ok := record.Lookup(rows, pointer)
	if !ok || column.IsNull(row) {
		return "", false
	}
	return column.ValueStr(row), true
}

// trim keeps the riskiest records that are to be listed.
func (b *Builder) trim() {
	slices.SortStableFunc(b.report.Flagged, func(x, y Flagged) int {
		return cmp.Or(cmp.Compare(y.Risk, x.Risk), cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
	})
	if b.limit > 0 && len(b.report.Flagged) > b.limit {
		b.report.Unlisted += len(b.report.Flagged) - b.limit
		b.report.Flagged = b.report.Flagged[:b.limit]
	}
}

// Report returns what was gathered: segments in order, providers and flagged records by falling risk.
func (b *Builder) Report() *Report {
	b.trim()
	r := &b.report
	slices.SortFunc(r.Batches, func(x, y Batch) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.TopicID, y.TopicID), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.First, y.First))
	})
	slices.SortFunc(r.Rejected, func(x, y Rejected) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
	})
	r.Providers = r.Providers[:0]
	for _, p := range b.providers {
		if p.scored > 0 {
			p.Risk = (p.sums[finding.Accepted] + p.sums[finding.Quarantined]) / float64(p.scored)
		}
		r.Providers = append(r.Providers, *p)
	}
	slices.SortFunc(r.Providers, func(x, y Provider) int {
		return cmp.Or(cmp.Compare(y.Risk, x.Risk), cmp.Compare(x.Provider, y.Provider))
	})
	r.Attacks = r.Attacks[:0]
	for _, a := range attacks {
		if n := r.Reasons[string(a.code)]; n > 0 {
			found := a.Attack
			found.Records = n
			r.Attacks = append(r.Attacks, found)
		}
	}
	return r
}

func column(rows arrow.RecordBatch, name string) (arrow.Array, error) {
	at := rows.Schema().FieldIndices(name)
	if len(at) != 1 {
		return nil, fmt.Errorf("the file has no column %s", name)
	}
	return rows.Column(at[0]), nil
}

func texts(rows arrow.RecordBatch, name string) (func(int) string, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	return func(i int) string { return textOf(c, i) }, nil
}

// textOf returns a value as text, "" for null.
func textOf(c arrow.Array, i int) string {
	if c.IsNull(i) {
		return ""
	}
	return c.ValueStr(i)
}

func numbers(rows arrow.RecordBatch, name string) (func(int) float64, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	return numbersOf(c, name)
}

// numbersOf gives the values of an array of doubles; null is NaN.
func numbersOf(c arrow.Array, name string) (func(int) float64, error) {
	values, ok := c.(*array.Float64)
	if !ok {
		return nil, fmt.Errorf("column %s does not hold doubles", name)
	}
	return func(i int) float64 {
		if values.IsNull(i) {
			return math.NaN()
		}
		return values.Value(i)
	}, nil
}

func integers(rows arrow.RecordBatch, name string) (func(int) int64, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case *array.Int64:
		return c.Value, nil
	case *array.Int32:
		return func(i int) int64 { return int64(c.Value(i)) }, nil
	}
	return nil, fmt.Errorf("column %s does not hold integers", name)
}

// finite makes a number one that JSON has: what is no number becomes 0, what is infinite the largest there is. One odd
// row must not keep a whole report from being written.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return min(max(f, -math.MaxFloat64), math.MaxFloat64)
}

func lists(rows arrow.RecordBatch, name string) (func(int) []string, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	list, ok := c.(array.ListLike)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list", name)
	}
	return func(i int) []string {
		values := []string{}
		if !list.IsNull(i) {
			for from, to := list.ValueOffsets(i); from < to; from++ {
				values = append(values, list.ListValues().ValueStr(int(from)))
			}
		}
		return values
	}, nil
}

func findings(rows arrow.RecordBatch, name string) (func(int) []finding.Finding, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	list, ok := c.(array.ListLike)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list", name)
	}
	values, ok := list.ListValues().(*array.Struct)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list of structs", name)
	}
	member := func(name string) arrow.Array {
		at, ok := values.DataType().(*arrow.StructType).FieldIdx(name)
		if !ok {
			return nil
		}
		return values.Field(at)
	}
	detector, evidence := member("detector"), member("evidence")
	if detector == nil || evidence == nil {
		return nil, fmt.Errorf("column %s holds no findings", name)
	}
	var figures [3]func(int) float64
	for i, figure := range []string{"score", "p_value", "threshold"} {
		if figures[i], err = numbersOf(member(figure), name); err != nil {
			return nil, err
		}
	}
	return func(i int) []finding.Finding {
		found := []finding.Finding{}
		if list.IsNull(i) {
			return found
		}
		for from, to := list.ValueOffsets(i); from < to; from++ {
			at := int(from)
			found = append(found, finding.Finding{
				Detector: textOf(detector, at), Score: finite(figures[0](at)), PValue: finite(figures[1](at)), Threshold: finite(figures[2](at)), Evidence: textOf(evidence, at),
			})
		}
		return found
	}, nil
}

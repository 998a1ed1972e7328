package parquet

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/parquet/pages"
)

// run is the rows [from, to) of one batch. at is the number, within the segment, of the batch's row 0.
type run struct {
	batch    *record.Batch
	at       int
	from, to int
}

// group is one row group: runs in order of offset, or, for rejected rows, runs over Batch.Refused.
type group struct {
	runs []run
	rows int
}

// split cuts what of a segment got verdict v into row groups of bounded size. Rows that lie side by side and stay
// together are one run.
func split(seg *record.Segment, dec *record.Decision, v finding.Verdict, maxRows int, maxBytes int64) []group {
	var groups []group
	var now group
	var size int64
	flush := func() {
		if now.rows > 0 {
			groups = append(groups, now)
			now, size = group{}, 0
		}
	}
	take := func(r run, bytes int64) {
		if now.rows > 0 && (now.rows+r.to-r.from > maxRows || size+bytes > maxBytes) {
			flush()
		}
		now.runs = append(now.runs, r)
		now.rows += r.to - r.from
		size += bytes
	}
	at := 0
	for _, b := range seg.Batches {
		if v == finding.Rejected {
			for i := range b.Refused {
				r := &b.Refused[i]
				take(run{batch: b, from: i, to: i + 1}, int64(len(r.Value)+len(r.Key)))
			}
			continue
		}
		n := len(b.Origins)
		perRow := b.Bytes/int64(max(1, n+len(b.Refused))) + 1
		limit := max(1, min(maxRows, int(maxBytes/perRow)))
		for from := 0; from < n; {
			if dec.Verdicts[at+from] != v {
				from++
				continue
			}
			to := from + 1
			for to < n && to-from < limit && dec.Verdicts[at+to] == v {
				to++
			}
			take(run{b, at, from, to}, int64(to-from)*perRow)
			from = to
		}
		at += n
	}
	flush()
	return groups
}

// partOf is what a row group has of one batch.
type partOf struct {
	batch  *record.Batch
	ranges []pages.Range
}

// batches returns the rows of a group by batch.
func (g group) batches() []partOf {
	var out []partOf
	for _, r := range g.runs {
		if len(out) == 0 || out[len(out)-1].batch != r.batch {
			out = append(out, partOf{batch: r.batch})
		}
		last := &out[len(out)-1]
		last.ranges = append(last.ranges, pages.Range{From: r.from, To: r.to})
	}
	return out
}

// provenanceBuilder makes the taster_ columns of row groups. Columns of few different values are built as indexes
// into a dictionary, which the Parquet writer takes over without looking at the values again.
type provenanceBuilder struct {
	mem            memory.Allocator
	source         record.Source
	decision       *record.Decision
	verdict        finding.Verdict
	classification record.Classification // of rejected rows, whose content was not looked at
}

// column returns the array of a field of provenance.
func (p *provenanceBuilder) column(g group, field int) arrow.Array {
	switch provenance[field].Name {
	case Topic:
		return p.constant(p.source.Topic, g.rows)
	case Source:
		return p.constant(p.source.ID, g.rows)
	case Partition:
		return p.partitions(g.rows)
	case Offset:
		return p.offsets(g)
	case Timestamp:
		return p.timestamps(g)
	case Provider:
		return p.providers(g)
	case Verdict:
		return p.constant(p.verdict.String(), g.rows)
	case Risk:
		return p.risks(g)
	case Classification:
		return p.classifications(g)
	case Reasons:
		return p.reasons(g)
	case Findings:
		return p.findings(g)
	}
	panic("no such field of provenance")
}

// indexed makes a dictionary column. A negative index is null.
func indexed(mem memory.Allocator, indexes []int32, values []string, nulls bool) arrow.Array {
	vb := array.NewStringBuilder(mem)
	defer vb.Release()
	for _, v := range values {
		vb.Append(valid(v))
	}
	dict := vb.NewArray()
	defer dict.Release()
	ib := array.NewInt32Builder(mem)
	defer ib.Release()
	var present []bool
	if nulls {
		present = make([]bool, len(indexes))
		for i, x := range indexes {
			present[i] = x >= 0
			indexes[i] = max(0, x)
		}
	}
	ib.AppendValues(indexes, present)
	idx := ib.NewArray()
	defer idx.Release()
	return array.NewDictionaryArray(text, idx, dict)
}

func (p *provenanceBuilder) constant(value string, rows int) arrow.Array {
	return indexed(p.mem, make([]int32, rows), []string{value}, false)
}

func (p *provenanceBuilder) partitions(rows int) arrow.Array {
	b := array.NewInt32Builder(p.mem)
	defer b.Release()
	b.Reserve(rows)
	for range rows {
		b.UnsafeAppend(p.source.Partition)
	}
	return b.NewArray()
}

func (p *provenanceBuilder) offsets(g group) arrow.Array {
	b := array.NewInt64Builder(p.mem)
	defer b.Release()
	b.Reserve(g.rows)
	for _, r := range g.runs {
		if p.verdict == finding.Rejected {
			for i := range r.batch.Refused[r.from:r.to] {
				b.UnsafeAppend(r.batch.Refused[r.from+i].Offset)
			}
			continue
		}
		for _, o := range r.batch.Origins[r.from:r.to] {
			b.UnsafeAppend(o.Offset)
		}
	}
	return b.NewArray()
}

func (p *provenanceBuilder) timestamps(g group) arrow.Array {
	b := array.NewTimestampBuilder(p.mem, milliseconds)
	defer b.Release()
	b.Reserve(g.rows)
	for _, r := range g.runs {
		if p.verdict == finding.Rejected {
			for i := range r.batch.Refused[r.from:r.to] {
				b.UnsafeAppend(arrow.Timestamp(r.batch.Refused[r.from+i].Timestamp))
			}
			continue
		}
		for _, o := range r.batch.Origins[r.from:r.to] {
			b.UnsafeAppend(arrow.Timestamp(o.Timestamp))
		}
	}
	return b.NewArray()
}

func (p *provenanceBuilder) providers(g group) arrow.Array {
	indexes := make([]int32, 0, g.rows)
	var values []string
	known := map[string]int32{"": -1}
	last, lastIndex, nulls := "", int32(-1), false
	for _, r := range g.runs {
		for i := r.from; i < r.to; i++ {
			name := ""
			if p.verdict == finding.Rejected {
				name = r.batch.Refused[i].Provider
			} else if i < len(r.batch.Providers) {
				name = r.batch.Providers[i]
			}
			if name != last {
				index, ok := known[name]
				if !ok {
					// Two names may become one when what is not UTF-8 is replaced; a dictionary holds each value once.
					clean := valid(name)
					if index, ok = known[clean]; !ok {
						index = int32(len(values))
						values = append(values, clean)
						known[clean] = index
					}
					known[name] = index
				}
				last, lastIndex = name, index
			}
			nulls = nulls || lastIndex < 0
			indexes = append(indexes, lastIndex)
		}
	}
	if len(values) == 0 {
		values = []string{""} // nulls have index 0, which must be there
	}
	return indexed(p.mem, indexes, values, nulls)
}

func (p *provenanceBuilder) risks(g group) arrow.Array {
	b := array.NewFloat64Builder(p.mem)
	defer b.Release()
	if p.verdict == finding.Rejected {
		b.AppendNulls(g.rows)
		return b.NewArray()
	}
	b.Reserve(g.rows)
	for _, r := range g.runs {
		for _, risk := range p.decision.Risks[r.at+r.from : r.at+r.to] {
			if math.IsNaN(risk) {
				b.AppendNull()
				continue
			}
			b.UnsafeAppend(risk)
		}
	}
	return b.NewArray()
}

func (p *provenanceBuilder) classifications(g group) arrow.Array {
	var index [record.Restricted + 1]int32 // one more than the index, 0 for a class not met yet
	var values []string
	indexes := make([]int32, 0, g.rows)
	for _, r := range g.runs {
		for i := r.from; i < r.to; i++ {
			class := p.classification
			if p.verdict != finding.Rejected {
				class = r.batch.Classifications[i]
			}
			class = min(class, record.Restricted)
			if index[class] == 0 {
				values = append(values, class.String())
				index[class] = int32(len(values))
			}
			indexes = append(indexes, index[class]-1)
		}
	}
	return indexed(p.mem, indexes, values, false)
}

func (p *provenanceBuilder) reasons(g group) arrow.Array {
	b := array.NewListBuilderWithField(p.mem, reasonsList.ElemField())
	defer b.Release()
	values := b.ValueBuilder().(*array.StringBuilder)
	next := rising(p.decision.Reasons)
	b.Reserve(g.rows)
	for _, r := range g.runs {
		for i := r.from; i < r.to; i++ {
			b.Append(true)
			if p.verdict == finding.Rejected {
				values.Append(string(r.batch.Refused[i].Code))
				continue
			}
			for _, code := range next(r.at + i) {
				values.Append(string(code))
			}
		}
	}
	return b.NewArray()
}

func (p *provenanceBuilder) findings(g group) arrow.Array {
	b := array.NewListBuilderWithField(p.mem, findingsList.ElemField())
	defer b.Release()
	entry := b.ValueBuilder().(*array.StructBuilder)
	detector := entry.FieldBuilder(0).(*array.StringBuilder)
	numbers := [3]*array.Float64Builder{}
	for i := range numbers {
		numbers[i] = entry.FieldBuilder(1 + i).(*array.Float64Builder)
	}
	evidence := entry.FieldBuilder(4).(*array.StringBuilder)
	next := rising(p.decision.Findings)
	b.Reserve(g.rows)
	for _, r := range g.runs {
		for i := r.from; i < r.to; i++ {
			b.Append(true)
			if p.verdict == finding.Rejected {
				entry.Append(true)
				detector.Append(ValidateDetector)
				for _, n := range numbers {
					n.AppendNull()
				}
				if place := faultPlace(&r.batch.Refused[i]); place != "" {
					evidence.Append(valid(place))
				} else {
					evidence.AppendNull()
				}
				continue
			}
			for _, f := range next(r.at + i) {
				entry.Append(true)
				detector.Append(valid(f.Detector))
				for j, x := range [3]float64{f.Score, f.PValue, f.Threshold} {
					if math.IsNaN(x) {
						numbers[j].AppendNull()
					} else {
						numbers[j].Append(x)
					}
				}
				evidence.Append(valid(f.Evidence))
			}
		}
	}
	return b.NewArray()
}

// rising returns what a sparse map has for a row, for rows that are asked for in rising order.
func rising[T any](of map[int][]T) func(row int) []T {
	rows := slices.Sorted(maps.Keys(of))
	return func(row int) []T {
		for len(rows) > 0 && rows[0] < row {
			rows = rows[1:]
		}
		if len(rows) == 0 || rows[0] != row {
			return nil
		}
		return of[row]
	}
}

// faultPlace says where a refused message is at fault: "/items/price byte 17".
func faultPlace(r *record.Refused) string {
	if r.At < 0 {
		return r.Field
	}
	return fmt.Sprintf("%s byte %d", r.Field, r.At)
}

// refusals returns the array of a field of refusal.
func refusals(g group, field int, mem memory.Allocator) arrow.Array {
	b := array.NewBuilder(mem, refusal[field].Type)
	defer b.Release()
	bytes := func(b *array.BinaryBuilder, v []byte) {
		if v == nil {
			b.AppendNull()
		} else {
			b.Append(v)
		}
	}
	for _, r := range g.runs {
		for i := r.from; i < r.to; i++ {
			m := &r.batch.Refused[i].Message
			switch refusal[field].Name {
			case Key:
				bytes(b.(*array.BinaryBuilder), m.Key)
			case Raw:
				bytes(b.(*array.BinaryBuilder), m.Value)
			case Headers:
				lists := b.(*array.ListBuilder)
				entry := lists.ValueBuilder().(*array.StructBuilder)
				lists.Append(true)
				for _, h := range m.Headers {
					entry.Append(true)
					entry.FieldBuilder(0).(*array.StringBuilder).Append(valid(h.Key))
					bytes(entry.FieldBuilder(1).(*array.BinaryBuilder), h.Value)
				}
			}
		}
	}
	return b.NewArray()
}

// valid returns s with every byte that is not UTF-8 replaced by U+FFFD, since a Parquet string must be UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

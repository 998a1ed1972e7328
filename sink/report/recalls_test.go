package report

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

func TestRecalls(t *testing.T) {
	src := record.Source{Topic: "reviews", ID: "AAAAAAAAAAAAAAAAAAAAAQ", Partition: 2}
	recall := func(offset int64, evidence string) record.Recall {
		return record.Recall{Source: src, Offset: offset, Code: finding.PoisonTrigger, Finding: finding.Finding{Detector: "drip", PValue: 1e-6, Evidence: evidence}}
	}
	r := NewRecalls(map[string]contract.Roles{"reviews": {ID: "/who/id"}})
	r.Add(&manifest.Manifest{Topic: "reviews", TopicID: "late", Partition: 7, First: 700, Committed: 20}, []record.Recall{recall(15, "later"), recall(12, "only once")})
	r.Add(&manifest.Manifest{Topic: "reviews", TopicID: "early", Partition: 8, First: 800, Committed: 10}, []record.Recall{recall(15, "earlier"), recall(99, "of no file \x1b[2J")})

	file := func(v finding.Verdict, first, next int64) manifest.File {
		return manifest.File{Name: manifest.NewFileName(v, src, 0, first, next, "0123456789abcdef").String()}
	}
	if got := r.Columns(file(finding.Accepted, 10, 20)); !slices.Contains(got, "who") || !slices.Contains(got, "taster_offset") {
		t.Errorf("of a file with recalled records the columns %v are wanted", got)
	}
	for _, f := range []manifest.File{file(finding.Accepted, 16, 20), file(finding.Quarantined, 10, 20)} {
		if got := r.Columns(f); got != nil {
			t.Errorf("of %s the columns %v are wanted", f.Name, got)
		}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "who", Type: arrow.StructOf(arrow.Field{Name: "id", Type: arrow.BinaryTypes.String, Nullable: true})},
		{Name: "taster_topic", Type: arrow.BinaryTypes.String}, {Name: "taster_source", Type: arrow.BinaryTypes.String},
		{Name: "taster_partition", Type: arrow.PrimitiveTypes.Int32}, {Name: "taster_offset", Type: arrow.PrimitiveTypes.Int64},
	}, nil))
	defer b.Release()
	for offset := int64(10); offset < 20; offset++ {
		b.Field(0).(*array.StructBuilder).Append(true)
		b.Field(0).(*array.StructBuilder).FieldBuilder(0).(*array.StringBuilder).Append("id-" + string(rune('a'+offset-10)))
		b.Field(1).(*array.StringBuilder).Append(src.Topic)
		b.Field(2).(*array.StringBuilder).Append(src.ID)
		b.Field(3).(*array.Int32Builder).Append(src.Partition)
		b.Field(4).(*array.Int64Builder).Append(offset)
	}
	rows := b.NewRecordBatch()
	defer rows.Release()
	if err := r.AddRows(rows); err != nil {
		t.Fatal(err)
	}

	recalled := &Recalled{Recalls: r.List(), Unreadable: 3}
	var got []string
	for _, c := range recalled.Recalls {
		got = append(got, c.ID+" "+c.Evidence)
	}
	if want := []string{"id-c only once", "id-f earlier", "AAAAAAAAAAAAAAAAAAAAAQ/2/99 of no file \x1b[2J"}; !slices.Equal(got, want) {
		t.Errorf("recalled %q, want %q", got, want)
	}
	if at := recalled.Recalls[1].At; at != (RecalledAt{"early", 8, 800}) {
		t.Errorf("found by %+v", at)
	}
	text, err := json.Marshal(recalled)
	if err != nil || !strings.Contains(string(text), `"id":"id-c","reason":"poison_trigger","detector":"drip"`) || !strings.Contains(string(text), `"at":{"source":"late","partition":7,"first":700}`) {
		t.Errorf("%s: %v", text, err)
	}
	var out bytes.Buffer
	if err := recalled.Text(&out); err != nil || !strings.Contains(out.String(), "reviews/2/12") || !strings.Contains(out.String(), "3 more") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%s: %v", out.String(), err)
	}
	if text, err := json.Marshal(&Recalled{Recalls: NewRecalls(nil).List()}); err != nil || string(text) != `{"recalls":[]}` {
		t.Errorf("nothing is recalled: %s, %v", text, err)
	}
}

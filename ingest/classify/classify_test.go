package classify

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/ingest/sanitize"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/record"
)

func TestRows(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "patient", Type: arrow.StructOf(arrow.Field{Name: "diagnosis", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[
		{"id":"0","patient":{"diagnosis":null}}, {"id":"1","patient":null}, {"id":"2","patient":{"diagnosis":"flu"}},
		{"id":"3","patient":null}, {"id":"4","patient":{"diagnosis":"cold"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	found := []sanitize.Outcome{{Row: 1, Redacted: 1}, {Row: 3, Redacted: 1, Kept: 2}, {Row: 4, Kept: 1}}
	const p, i, c, x = record.Public, record.Internal, record.Confidential, record.Restricted
	for _, test := range []struct {
		base       record.Classification
		restricted []string
		want       []record.Classification
	}{
		{p, nil, []record.Classification{p, i, p, c, c}},
		{c, nil, []record.Classification{c, c, c, c, c}},
		{p, []string{"/patient/diagnosis"}, []record.Classification{p, i, x, c, x}},
		{p, []string{"/id"}, []record.Classification{x, x, x, x, x}},
		{x, []string{"/dropped"}, []record.Classification{x, x, x, x, x}},
	} {
		rows := New(&contract.Contract{Classification: test.base, Restricted: test.restricted}).Rows(rec, found)
		if !slices.Equal(rows, test.want) {
			t.Errorf("%v with %v restricted: %v, want %v", test.base, test.restricted, rows, test.want)
		}
	}
}

// A batch is one allocation, and a look for each restricted column.
func TestRowsAllocateOnce(t *testing.T) {
	const rows = 4000
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for range rows {
		b.Append("x")
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.BinaryTypes.String}}, nil)
	rec := array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, rows)
	defer rec.Release()
	c := New(&contract.Contract{Classification: record.Internal, Restricted: []string{"/id"}})
	if n := testing.AllocsPerRun(10, func() { c.Rows(rec, nil) }); n > 8 {
		t.Errorf("%v allocations for %d rows", n, rows)
	}
}

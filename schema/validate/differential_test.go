package validate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/finding"
)

// expectation is what is to become of a message, worked out with nothing of this package.
type expectation struct {
	value *instance    // nil when the bytes are no strict JSON
	code  finding.Code // the reason that there must be; "" where only a verdict is expected
	at    int64
	valid bool // it is strict JSON, within the limits, and jsonschema/v5 finds it valid
}

func expect(rules *jsonschema.Schema, text []byte) (e expectation) {
	v, err := read(text)
	if err != nil {
		return e
	}
	e.value = v
	// The limits: the first place at which one is broken.
	var walk func(v *instance, depth int) bool
	walk = func(v *instance, depth int) bool {
		if v.kind == '0' {
			if _, ok := v.float(); !ok {
				e.code, e.at = finding.NumberRange, int64(v.at)
				return false
			}
		}
		if v.kind == '[' || v.kind == '{' {
			if depth == DefaultDepth {
				e.code, e.at = finding.TooDeep, int64(v.at)
				return false
			}
		}
		for _, item := range v.items {
			if !walk(item, depth+1) {
				return false
			}
		}
		return true
	}
	if !walk(v, 0) {
		return e
	}
	e.valid = rules.Validate(v.reference()) == nil
	return e
}

func compileMemory(schema []byte, opt Options) (*Schema, *documents, error) {
	const at = "file:///s.json"
	docs := &documents{
		read:  func(string) ([]byte, error) { return schema, nil },
		name:  func(url string) string { return url },
		draft: jsonschema.Draft2020,
	}
	s, err := compile(at, docs, opt)
	return s, docs, err
}

func compileReference(schema []byte) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.LoadURL = func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(schema)), nil }
	return c.Compile("file:///s.json")
}

// row finds a value in a row of a column.
type row struct {
	schema *Schema
	extra  []string // pointers and values of what has no column
}

// fits tells whether the columns can take a valid value, and why they cannot.
func (r *row) fits(f arrow.Field, v *instance) (finding.Code, bool) {
	if v == nil || v.kind == 'n' || f.HasMetadata() && f.Metadata.FindKey(MetaJSON) >= 0 {
		return "", true
	}
	switch t := f.Type.(type) {
	case *arrow.Int64Type:
		return finding.NumberRange, v.kind != '0' || v.exact().Num().IsInt64()
	case *arrow.StructType:
		for _, child := range t.Fields() {
			if code, ok := r.fits(child, v.member(child.Name)); !ok {
				return code, false
			}
		}
	case *arrow.ListType:
		for _, item := range v.items {
			if t.Elem() == arrow.PrimitiveTypes.Float32 {
				if item.kind == 'n' {
					return finding.VectorValue, false
				}
				if x, _ := item.float(); math.IsInf(float64(float32(x)), 0) {
					return finding.VectorValue, false
				}
			} else if code, ok := r.fits(t.ElemField(), item); !ok {
				return code, false
			}
		}
	}
	return "", true
}

// same compares a row of a column with the value that it was made from.
func (r *row) same(c arrow.Array, f arrow.Field, i int, path string, v *instance) error {
	if null := v == nil || v.kind == 'n'; null || c.IsNull(i) {
		if !null || c.IsValid(i) {
			return fmt.Errorf("%s: null: %t", path, c.IsNull(i))
		}
		return nil
	}
	differs := func(got any) error { return fmt.Errorf("%s: %v from %s", path, got, v.raw) }
	switch c := c.(type) {
	case *array.String:
		want := v.text
		if f.HasMetadata() && f.Metadata.FindKey(MetaJSON) >= 0 {
			want = v.raw
		} else if v.kind != '"' {
			return differs(c.Value(i))
		}
		if c.Value(i) != want {
			return differs(c.Value(i))
		}
	case *array.Int64:
		if v.kind != '0' || new(big.Rat).SetInt64(c.Value(i)).Cmp(v.exact()) != 0 {
			return differs(c.Value(i))
		}
	case *array.Float64:
		if want, _ := v.float(); v.kind != '0' || math.Float64bits(want) != math.Float64bits(c.Value(i)) {
			return differs(c.Value(i))
		}
	case *array.Boolean:
		if v.kind != 't' && v.kind != 'f' || c.Value(i) != (v.kind == 't') {
			return differs(c.Value(i))
		}
	case *array.Struct:
		fields := f.Type.(*arrow.StructType).Fields()
		columns := make([]arrow.Array, len(fields))
		for k := range fields {
			columns[k] = c.Field(k)
		}
		return r.members(columns, fields, i, path, v)
	case *array.List:
		from, to := c.ValueOffsets(i)
		if v.kind != '[' || int(to-from) != len(v.items) {
			return differs(to - from)
		}
		for k, item := range v.items {
			if floats, ok := c.ListValues().(*array.Float32); ok {
				if want, _ := item.float(); item.kind != '0' || math.Float32bits(float32(want)) != math.Float32bits(floats.Value(int(from)+k)) {
					return differs(floats.Value(int(from) + k))
				}
				continue
			}
			elem := f.Type.(*arrow.ListType).ElemField()
			if err := r.same(c.ListValues(), elem, int(from)+k, fmt.Sprintf("%s/%d", path, k), item); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s: a column of %v", path, c.DataType())
	}
	return nil
}

// members compares the members of an object, in the order in which they stand: so taster_extra has them.
func (r *row) members(columns []arrow.Array, fields []arrow.Field, i int, path string, v *instance) error {
	if v.kind != '{' {
		return fmt.Errorf("%s: a struct from %s", path, v.raw)
	}
	found := map[string]bool{}
	for k, key := range v.keys {
		at := pointerTo(path, key)
		j := slices.IndexFunc(fields, func(f arrow.Field) bool { return f.Name == key })
		if declared, ok := r.schema.fields[at]; j < 0 && ok && declared.Dropped {
			continue
		}
		if j < 0 {
			r.extra = append(r.extra, at, v.items[k].raw)
			continue
		}
		found[key] = true
		if err := r.same(columns[j], fields[j], i, at, v.items[k]); err != nil {
			return err
		}
	}
	for j, f := range fields {
		if !found[f.Name] {
			if err := r.same(columns[j], f, i, pointerTo(path, f.Name), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds compares one row of a batch with the message that it was made from.
func (s *Schema) holds(batch arrow.RecordBatch, i int, v *instance) error {
	r := row{schema: s}
	last := int(batch.NumCols()) - 1
	if err := r.members(batch.Columns()[:last], batch.Schema().Fields()[:last], i, "", v); err != nil {
		return err
	}
	extra := batch.Column(last).(*array.String)
	if len(r.extra) == 0 || extra.IsNull(i) {
		if len(r.extra) > 0 || extra.IsValid(i) {
			return fmt.Errorf("taster_extra: null: %t, for %q", extra.IsNull(i), r.extra)
		}
		return nil
	}
	got, err := read([]byte(extra.Value(i)))
	if err != nil {
		return fmt.Errorf("taster_extra is no JSON object: %s", extra.Value(i))
	}
	var pairs []string
	for k, key := range got.keys {
		pairs = append(pairs, key, got.items[k].raw)
	}
	if !slices.Equal(pairs, r.extra) {
		return fmt.Errorf("taster_extra has %q, and the message %q", pairs, r.extra)
	}
	return nil
}

// tally counts what was compared.
type tally struct {
	schemas, compiled, planned, stored int
	accepted, refused, notJSON         int
	otherwise, plain, instances        int
	passed                             int // records that the pass read
}

func (t *tally) String() string {
	return fmt.Sprintf("%d schemas, %d of them without conditions, %d judged without the whole record, %d with columns; %d instances, %d accepted, %d read in one pass, %d refused, %d no strict JSON; %d of %d refused by plans told otherwise",
		t.schemas, t.compiled, t.planned, t.stored, t.instances, t.accepted, t.passed, t.refused, t.notJSON, t.otherwise, t.plain)
}

// trial compares what becomes of messages with what is expected, for one schema.
type trial struct {
	what              string
	count             *tally
	rules             *jsonschema.Schema
	checks            *Schema // for CheckJSON
	checker           *Decoder
	stored            *Schema  // the same with vectors and dropped fields, which CheckJSON is not for
	fast, slow, clean *Decoder // as always; by way of the tape; the same, of good messages only. nil: the schema has no columns
	kept              []*instance
}

func (r *trial) different(format string, a ...any) error {
	return fmt.Errorf("%s\n%s", r.what, fmt.Sprintf(format, a...))
}

// newTrial compiles a schema; nil when jsonschema/v5 cannot.
func newTrial(what string, schema []byte, count *tally, options func(map[string]Field) Options) (*trial, error) {
	r := &trial{what: fmt.Sprintf("%s: schema %s", what, schema), count: count}
	var err error
	if r.rules, err = compileReference(schema); err != nil {
		return nil, nil // a $ref to itself; the planner must not be worse off
	}
	s, docs, err := compileMemory(schema, Options{})
	if err != nil {
		return nil, r.different("%v", err)
	}
	r.checks, r.checker = s, s.newChecker()
	count.schemas++
	if s.compiled {
		count.compiled++
	}
	if !s.whole {
		count.planned++
	}
	if len(s.store(docs, "s.json", Options{})) > 0 {
		return r, nil
	}
	count.stored++
	opt := options(s.fields)
	if r.stored, docs, err = compileMemory(schema, opt); err != nil {
		return nil, r.different("%v", err)
	}
	if faults := r.stored.store(docs, "s.json", opt); len(faults) > 0 {
		return nil, r.different("%v", faults)
	}
	r.fast, r.slow, r.clean = r.stored.NewDecoder(&stained{}), r.stored.NewDecoder(memory.DefaultAllocator), r.stored.NewDecoder(memory.DefaultAllocator)
	r.clean.pass = nil
	return r, nil
}

// try compares one message.
func (r *trial) try(value []byte, with *instructions) error {
	// What is behind the message in memory is none of its business.
	value = slices.Clip(append(make([]byte, 0, len(value)+16), value...))
	r.count.instances++
	want := expect(r.rules, value)
	got := r.checks.CheckJSON(value)
	if (got == nil) != want.valid {
		return r.different("value %s\ngot %v, want valid: %t", value, got, want.valid)
	}
	if r.checker.parse(value) == nil && r.checker.check() == nil && r.checker.unmet {
		return r.different("value %s\na condition of the plan is not met, and jsonschema/v5 finds the value valid", value)
	}
	if want.code != "" && (got.Code != want.code || got.At != want.at) {
		return r.different("value %s\ngot %v, want %s at byte %d", value, got, want.code, want.at)
	}
	switch {
	case want.value == nil:
		r.count.notJSON++
		if strings.HasPrefix(string(got.Code), "schema_") {
			return r.different("value %s\ngot %v of what is no strict JSON", value, got)
		}
	case got == nil:
		r.count.accepted++
	default:
		r.count.refused++
	}
	if got != nil && want.value != nil && want.code == "" && r.checks.compiled {
		r.count.plain++
		if told := r.checks.reference(&r.checker.tape); told.Code != got.Code || told.Field != got.Field || told.At != got.At {
			r.count.otherwise++
		}
	}
	if r.fast == nil {
		return nil
	}
	if r.fast.pass != nil { // it never gets a rest here
		r.fast.pass.misses, r.fast.pass.idle, r.fast.pass.with = 0, 0, with
	}
	quick, plain := r.fast.Append(value), r.slow.append(value)
	if quick == nil && r.fast.pass != nil && r.fast.pass.misses == 0 {
		r.count.passed++
	}
	if (quick == nil) != (plain == nil) || quick != nil && *quick != *plain {
		return r.different("value %s\nAppend says %v, by way of the tape %v", value, quick, plain)
	}
	code, fits := finding.Code(""), true
	if want.valid && want.value.kind == '{' {
		columns := row{schema: r.stored}
		code, fits = columns.fits(arrow.Field{Type: arrow.StructOf(r.stored.columns.Fields()...)}, want.value)
	}
	switch {
	case !want.valid && quick == nil || want.valid && want.value.kind == '{' && fits != (quick == nil):
		return r.different("value %s\nAppend says %v; valid: %t, fits: %t (%s)", value, quick, want.valid, fits, code)
	case quick == nil:
		if again := r.clean.Append(value); again != nil {
			return r.different("%v", again)
		}
		r.kept = append(r.kept, want.value)
	}
	if quick != nil && !fits && quick.Code != code && quick.Code != finding.NumberRange && quick.Code != finding.VectorValue {
		return r.different("value %s\nAppend says %v, want %s", value, quick, code)
	}
	return nil
}

// end compares the columns.
func (r *trial) end() error {
	if r.fast == nil {
		return nil
	}
	a, b, same := r.fast.Take(), r.clean.Take(), r.slow.Take()
	defer a.Release()
	defer b.Release()
	defer same.Release()
	for i, c := range a.Columns() {
		if err := wellFormed(c); err != nil {
			return r.different("column %s: %v", a.ColumnName(i), err)
		}
	}
	if !array.RecordEqual(a, b) {
		return r.different("refused records left a trace:\n%v\n%v", a, b)
	}
	if !array.RecordEqual(a, same) {
		return r.different("Append fills columns otherwise than by way of the tape:\n%v\n%v", a, same)
	}
	for i, v := range r.kept {
		if err := r.stored.holds(a, i, v); err != nil {
			return r.different("value %s\nrow %d: %v", v.raw, i, err)
		}
	}
	r.kept = r.kept[:0]
	return nil
}

// differ makes one schema and some values from a seed, and compares everything that can be compared.
func differ(seed uint64, steered []byte, count *tally) error {
	g := newGenerator(seed, steered)
	schema := g.root(seed%3 == 0)
	r, err := newTrial(fmt.Sprintf("seed %d", seed), schema, count, func(fields map[string]Field) (opt Options) {
		for _, pointer := range slices.Sorted(maps.Keys(fields)) {
			if slices.ContainsFunc(opt.Drop, func(dropped string) bool { return strings.HasPrefix(pointer, dropped+"/") }) {
				continue // a contract cannot drop what plays a part
			}
			if elem := fields[pointer].Elem; elem != nil && (elem.ID() == arrow.INT64 || elem.ID() == arrow.FLOAT64) && g.chance(2) {
				opt.Vectors = append(opt.Vectors, pointer)
			} else if g.chance(20) {
				opt.Drop = append(opt.Drop, pointer)
			}
		}
		return opt
	})
	if r == nil || err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(schema))
	decoder.UseNumber()
	f := fitter{generator: g}
	if err := decoder.Decode(&f.whole); err != nil {
		return r.different("%v", err)
	}
	for range 24 {
		v := f.fit(f.whole, 5)
		for range 8 {
			if text := f.write(nil, v, compact); expect(r.rules, text).valid || g.chance(8) {
				break
			}
			v = f.fit(f.whole, 5)
		}
		for g.chance(3) {
			f.mutate(v)
		}
		value := f.write(nil, v, g.IntN(odd+1))
		if g.chance(6) {
			value = f.spoil(value)
		}
		if err := r.try(value, levels[g.IntN(len(levels))]); err != nil {
			return err
		}
	}
	return r.end()
}

// TestDifferential compares verdicts, reasons and columns with jsonschema/v5 and jsontext, on schemas and instances that
// are made together. TASTER_DIFFERENTIAL, a duration, makes it a long run, which begins at the seed
// TASTER_DIFFERENTIAL_SEED and tells of every difference.
func TestDifferential(t *testing.T) {
	var count tally
	if long := os.Getenv("TASTER_DIFFERENTIAL"); long != "" {
		duration, err := time.ParseDuration(long)
		if err != nil {
			t.Fatal(err)
		}
		seed := uint64(1 << 32)
		if from := os.Getenv("TASTER_DIFFERENTIAL_SEED"); from != "" {
			if seed, err = strconv.ParseUint(from, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		differences := 0
		for start := time.Now(); time.Since(start) < duration && differences < 100; seed++ {
			if err := differ(seed, nil, &count); err != nil {
				differences++
				t.Error(err)
				fmt.Fprintln(os.Stderr, err)
			}
			if seed%2_000 == 0 {
				fmt.Fprintf(os.Stderr, "%s, seed %d: %d differences; %s\n", time.Since(start).Round(time.Second), seed, differences, &count)
			}
		}
		t.Logf("%d differences; %s", differences, &count)
		return
	}
	rounds := 700
	if testing.Short() {
		rounds = 150
	}
	for seed := range uint64(rounds) {
		if err := differ(seed, nil, &count); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(&count)
	if count.compiled < rounds/4 || count.planned < rounds*2/3 || count.accepted < 3*rounds || count.refused < 4*rounds || count.notJSON < rounds {
		t.Error("the generator has become one-sided: this compares too little")
	}
	// Where several things are wrong, the same one should be told, whoever checks.
	if count.otherwise > count.plain/8 {
		t.Errorf("for %d of %d refused values plan and jsonschema/v5 tell different reasons", count.otherwise, count.plain)
	}
}

func FuzzDifferential(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed*7919, []byte{})
		f.Add(seed, []byte(strings.Repeat(string(rune('0'+seed)), 40)))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steered []byte) {
		if err := differ(seed, steered, &tally{}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRecord compares what becomes of any bytes, for schemas of ordinary traffic.
func FuzzRecord(f *testing.F) {
	var trials []*trial
	for k, w := range append(workloads(), threads(), workload{name: "everything", schema: everything, vectors: []string{"/v"}}) {
		for _, record := range w.records[:min(3, len(w.records))] {
			f.Add(byte(k), record)
		}
		r, err := newTrial(w.name, []byte(w.schema), &tally{}, func(map[string]Field) Options { return Options{Vectors: w.vectors} })
		if err != nil || r == nil {
			f.Fatal(w.name, err)
		}
		trials = append(trials, r)
	}
	for _, text := range recordSeeds(f) {
		f.Add(byte(len(trials)-1), text)
	}
	f.Fuzz(func(t *testing.T, which byte, record []byte) {
		r := trials[int(which)%len(trials)]
		for _, with := range levels {
			if err := r.try(record, with); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
}

//go:build services

package landing

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
	"github.com/tasterhq/taster/sink/envelope/kmstest"
	"github.com/tasterhq/taster/sink/kmsclient/enginetest"
)

// clinicSchema has every kind of column that a schema can become, restricted ones among them.
const clinicSchema = `{"type": "object", "required": ["id"], "properties": {
	"id": {"type": "integer"},
	"title": {"type": ["string", "null"]},
	"price": {"type": ["number", "null"]},
	"seen": {"type": ["boolean", "null"]},
	"tags": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
	"place": {"type": ["object", "null"], "properties": {
		"city": {"type": ["string", "null"]},
		"at": {"type": ["array", "null"], "items": {"type": ["number", "null"]}}}},
	"visits": {"type": ["array", "null"], "items": {"type": ["object", "null"], "properties": {
		"room": {"type": ["string", "null"]},
		"minutes": {"type": ["integer", "null"]},
		"pulses": {"type": ["array", "null"], "items": {"type": ["integer", "null"]}}}}},
	"embedding": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
	"anything": {},
	"diagnosis": {"type": ["string", "null"]},
	"patient": {"type": ["object", "null"], "properties": {
		"name": {"type": ["string", "null"]},
		"scores": {"type": ["array", "null"], "items": {"type": ["number", "null"]}}}}}}`

var clinic = record.Source{Topic: "_clinic visits/é", ID: "_AAAAAAAQACAAAAAAAAAAQ", Partition: 4}

// fullRow is one row as every engine must read it, but for the columns that clinicRow leaves out.
type fullRow map[string]any

// clinicRow makes the record of an offset, and its columns. Absent and null fields alternate.
func clinicRow(at int64) (value []byte, row fullRow) {
	row = fullRow{
		"id": at, "title": nil, "price": nil, "seen": nil, "tags": nil, "place": nil, "visits": nil, "embedding": nil,
		"anything": nil, "diagnosis": nil, "patient": nil, "taster_extra": nil,
	}
	set := func(name string, every int64, v any) {
		if at%every != 0 {
			row[name] = v
		}
	}
	set("title", 3, fmt.Sprintf("Visit %d, „größer“ 🩺", at))
	set("price", 4, float64(at)*1.1+1e-9)
	set("seen", 5, at%2 == 0)
	set("tags", 3, slices.Repeat([]any{fmt.Sprintf("t%d", at%4)}, int(at%4)))
	set("place", 6, map[string]any{"city": []any{"Wien", nil}[at%2], "at": []any{[]any{float64(at) / 8, -0.5}, nil, []any{}}[at%3]})
	set("visits", 4, []any{
		map[string]any{"room": fmt.Sprint(at), "minutes": math.MaxInt64 - at, "pulses": []any{at, 7}},
		map[string]any{"room": nil, "minutes": nil, "pulses": nil},
	})
	set("embedding", 7, []any{float64(at), 0.25, -1.5, 1e10})
	set("diagnosis", 2, fmt.Sprintf("secret diagnosis %d", at))
	set("patient", 3, map[string]any{"name": fmt.Sprintf("secret name %d", at), "scores": []any{0.1, float64(at)}})
	in := maps.Clone(row)
	delete(in, "taster_extra")
	if in["embedding"] == nil {
		delete(in, "embedding") // a vector may be absent, not null
	}
	if at%2 == 0 {
		maps.DeleteFunc(in, func(_ string, v any) bool { return v == nil })
	}
	if at%3 == 1 {
		in["anything"], row["anything"] = map[string]any{"n": []any{1, at}}, fmt.Sprintf(`{"n":[1,%d]}`, at)
		in["colour"], row["taster_extra"] = "red", `{"/colour":"red"}`
	}
	value, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	return value, row
}

// clinicSegment makes the offsets [first, next): every eleventh is a gap, every seventh is refused, every fifth row is
// quarantined. It returns every landed row by verdict and offset.
func clinicSegment(t *testing.T, schema *validate.Schema, first, next, opened int64) (*record.Segment, *record.Decision, map[finding.Verdict]map[int64]fullRow) {
	t.Helper()
	seg := &record.Segment{Source: clinic, First: first, Next: next, Opened: opened}
	dec := &record.Decision{Reasons: map[int][]finding.Code{}, Findings: map[int][]finding.Finding{}, Threshold: 0.9, Calibrated: "batch", Detectors: []string{"outlier/1"}}
	want := map[finding.Verdict]map[int64]fullRow{}
	put := func(v finding.Verdict, at, timestamp int64, row, provenance fullRow) {
		maps.Copy(row, fullRow{"taster_topic": clinic.Topic, "taster_source": clinic.ID, "taster_partition": clinic.Partition,
			"taster_offset": at, "taster_timestamp": timestamp, "taster_verdict": v.String()})
		maps.Copy(row, provenance)
		if want[v] == nil {
			want[v] = map[int64]fullRow{}
		}
		want[v][at] = row
	}
	decoder := schema.NewDecoder(memory.DefaultAllocator)
	defer decoder.Release()
	for at := first; at < next; {
		batch := &record.Batch{}
		for ; at < next && len(batch.Origins) < 20; at++ {
			timestamp := 1767225600000 + at*86399999
			switch {
			case at%11 == 10:
			case at%7 == 6:
				m := record.Message{Offset: at, Timestamp: timestamp, Value: fmt.Appendf(nil, "{\"secret raw\": %d\x00\xff", at)}
				row := fullRow{"taster_key": nil, "taster_headers": []any{}, "taster_raw": m.Value}
				if at%2 == 0 {
					m.Key, m.Headers = []byte{0, byte(at)}, []record.Header{{Key: "h", Value: []byte("v")}, {Key: "h"}}
					row["taster_key"], row["taster_headers"] = m.Key, []any{map[string]any{"key": "h", "value": []byte("v")}, map[string]any{"key": "h", "value": nil}}
				}
				if at%3 == 0 {
					m.Value, row["taster_raw"] = nil, nil
				}
				batch.Refused = append(batch.Refused, record.Refused{Message: m, Code: finding.JSONSyntax, Field: "/title", At: 17})
				put(finding.Rejected, at, timestamp, row, fullRow{"taster_provider": nil, "taster_risk": nil, "taster_classification": "confidential",
					"taster_reasons":  []any{"json_syntax"},
					"taster_findings": []any{map[string]any{"detector": "validate", "score": nil, "p_value": nil, "threshold": nil, "evidence": "/title byte 17"}}})
			default:
				value, row := clinicRow(at)
				if refusal := decoder.Append(value); refusal != nil {
					t.Fatalf("%v: %s", refusal, value)
				}
				provider, class := []string{"", "acme", "Ümit"}[at%3], []record.Classification{record.Confidential, record.Restricted}[at%2]
				batch.Origins = append(batch.Origins, record.Origin{Offset: at, Timestamp: timestamp})
				batch.Providers, batch.Classifications = append(batch.Providers, provider), append(batch.Classifications, class)
				batch.Bytes += int64(len(value))
				i, v, risk := len(dec.Verdicts), finding.Accepted, float64(at)/1000
				provenance := fullRow{"taster_provider": nil, "taster_risk": risk, "taster_classification": class.String(), "taster_reasons": []any{}, "taster_findings": []any{}}
				if provider != "" {
					provenance["taster_provider"] = provider
				}
				if i%5 == 3 {
					v = finding.Quarantined
					dec.Reasons[i] = []finding.Code{finding.PoisonOutlier, finding.PoisonTrigger}
					dec.Findings[i] = []finding.Finding{{Detector: "outlier", Score: 9, PValue: 0.001, Threshold: math.NaN(), Evidence: "secret evidence"}}
					provenance["taster_reasons"] = []any{"poison_outlier", "poison_trigger"}
					provenance["taster_findings"] = []any{map[string]any{"detector": "outlier", "score": 9, "p_value": 0.001, "threshold": nil, "evidence": "secret evidence"}}
				}
				dec.Verdicts, dec.Risks = append(dec.Verdicts, v), append(dec.Risks, risk)
				put(v, at, timestamp, row, provenance)
			}
		}
		batch.Records = decoder.Take()
		seg.Batches = append(seg.Batches, batch)
	}
	return seg, dec, want
}

// written is a landing zone that taster's own code wrote, and what must be found in it.
type written struct {
	dir   string
	zone  *Zone
	urls  map[string]string // key URL by the name that it has in this test
	rows  map[finding.Verdict]map[int64]fullRow
	files map[finding.Verdict][]string // paths
}

// keys returns the URLs of some keys.
func (w *written) keys(names ...string) []string {
	urls := make([]string, len(names))
	for i, name := range names {
		urls[i] = w.urls[name]
	}
	return urls
}

// folder returns the folder of a verdict, with all its days.
func (w *written) folder(v finding.Verdict) string {
	return filepath.Join(w.dir, v.String(), manifest.Escape(clinic.Topic))
}

// clinicKeys makes a key file and returns the URL of each key by its name.
func clinicKeys(t *testing.T, names ...string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, names...); err != nil {
		t.Fatal(err)
	}
	urls := map[string]string{}
	for _, name := range names {
		urls[name] = "keyfile://" + path + "#" + name
	}
	return urls
}

// writeClinic lands two segments, opened on two days, under the keys named default, quarantined and medic.
func writeClinic(t *testing.T, opt Options, urls map[string]string) *written {
	t.Helper()
	w := &written{dir: t.TempDir(), urls: urls, rows: map[finding.Verdict]map[int64]fullRow{}, files: map[finding.Verdict][]string{}}
	keys, err := envelope.Settings{Services: kms.Open, Zones: map[string]string{
		"default": urls["default"], "quarantined": urls["quarantined"], "restricted": urls["medic"]}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "clinic.schema.json")
	if err := os.WriteFile(path, []byte(clinicSchema), 0o600); err != nil {
		t.Fatal(err)
	}
	schema, faults := validate.Compile(path, validate.Options{Vectors: []string{"/embedding"}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	terms := &contract.Contract{Topic: clinic.Topic, Digest: accepted.Digest, Classification: record.Confidential, Restricted: []string{"/diagnosis", "/patient"}}
	opt.Store, opt.Keys, opt.Process, opt.GroupRows = posix(t, w.dir), keys, "p", 16
	z, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	w.zone = z
	h, err := z.Head(t.Context(), clinic, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, next := range []int64{100, 150} {
		seg, dec, rows := clinicSegment(t, schema, h.Next(), next, opened.UnixMilli()+int64(i)*86400000)
		if h, err = z.Commit(t.Context(), seg, dec, terms, h); err != nil {
			t.Fatal(err)
		}
		seg.Release()
		for v, byOffset := range rows {
			if w.rows[v] == nil {
				w.rows[v] = map[int64]fullRow{}
			}
			maps.Copy(w.rows[v], byOffset)
		}
		for _, file := range h.Last.Files {
			w.files[file.Verdict] = append(w.files[file.Verdict], filepath.Join(w.dir, filepath.FromSlash(file.Name)))
		}
	}
	return w
}

// sameCell tells whether two values are the same cell, numbers by their value whatever their spelling.
func sameCell(t *testing.T, want, got any) bool {
	t.Helper()
	return bytes.Equal(cell(t, want), cell(t, got))
}

func cell(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var decoded any
	if err := dec.Decode(&decoded); err != nil {
		t.Fatal(err)
	}
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			r, ok := new(big.Rat).SetString(v.String())
			if !ok {
				t.Fatalf("not a number: %s", v)
			}
			return "number " + r.RatString()
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	if text, err = json.Marshal(walk(decoded)); err != nil {
		t.Fatal(err)
	}
	return text
}

// checkRows compares cell by cell, over the columns that were read.
func checkRows(t *testing.T, got *enginetest.Table, want map[int64]fullRow, columns []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, row := range got.Rows {
		offset := fmt.Sprint(row["taster_offset"])
		if seen[offset] {
			t.Fatalf("offset %s was read twice", offset)
		}
		seen[offset] = true
		var at int64
		if _, err := fmt.Sscan(offset, &at); err != nil {
			t.Fatal(err)
		}
		expected, ok := want[at]
		if !ok {
			t.Fatalf("a row with offset %s, which did not land there", offset)
		}
		names := columns
		if names == nil {
			names = slices.Collect(maps.Keys(expected))
		}
		if len(row) != len(names) {
			t.Fatalf("offset %d has %d columns, want %d: %v", at, len(row), len(names), slices.Sorted(maps.Keys(row)))
		}
		for _, name := range names {
			if value, ok := row[name]; !ok || !sameCell(t, expected[name], value) {
				t.Errorf("offset %d, %s: %s, want %s", at, name, cell(t, value), cell(t, expected[name]))
			}
		}
	}
	if len(got.Rows) != len(want) {
		t.Errorf("%d rows, want %d", len(got.Rows), len(want))
	}
}

// refused checks that a query fails, and that the error says one of the words and holds no key and no content.
func refused(t *testing.T, e *enginetest.Engine, w *written, q enginetest.Query, words ...string) {
	t.Helper()
	got, err := e.Read(q)
	if err == nil {
		t.Fatalf("%d rows were read that should be refused", len(got.Rows))
	}
	if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(err.Error(), word) }) {
		t.Errorf("none of %q is in: %v", words, err)
	}
	for _, key := range keyBytes(t, w.urls["default"]) {
		for _, form := range []string{string(key), base64.StdEncoding.EncodeToString(key), fmt.Sprintf("%x", key)} {
			if strings.Contains(err.Error(), form) {
				t.Error("the error holds a key")
			}
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error holds content: %v", err)
	}
}

// keyBytes returns the keys of a key file.
func keyBytes(t *testing.T, url string) (keys [][]byte) {
	t.Helper()
	path, ok := strings.CutPrefix(url, "keyfile://")
	if !ok {
		return nil // they never leave their service
	}
	path, _, _ = strings.Cut(path, "#")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Keys map[string][]byte }
	if err := json.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Values(content.Keys))
}

func TestPyarrowOpensLandingZone(t *testing.T) { openedBy(t, enginetest.StartPyarrow) }

func TestSparkOpensLandingZone(t *testing.T) { openedBy(t, enginetest.StartSpark) }

// openedBy checks all that holds of files that taster wrote, whoever reads them.
func openedBy(t *testing.T, start func(testing.TB) *enginetest.Engine) {
	vault := httptest.NewServer(kmstest.NewVault(all...))
	defer vault.Close()
	t.Setenv("VAULT_ADDR", vault.URL)
	t.Setenv("VAULT_TOKEN", kmstest.Token)
	e := start(t)
	t.Run("internal", func(t *testing.T) {
		w := writeClinic(t, Options{}, clinicKeys(t, all...))
		checkValues(t, e, w)
		checkRefusals(t, e, w)
		checkDamage(t, e, w)
	})
	t.Run("guide", func(t *testing.T) { checkGuide(t, e, writeClinic(t, Options{External: true}, clinicKeys(t, all...))) })
	t.Run("external", func(t *testing.T) {
		names := []string{"default", "quarantined", "medic", "default-2", "quarantined-2", "medic-2"}
		w := writeClinic(t, Options{External: true}, clinicKeys(t, names...))
		checkValues(t, e, w)
		checkRefusals(t, e, w)
		checkDamage(t, e, w)
		checkRotation(t, e, w)
	})
	t.Run("key service", func(t *testing.T) {
		w := writeClinic(t, Options{}, map[string]string{"default": "hashivault://default", "quarantined": "hashivault://quarantined", "medic": "hashivault://medic"})
		checkValues(t, e, w)
		checkRefusals(t, e, w)
	})
}

var all = []string{"default", "quarantined", "medic"}

// checkValues reads everything, file by file and folder by folder.
func checkValues(t *testing.T, e *enginetest.Engine, w *written) {
	for _, v := range finding.Verdicts {
		t.Run(v.String(), func(t *testing.T) {
			got, err := e.Read(enginetest.Query{Paths: w.files[v], Keys: w.keys(all...)})
			if err != nil {
				t.Fatal(err)
			}
			checkRows(t, got, w.rows[v], nil)
			checkTypes(t, e.Name, got.Fields)
			// The whole folder, days and all.
			if got, err = e.Read(enginetest.Query{Paths: []string{w.folder(v)}, Keys: w.keys(all...), Dataset: true, SchemaFrom: w.files[v][0]}); err != nil {
				t.Fatal(err)
			}
			checkRows(t, got, w.rows[v], nil)
		})
	}
}

// checkRefusals reads with too few keys, and with others of the same names.
func checkRefusals(t *testing.T, e *enginetest.Engine, w *written) {
	t.Run("without the restricted key", func(t *testing.T) {
		open := []string{"id", "title", "tags", "place", "visits", "embedding", "anything", "taster_extra", "taster_offset", "taster_timestamp", "taster_reasons", "taster_risk"}
		for _, dataset := range []bool{false, true} {
			q := enginetest.Query{Paths: w.files[finding.Accepted], Keys: w.keys("default"), Columns: open}
			if dataset {
				q.Paths, q.Dataset, q.SchemaFrom = []string{w.folder(finding.Accepted)}, true, w.files[finding.Accepted][0]
			}
			got, err := e.Read(q)
			if err != nil {
				t.Fatal(err)
			}
			checkRows(t, got, w.rows[finding.Accepted], open)
			for _, column := range []string{"diagnosis", "patient", "taster_findings"} {
				q.Columns = []string{"taster_offset", column}
				refused(t, e, w, q, "medic", "Hidden")
			}
		}
		for _, column := range []string{"taster_raw", "taster_key", "taster_headers"} {
			refused(t, e, w, enginetest.Query{Paths: w.files[finding.Rejected], Keys: w.keys("default"), Columns: []string{column}}, "medic", "Hidden")
		}
		if names, err := e.Names(w.files[finding.Accepted][0], w.keys("default")...); err != nil || names["diagnosis"] == "" {
			t.Errorf("the columns of a file: %v, %v", names, err)
		}
	})
	t.Run("without the footer key", func(t *testing.T) {
		refused(t, e, w, enginetest.Query{Paths: w.files[finding.Quarantined], Keys: w.keys("default", "medic"), Columns: []string{"id"}}, "quarantined")
	})
	if len(keyBytes(t, w.urls["default"])) == 0 {
		return // a service's key of that name is that key
	}
	t.Run("wrong key", func(t *testing.T) {
		other := clinicKeys(t, all...)
		refused(t, e, w, enginetest.Query{Paths: w.files[finding.Accepted], Keys: []string{other["default"], other["medic"]}, Columns: []string{"id"}}, "wrong key")
	})
}

// checkDamage reads changed and renamed files.
func checkDamage(t *testing.T, e *enginetest.Engine, w *written) {
	t.Run("changed byte", func(t *testing.T) {
		data, err := os.ReadFile(w.files[finding.Accepted][0])
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{0.1, 0.5, 0.9, 0.99} {
			bad := bytes.Clone(data)
			bad[int(share*float64(len(bad)))] ^= 0x20
			path := filepath.Join(t.TempDir(), "changed.parquet")
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			copyMaterial(t, w.files[finding.Accepted][0], path)
			refused(t, e, w, enginetest.Query{Paths: []string{path}, Keys: w.keys(all...)}, "ecrypt", "Tag mismatch", "not Parquet")
		}
	})
	// The AAD prefix, which binds a file to its name, is stored in the file, and engines believe what is stored.
	t.Run("renamed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "renamed.parquet")
		data, err := os.ReadFile(w.files[finding.Accepted][0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		copyMaterial(t, w.files[finding.Accepted][0], path)
		got, err := e.Read(enginetest.Query{Paths: []string{path}, Keys: w.keys(all...)})
		if err != nil || len(got.Rows) == 0 {
			t.Errorf("a renamed file does not open: %v", err)
		}
	})
}

// checkRotation has taster wrap the keys anew, under new master keys, and then the engine.
func checkRotation(t *testing.T, e *enginetest.Engine, w *written) {
	rotated, err := envelope.Settings{
		Zones:    map[string]string{"default": w.urls["default-2"], "quarantined": w.urls["quarantined-2"], "restricted": w.urls["medic-2"]},
		Previous: w.keys(all...),
	}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	opt := w.zone.opt
	opt.Keys = rotated
	z, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := z.Rotate(t.Context(), Rotation{Rule: "test"}); err != nil || done.Rotated != 6 {
		t.Fatalf("%+v, %v", done, err)
	}
	w.zone = z
	former := w.keys(all...)
	w.urls = map[string]string{"default": w.urls["default-2"], "quarantined": w.urls["quarantined-2"], "medic": w.urls["medic-2"]}
	t.Run("rotated", func(t *testing.T) {
		checkValues(t, e, w)
		refused(t, e, w, enginetest.Query{Paths: w.files[finding.Accepted], Keys: former, Columns: []string{"id"}}, "default-2")
	})
	t.Run("rotated by the engine", func(t *testing.T) {
		seen := map[string]bool{}
		for _, v := range finding.Verdicts {
			for _, path := range w.files[v] {
				if e.Name == "spark" { // it takes folders
					path = filepath.Dir(path)
				}
				if seen[path] {
					continue
				}
				seen[path] = true
				if err := e.Rotate(path, w.keys(all...)...); err != nil {
					t.Fatal(err)
				}
			}
		}
		checkValues(t, e, w)
		total := 0
		for _, rows := range w.rows {
			total += len(rows)
		}
		wantRows(t, z, int64(total))
	})
}

// copyMaterial gives a copy of a file the key material that lies beside the original, if any does.
func copyMaterial(t *testing.T, from, to string) {
	t.Helper()
	beside := func(path string) string {
		return filepath.Join(filepath.Dir(path), "_KEY_MATERIAL_FOR_"+filepath.Base(path)+".json")
	}
	data, err := os.ReadFile(beside(from))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(beside(to), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkGuide runs the snippets of docs/readers.md, but for the names of files, over a zone with an orphan and with a file that
// has expired.
func checkGuide(t *testing.T, e *enginetest.Engine, w *written) {
	text, err := os.ReadFile("../../docs/readers.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	// Built as go test builds, so that what was compiled for other tests serves again.
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "taster"), "../../cmd/taster").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keyPath, _, _ := strings.Cut(strings.TrimPrefix(w.urls["default"], "keyfile://"), "#")
	kmsclient, err := filepath.Abs("../kmsclient")
	if err != nil {
		t.Fatal(err)
	}
	guide := strings.NewReplacer(
		"/var/lib/taster/landing", w.dir, "--topic reviews", "--topic '"+clinic.Topic+"'", "accepted.txt", filepath.Join(dir, "accepted.txt"),
		"/etc/taster/keys.json", keyPath, "sink/kmsclient", kmsclient,
	).Replace(string(text))
	shell := func(script string) {
		t.Helper()
		run := exec.Command("sh", "-e", "-c", script)
		run.Dir = dir
		run.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
		if e.Name == "spark" {
			run.Env = append(run.Env, "SPARK_HOME="+enginetest.SparkHome(t))
		}
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}

	orphan := filepath.Join(filepath.Dir(w.files[finding.Accepted][0]), "orphan.parquet")
	if err := os.WriteFile(orphan, []byte("PARE what a killed writer left behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	// One file has expired: it does not count, though its bytes are there still.
	name, err := filepath.Rel(w.dir, w.files[finding.Accepted][1])
	if err != nil {
		t.Fatal(err)
	}
	const expired = 100 // the first offset of that file
	rows := int64(0)
	for at := range w.rows[finding.Accepted] {
		if at >= expired {
			rows++
			delete(w.rows[finding.Accepted], at)
		}
	}
	change := &manifest.Change{Version: manifest.Version, Topic: clinic.Topic, TopicID: clinic.ID, Partition: clinic.Partition, Kind: manifest.Retain,
		Process: "p", Writer: strings.Repeat("0", 32), Rule: "test", Removed: []manifest.Removed{{Name: filepath.ToSlash(name), Rows: rows}},
		Added: []manifest.File{}, Materials: []manifest.Material{}}
	data, err := change.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.zone.Store().Put(t.Context(), change.Name(), data); err != nil {
		t.Fatal(err)
	}

	for _, snippet := range snippets(t, guide, "Which files count", "sh") {
		shell(snippet)
	}
	section := map[string]string{"pyarrow": "pyarrow", "spark": "Spark"}[e.Name]
	if e.Name == "spark" {
		shell(strings.Join(snippets(t, guide, section, "sh"), "\n"))
		if _, err := os.Stat(filepath.Join(dir, "taster-kms.jar")); err != nil {
			t.Error(err)
		}
	}
	code := strings.Join(snippets(t, guide, section, "python"), "\n")
	var low []map[string]any
	if err := e.Run(code, nil, "low", &low); err != nil {
		t.Fatal(err)
	}
	want := 0
	for at, row := range w.rows[finding.Accepted] {
		if row["taster_risk"].(float64) >= 0.05 {
			continue
		}
		want++
		expected := map[string]any{"id": row["id"], "title": row["title"], "embedding": row["embedding"]}
		if !slices.ContainsFunc(low, func(got map[string]any) bool { return sameCell(t, expected, got) }) {
			t.Errorf("the row of offset %d was not read", at)
		}
	}
	if len(low) != want || want == 0 {
		t.Errorf("%d rows, want %d", len(low), want)
	}
	if e.Name == "spark" { // keys given as options reach the merging of schemas, too
		var n []map[string]any
		if err := e.Run(code+"\nn = spark.read.options(**keys, mergeSchema='true').parquet(*paths).selectExpr('count(*) AS n')", nil, "n", &n); err != nil ||
			len(n) != 1 || !sameCell(t, len(w.rows[finding.Accepted]), n[0]["n"]) {
			t.Errorf("with merged schemas: %v, %v", n, err)
		}
	}
	if e.Name == "pyarrow" {
		var refusal string
		if err := e.Run(code, nil, "refused", &refusal); err != nil || !strings.Contains(refusal, "medic") {
			t.Errorf("refused with %q, %v", refusal, err)
		}
	}
}

// snippets returns the blocks in one language of one section of a guide.
func snippets(t *testing.T, guide, section, language string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(guide, "\n## "+section+"\n")
	if !ok {
		t.Fatalf("the guide has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var out []string
	for _, block := range strings.Split(rest, "\n```"+language+"\n")[1:] {
		code, _, _ := strings.Cut(block, "\n```")
		out = append(out, code)
	}
	if len(out) == 0 {
		t.Fatalf("section %q has no %s", section, language)
	}
	return out
}

// columnTypes lists every column with its type in Arrow, as pyarrow spells it, and in Spark.
var columnTypes = map[string][2]string{
	"id":                    {"int64", "bigint"},
	"title":                 {"string", "string"},
	"price":                 {"double", "double"},
	"seen":                  {"bool", "boolean"},
	"tags":                  {"list<element: string>", "array<string>"},
	"place":                 {"struct<city: string, at: list<element: double>>", "struct<city:string,at:array<double>>"},
	"visits":                {"list<element: struct<room: string, minutes: int64, pulses: list<element: int64>>>", "array<struct<room:string,minutes:bigint,pulses:array<bigint>>>"},
	"embedding":             {"list<element: float not null>", "array<float>"},
	"anything":              {"string", "string"},
	"taster_extra":          {"string", "string"},
	"diagnosis":             {"string", "string"},
	"patient":               {"struct<name: string, scores: list<element: double>>", "struct<name:string,scores:array<double>>"},
	"taster_key":            {"binary", "binary"},
	"taster_headers":        {"list<element: struct<key: string not null, value: binary> not null>", "array<struct<key:string,value:binary>>"},
	"taster_raw":            {"binary", "binary"},
	"taster_topic":          {"string", "string"},
	"taster_source":         {"string", "string"},
	"taster_partition":      {"int32", "int"},
	"taster_offset":         {"int64", "bigint"},
	"taster_timestamp":      {"timestamp[ms, tz=UTC]", "timestamp"},
	"taster_provider":       {"string", "string"},
	"taster_verdict":        {"string", "string"},
	"taster_risk":           {"double", "double"},
	"taster_classification": {"string", "string"},
	"taster_reasons":        {"list<element: string not null>", "array<string>"},
	"taster_findings": {"list<element: struct<detector: string not null, score: double, p_value: double, threshold: double, evidence: string> not null>",
		"array<struct<detector:string,score:double,p_value:double,threshold:double,evidence:string>>"},
}

func checkTypes(t *testing.T, engine string, got map[string]string) {
	t.Helper()
	for name, is := range got {
		want := columnTypes[name][0]
		if engine == "spark" {
			want = columnTypes[name][1]
		}
		if is != want {
			t.Errorf("%s is %s in %s, want %s", name, is, engine, want)
		}
	}
}

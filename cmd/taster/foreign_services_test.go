//go:build services

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/kmsclient/enginetest"
)

func TestPyarrowFilesOpen(t *testing.T) { filesOpen(t, enginetest.StartPyarrow(t)) }

func TestSparkFilesOpen(t *testing.T) { filesOpen(t, enginetest.StartSpark(t)) }

// filesOpen has an engine write its sample in every way that it knows, and compares what cat and backfill make of it with
// what was written.
func filesOpen(t *testing.T, e *enginetest.Engine) {
	dir := foreignFolder(t)
	keyFile := filepath.Join(dir, "theirs.json")
	if err := envelope.CreateKeyFile(keyFile, "footer", "column"); err != nil {
		t.Fatal(err)
	}
	footerOnly := filepath.Join(dir, "footer.json")
	one(t, keyFile, footerOnly, "footer")
	keys := []string{"keyfile://" + keyFile + "#footer", "keyfile://" + keyFile + "#column"}
	some := map[string][]string{"column": {"text", "place.city", "embedding.list.element"}}
	all := map[string][]string{"column": {"text", "amount"}, "footer": {
		"id", "small", "flag", "price", "day", "at", "raw", "tags.list.element", "place.city", "place.x", "embedding.list.element",
	}}
	type variant struct {
		name string
		enc  enginetest.Encryption
	}
	variants := []variant{
		{"uniform", enginetest.Encryption{}},
		{"some columns", enginetest.Encryption{Columns: some}},
		{"all columns", enginetest.Encryption{Columns: all}},
		{"external", enginetest.Encryption{External: true, Columns: some}},
		{"single, footer in clear", enginetest.Encryption{Single: true, PlaintextFooter: true, Columns: all}},
		{"uniform, footer in clear", enginetest.Encryption{PlaintextFooter: true}},
		{"external, single", enginetest.Encryption{External: true, Single: true}},
	}
	set := func(name string, columns map[string][]string, settings map[string]string) {
		variants = append(variants, variant{name, enginetest.Encryption{Columns: columns, Settings: settings}})
	}
	if e.Name == "spark" {
		set("counter mode", all, map[string]string{"parquet.encryption.algorithm": "AES_GCM_CTR_V1"})
		set("data pages of version 2", nil, map[string]string{"parquet.writer.version": "PARQUET_2_0"})
		set("version 2 in counter mode", all, map[string]string{"parquet.writer.version": "PARQUET_2_0", "parquet.encryption.algorithm": "AES_GCM_CTR_V1"})
		set("small pages and groups", all, map[string]string{"parquet.page.size": "64", "parquet.block.size": "2000", "parquet.page.row.count.limit": "7"})
		set("without dictionaries", all, map[string]string{"parquet.enable.dictionary": "false", "compression": "none"})
		set("256 bits, zstd", all, map[string]string{"parquet.encryption.data.key.length.bits": "256", "compression": "zstd"})
		set("bloom filters, gzip", nil, map[string]string{"parquet.bloom.filter.enabled": "true", "compression": "gzip"})
		set("timestamps of 96 bits", nil, map[string]string{"spark.sql.parquet.outputTimestampType": "INT96"})
	} else {
		set("data pages of version 2", nil, map[string]string{"data_page_version": "2.0"})
		set("version 2, all columns, not compressed", all, map[string]string{"data_page_version": "2.0", "compression": "NONE"})
		set("zstd", all, map[string]string{"compression": "ZSTD"})
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			v.enc.Keys, v.enc.Footer = keys, "footer"
			path := filepath.Join(t.TempDir(), "sample.parquet")
			want, err := e.WriteSample(path, 50, v.enc)
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == "spark" {
				parts, err := filepath.Glob(filepath.Join(path, "part-*.parquet"))
				if err != nil || len(parts) != 1 {
					t.Fatalf("Spark wrote %v: %v", parts, err)
				}
				path = parts[0]
			}
			got := catLines(t, dir, path, "--keys", keyFile)
			compare(t, got, want)
			backfilled(t, dir, path, want, "--keys", keyFile)
			if v.enc.Columns != nil {
				_, stderr, code := try("cat", "-c", filepath.Join(dir, "taster.yaml"), path, "--keys", footerOnly)
				if code != exitUsage || !strings.Contains(stderr, "column text:") || !strings.Contains(stderr, `"column"`) {
					t.Errorf("with the footer's key only: exit code %d: %s", code, stderr)
				}
			}
			if _, stderr, code := try("cat", "-c", filepath.Join(dir, "taster.yaml"), path); code != exitUsage || !strings.Contains(stderr, `"footer"`) {
				t.Errorf("without its keys: exit code %d: %s", code, stderr)
			}
		})
	}
}

// TestPyarrowRawKeys opens what pyarrow wrote with a key and no key material.
func TestPyarrowRawKeys(t *testing.T) {
	e := enginetest.StartPyarrow(t)
	dir := foreignFolder(t)
	for _, size := range []int{16, 24, 32} {
		for _, algorithm := range []string{"AES_GCM_V1", "AES_GCM_CTR_V1"} {
			for _, stored := range []bool{true, false} {
				t.Run(fmt.Sprint(size, algorithm, stored), func(t *testing.T) {
					key := bytes.Repeat([]byte{7}, size)
					path := filepath.Join(t.TempDir(), "raw.parquet")
					var want []map[string]any
					err := e.Run(`
import base64, pyarrow as pa, pyarrow.parquet as pq, pyarrow.parquet.encryption as pe
table = pa.table({"id": list(range(1000)), "text": [None if i % 3 == 0 else "row %d" % i for i in range(1000)]})
properties = pe.create_encryption_properties(base64.b64decode(key), aad_prefix=b"prefix", store_aad_prefix=stored, encryption_algorithm=algorithm)
pq.write_table(table, path, encryption_properties=properties, row_group_size=300, data_page_size=100, write_page_index=True)
`, map[string]any{"key": base64.StdEncoding.EncodeToString(key), "stored": stored, "algorithm": algorithm, "path": path}, "table", &want)
					if err != nil {
						t.Fatal(err)
					}
					keyFile := filepath.Join(t.TempDir(), "raw.json")
					text := fmt.Sprintf(`{"version":1,"keys":{"any":%q}}`, base64.StdEncoding.EncodeToString(key))
					if err := os.WriteFile(keyFile, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					args := []string{"--keys", keyFile}
					if !stored {
						_, stderr, code := try(append([]string{"cat", "-c", filepath.Join(dir, "taster.yaml"), path}, args...)...)
						if code != exitUsage || !strings.Contains(stderr, "--aad-prefix") {
							t.Errorf("without the prefix: exit code %d: %s", code, stderr)
						}
						args = append(args, "--aad-prefix", "prefix")
					}
					compare(t, catLines(t, dir, path, args...), want)
					backfilled(t, dir, path, want, args...)
				})
			}
		}
	}
}

// foreignFolder returns a folder with a configuration that has a contract for anything.
func foreignFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := envelope.CreateKeyFile(filepath.Join(dir, "keys.json"), "default"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"taster.yaml": "contracts: [any.yaml]\nlanding: {url: file://./landing}\nkeys: {default: keyfile://./keys.json#default}\nlog: {level: error}\n",
		"any.yaml":    "topic: any\nowner: me\nclassification: internal\nschema: any.json\nroles: {provider: \"is:acme\"}\n",
		"any.json":    `{"type": "object"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// one copies one key of a key file into another.
func one(t *testing.T, from, to, name string) {
	t.Helper()
	text, err := os.ReadFile(from)
	var keys struct {
		Version int               `json:"version"`
		Keys    map[string]string `json:"keys"`
	}
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	keys.Keys = map[string]string{name: keys.Keys[name]}
	if err == nil {
		text, err = json.Marshal(keys)
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func try(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return out.String(), errs.String(), code
}

func lines(t *testing.T, text string) (out []map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for d.More() {
		var row map[string]any
		if err := d.Decode(&row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

func catLines(t *testing.T, dir, path string, args ...string) []map[string]any {
	t.Helper()
	stdout, stderr, code := try(append([]string{"cat", "-c", filepath.Join(dir, "taster.yaml"), path}, args...)...)
	if code != exitGood {
		t.Fatalf("cat: exit code %d: %s", code, stderr)
	}
	return lines(t, stdout)
}

// backfilled lands a file in a landing zone of its own and compares the records.
func backfilled(t *testing.T, dir, path string, want []map[string]any, args ...string) {
	t.Helper()
	zone, err := os.MkdirTemp(dir, "zone") // the test's own has a comma in its name
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "taster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "landed.yaml")
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "file://./landing", "file://"+zone, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := try(append([]string{"backfill", "-c", config, "--contract", "any", path}, args...)...)
	if code != exitGood {
		t.Fatalf("backfill: exit code %d: %s", code, stderr)
	}
	stdout, stderr, code := try("cat", "-c", config, zone)
	if code != exitGood {
		t.Fatalf("cat: exit code %d: %s", code, stderr)
	}
	var got []map[string]any
	for _, row := range lines(t, stdout) {
		extra, ok := row["taster_extra"].(map[string]any)
		if !ok || row["taster_verdict"] != "accepted" {
			t.Fatalf("a row landed as %v", row)
		}
		record := map[string]any{}
		for pointer, value := range extra {
			at, names := record, strings.Split(pointer[1:], "/")
			for _, name := range names[:len(names)-1] {
				if _, ok := at[name].(map[string]any); !ok {
					at[name] = map[string]any{}
				}
				at = at[name].(map[string]any)
			}
			at[names[len(names)-1]] = value
		}
		got = append(got, record)
	}
	for i := range got { // a record has no nulls: a member is there or not
		if i < len(want) {
			complete(got[i], want[i])
		}
	}
	compare(t, got, want)
}

// complete puts the nulls of want into got, where got has nothing.
func complete(got, want map[string]any) {
	for name, value := range want {
		switch v := value.(type) {
		case nil:
			if _, ok := got[name]; !ok {
				got[name] = nil
			}
		case map[string]any:
			inner, ok := got[name].(map[string]any)
			if !ok && got[name] == nil && hollow(v) {
				inner, ok = map[string]any{}, true
				got[name] = inner
			}
			if ok {
				complete(inner, v)
			}
		}
	}
}

func hollow(m map[string]any) bool {
	for _, v := range m {
		if v != nil {
			return false
		}
	}
	return true
}

// compare compares rows, of which got has times as RFC 3339 and decimals as numbers, and want as enginetest has them.
func compare(t *testing.T, got, want []map[string]any) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := normal(got[i], want[i]), normal(want[i], want[i])
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("row %d: %v, want %v", i, g, w)
		}
	}
}

// normal brings a value into the one form in which it is compared; want is what it should be.
func normal(value, want any) any {
	switch v := value.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			return v
		}
		return f
	case string:
		switch w := want.(type) {
		case json.Number:
			at, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				return v
			}
			_ = w
			return float64(at.UnixMilli())
		case string:
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f
			}
		}
	case map[string]any:
		w, _ := want.(map[string]any)
		out := map[string]any{}
		for name := range v {
			out[name] = normal(v[name], w[name])
		}
		return out
	case []any:
		w, _ := want.([]any)
		out := make([]any, len(v))
		for i := range v {
			if i < len(w) {
				out[i] = normal(v[i], w[i])
			}
		}
		return out
	}
	return value
}

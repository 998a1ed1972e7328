package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPublishedFilesOpen prints and lands files that Parquet's implementations publish for each other, by keys of their own.
func TestPublishedFilesOpen(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA does not name the folder with apache/parquet-testing")
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyFile := func(name string, keys map[string]string) string {
		for id, key := range keys {
			keys[id] = base64.StdEncoding.EncodeToString([]byte(key))
		}
		text, err := json.Marshal(map[string]any{"version": 1, "keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return put(name, string(text))
	}
	keyFile("keys.json", map[string]string{"default": strings.Repeat("k", 32)})
	theirs := keyFile("theirs.json", map[string]string{"kf": "0123456789012345", "kc1": "1234567890123450", "kc2": "1234567890123451"})
	footer := keyFile("footer.json", map[string]string{"kf": "0123456789012345"})
	config := put("taster.yaml", "contracts: [any.yaml]\nlanding: {url: file://./landing}\nkeys: {default: keyfile://./keys.json#default}\nlog: {level: error}\n")
	put("any.yaml", "topic: any\nowner: me\nclassification: internal\nschema: any.json\nroles: {provider: \"is:acme\"}\n")
	put("any.json", `{"type": "object"}`)
	for _, c := range []struct {
		command string // with FILE for the fixture
		file    string
		code    int
		want    string // in what is printed
	}{
		{"cat FILE --keys " + theirs, "external_key_material_java", exitGood, `{"integers":1,"strings":"b1"}` + "\n"},
		{"cat FILE --keys " + footer, "external_key_material_java", exitUsage, `column integers: `},
		{"cat FILE --keys " + footer, "external_key_material_java", exitUsage, `wants master key "kc1"`},
		{"cat FILE", "external_key_material_java", exitUsage, `wants master key "kf"`},
		{"backfill --contract any FILE --keys " + theirs, "external_key_material_java", exitGood, "100 records read: 100 accepted"},
		{"cat FILE --keys " + theirs + " --columns int32_field,double_field", "encrypt_columns_and_footer_ctr", exitGood, `,"double_field":1.1111111}` + "\n"},
		{"cat FILE --keys " + theirs, "uniform_encryption", exitGood, `,"int96_field":"-4713-11-26T00:00:04.294967296Z",`},
		{"cat FILE --format csv --keys " + theirs, "encrypt_columns_and_footer_ctr", exitGood, `,-4713-11-26T00:00:04.294967296Z,`},
		{"cat FILE --format parquet --keys " + theirs, "encrypt_columns_plaintext_footer", exitGood, "PAR1"},
		{"cat FILE --format arrow --keys " + theirs, "encrypt_columns_and_footer", exitGood, "-4713-11-26T00:00:04.294967296Z"},
		{"backfill --contract any FILE --keys " + theirs, "uniform_encryption", exitGood, "50 records read: 50 accepted"},
		{"cat FILE --keys " + theirs, "encrypt_columns_and_footer_disable_aad_storage", exitUsage, "--aad-prefix"},
		{"cat FILE --columns int32_field --aad-prefix wrong --keys " + theirs, "encrypt_columns_and_footer_disable_aad_storage", exitUnreachable, `AAD prefix "wrong"`},
		{"backfill --contract any FILE --aad-prefix tester --keys " + theirs, "encrypt_columns_and_footer_disable_aad_storage", exitGood, "50 accepted"},
		{"cat FILE --columns int32_field --keys " + footer, "encrypt_columns_plaintext_footer", exitGood, `{"int32_field":"00:00:00.001"}`},
		{"backfill --contract any FILE", "encrypt_columns_plaintext_footer", exitUsage, `the file calls its key "kf"`},
	} {
		var stdout, stderr bytes.Buffer
		args := strings.Fields(c.command)
		for i, arg := range args {
			if arg == "FILE" {
				args[i] = filepath.Join(data, "parquet-testing", c.file+".parquet.encrypted")
			}
		}
		if code := run(t.Context(), append(args, "-c", config), &stdout, &stderr); code != c.code || !strings.Contains(stdout.String()+stderr.String(), c.want) {
			t.Errorf("%s of %s: exit code %d, want %d with %q: %.300s%s", c.command, c.file, code, c.code, c.want, stdout.String(), stderr.String())
		}
	}
}

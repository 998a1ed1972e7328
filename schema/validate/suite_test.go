package validate

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// ownAnswers are the cases that are not optional in which jsonschema/v5 answers otherwise than the suite, by
// draft, file and group. Its answer is the expected one. There is no case in which CheckJSON differs from it.
var ownAnswers = map[string]string{
	"tests/draft2019-09/enum.json: empty enum": "an empty enum is taken for none",
	"tests/draft2020-12/enum.json: empty enum": "an empty enum is taken for none",
	"tests/draft2020-12/dynamicRef.json: $dynamicRef skips over intermediate resources - direct reference": "the " +
		"outermost dynamic anchor is looked for in every resource on the way",
}

// TestOfficialSuite runs the JSON Schema test suite. The answers of jsonschema/v5 are what is expected; in the cases
// that are not optional they are the suite's own.
func TestOfficialSuite(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with json-schema-test-suite in it")
	}
	suite := filepath.Join(data, "json-schema-test-suite")
	remotes := func(url string) ([]byte, error) {
		if path, ok := strings.CutPrefix(url, "http://localhost:1234/"); ok {
			return os.ReadFile(filepath.Join(suite, "remotes", filepath.FromSlash(path)))
		}
		return nil, fs.ErrNotExist
	}
	unused := map[string]bool{}
	for name := range ownAnswers {
		unused[name] = true
	}
	total, plain, planned := 0, 0, 0
	for folder, draft := range map[string]*jsonschema.Draft{
		"draft4": jsonschema.Draft4, "draft6": jsonschema.Draft6, "draft7": jsonschema.Draft7,
		"draft2019-09": jsonschema.Draft2019, "draft2020-12": jsonschema.Draft2020,
	} {
		root := filepath.Join(suite, "tests", folder)
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
				return err
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var groups []struct {
				Description string
				Schema      json.RawMessage
				Tests       []struct {
					Description string
					Data        json.RawMessage
					Valid       bool
				}
			}
			if err := json.Unmarshal(src, &groups); err != nil {
				return err
			}
			file, _ := filepath.Rel(suite, path)
			optional := strings.Contains(file, "optional")
			for _, group := range groups {
				const at = "http://localhost:1234/the-schema-under-test.json"
				read := func(url string) ([]byte, error) {
					if url == at {
						return group.Schema, nil
					}
					return remotes(url)
				}
				compiler := jsonschema.NewCompiler()
				compiler.Draft = draft
				compiler.LoadURL = func(url string) (io.ReadCloser, error) {
					src, err := read(url)
					return io.NopCloser(bytes.NewReader(src)), err
				}
				reference, wantErr := compiler.Compile(at)
				docs := &documents{read: read, name: func(url string) string { return url }, draft: draft}
				s, err := compile(at, docs, Options{})
				if (err == nil) != (wantErr == nil) {
					t.Errorf("%s: %s: compiled: %v, by jsonschema/v5: %v", file, group.Description, err, wantErr)
					continue
				}
				if wantErr != nil {
					if !optional {
						t.Errorf("%s: %s: %v", file, group.Description, wantErr)
					}
					continue
				}
				if !s.whole {
					planned++
				}
				for _, test := range group.Tests {
					name := file + ": " + group.Description + ": " + test.Description
					decoder := json.NewDecoder(bytes.NewReader(test.Data))
					decoder.UseNumber()
					var value any
					if err := decoder.Decode(&value); err != nil {
						t.Errorf("%s: %v", name, err)
						continue
					}
					want := reference.Validate(value) == nil
					got := s.CheckJSON(test.Data)
					total++
					if !s.whole {
						plain++
						// The schema's plan must agree with the slow path, too, not just the outcome.
						d := s.newChecker()
						if r := d.parse(test.Data); r == nil && (s.reference(&d.tape) == nil) != (d.check() == nil && !d.unmet) {
							t.Errorf("%s: the plan says %v, jsonschema/v5 on the same tape does not", name, got)
						}
					}
					if (got == nil) != want {
						t.Errorf("%s: got %v, jsonschema/v5 finds it valid: %v", name, got, want)
					}
					if optional || want == test.Valid {
						continue
					}
					if _, ok := ownAnswers[file+": "+group.Description]; ok {
						delete(unused, file+": "+group.Description)
					} else {
						t.Errorf("%s: got %v, the suite has valid: %v", name, got, test.Valid)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range unused {
		t.Errorf("exception for a case that there is not: %s", name)
	}
	if total < 5000 {
		t.Errorf("only %d cases", total)
	}
	t.Logf("%d cases; %d of them checked by a plan alone (%d schemas)", total, plain, planned)
}

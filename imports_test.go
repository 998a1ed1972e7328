package taster_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tasterhq/taster/"

// allowed says which of our packages a folder may import, by longest matching prefix. A test file may import one
// thing more: what the folder tests against.
var allowed = []struct {
	folder string
	may    []string
}{
	{"schema", []string{"schema"}},
	{"ingest", []string{"schema", "ingest"}},
	{"detect", []string{"schema", "detect"}},
	{"detect/linalg", []string{"schema", "detect", "gpukernels"}},
	{"sink", []string{"schema", "sink"}},
	{"gpukernels", []string{"gpukernels"}},
	{"cmd", []string{"schema", "ingest", "detect", "sink", "cmd"}},
}

// wires lists the packages that may bring ingest, detect and sink together.
var wires = []string{"cmd/internal/app", "cmd/internal/bench"}

// TestImportRules holds the layering: ingest, detect and sink speak to each other only in the words of schema, and
// only the application wires them.
func TestImportRules(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		name = filepath.ToSlash(name)
		files++
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		stages := map[string]bool{}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			ours, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			if !mayImport(path.Dir(name), ours) {
				t.Errorf("%s imports %s, which the import rules forbid", name, ours)
			}
			switch stage, _, _ := strings.Cut(ours, "/"); stage {
			case "ingest", "detect", "sink":
				stages[stage] = true
			}
		}
		if len(stages) == 3 && !strings.HasSuffix(name, "_test.go") && !within(path.Dir(name), wires) {
			t.Errorf("%s brings ingest, detect and sink together; only %v may", name, wires)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("looked at %d files only: is this the root of the repository?", files)
	}
}

func mayImport(folder, imported string) bool {
	longest, may := -1, []string(nil)
	for _, rule := range allowed {
		if within(folder, []string{rule.folder}) && len(rule.folder) > longest {
			longest, may = len(rule.folder), rule.may
		}
	}
	return longest < 0 || within(imported, may)
}

func within(folder string, roots []string) bool {
	for _, root := range roots {
		if folder == root || strings.HasPrefix(folder, root+"/") {
			return true
		}
	}
	return false
}

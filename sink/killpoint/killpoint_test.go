package killpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestNames reads the source of everything and wants the points that it reaches to be exactly those of Names. A point
// that is reached at two places would be two moments under one name.
func TestNames(t *testing.T) {
	var reached []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "killpoint" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			callee, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := callee.X.(*ast.Ident); !ok || pkg.Name != "killpoint" || !strings.HasPrefix(callee.Sel.Name, "Reach") {
				return true
			}
			name, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a point must be named by a literal", path)
				return true
			}
			text, err := strconv.Unquote(name.Value)
			if err != nil {
				t.Error(err)
			}
			if slices.Contains(reached, text) {
				t.Errorf("%s: the point %s is reached elsewhere too", path, text)
			}
			reached = append(reached, text)
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range reached {
		if !slices.Contains(Names, name) {
			t.Errorf("the point %s is reached and not in Names", name)
		}
	}
	for i, name := range Names {
		if !slices.Contains(reached, name) {
			t.Errorf("the point %s is in Names and never reached", name)
		}
		if slices.Contains(Names[:i], name) {
			t.Errorf("the point %s is in Names twice", name)
		}
	}
}

// TestEmpty wants a program built as usual to take no notice.
func TestEmpty(t *testing.T) {
	t.Setenv("TASTER_KILL", Names[0]+":1")
	t.Setenv("TASTER_CLOCK", "1h")
	Reach(Names[0])
	ReachFor(Names[0], "object")
	if Skew() != 0 {
		t.Error("the clock is wrong without the build tag")
	}
}

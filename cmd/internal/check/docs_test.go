package check

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestCodesAreDocumented compares the codes of faults in the code with those in the documents.
func TestCodesAreDocumented(t *testing.T) {
	const root = "../../../"
	collect := func(pattern string, names ...string) []string {
		t.Helper()
		var found []string
		for _, name := range names {
			text, err := os.ReadFile(root + name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
				found = append(found, m[1])
			}
		}
		slices.Sort(found)
		return found
	}
	inCode := collect(`(?m)^\t[A-Z]\w+ += "([a-z]+_[a-z_]+|unsupported)"`,
		"schema/contract/strict/strict.go", "schema/contract/load.go", "cmd/internal/config/load.go",
		"cmd/internal/check/check.go")
	inDocs := collect("(?m)^\\| `([a-z]+_[a-z_]+|unsupported)` \\| [^|]+ \\|$", "docs/contract.md", "docs/configuration.md")
	inDocs = slices.DeleteFunc(inDocs, func(s string) bool { return s == "dead_letters" })
	if len(inCode) < 15 {
		t.Fatalf("found only %d codes in the code: %v", len(inCode), inCode)
	}
	if !slices.Equal(inCode, inDocs) {
		t.Errorf("codes in the code\n%v\nand in the documents\n%v", inCode, inDocs)
	}
}

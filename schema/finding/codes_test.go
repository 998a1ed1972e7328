package finding_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
)

// TestCodesAreDocumented compares docs/reason-codes.md with the code, row by row.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reason-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, m := range finding.Meanings {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", m.Code, m.Verdict, m.Text))
	}
	if got, want := strings.Join(documented, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("docs/reason-codes.md must hold exactly these rows:\n%s", want)
	}
}

func TestCodesAreWellFormed(t *testing.T) {
	form, seen := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`), map[finding.Code]bool{}
	for _, m := range finding.Meanings {
		if !form.MatchString(string(m.Code)) {
			t.Errorf("%q is not lower-case words with underscores", m.Code)
		}
		if seen[m.Code] {
			t.Errorf("%q has two meanings", m.Code)
		}
		seen[m.Code] = true
	}
}

func TestVerdictText(t *testing.T) {
	for _, v := range finding.Verdicts {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back finding.Verdict
		if err := back.UnmarshalText(text); err != nil || back != v {
			t.Errorf("%s came back as %s, %v", v, back, err)
		}
	}
	if err := new(finding.Verdict).UnmarshalText([]byte("Accepted")); err == nil {
		t.Error("a verdict in capitals was taken")
	}
}

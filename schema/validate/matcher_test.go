package validate

import (
	"math/rand/v2"
	"regexp"
	"testing"
)

// TestMatcher compares automata with package regexp, which they are made from.
func TestMatcher(t *testing.T) {
	g := rand.New(rand.NewPCG(11, 12))
	for _, c := range []struct {
		expression string
		simple     bool // there must be an automaton
	}{
		{`^s-[0-9]+$`, true},
		{``, true},
		{`^$`, true},
		{`$^`, true},
		{`a`, true},
		{`a$`, true},
		{`^a`, true},
		{`^(a|bc)*$`, true},
		{`^[A-Z]{2,3}-\d{4}$`, true},
		{`(?i)^ab?c+$`, true},
		{`^\d{4}-\d\d-\d\dT`, true},
		{`ab|ba`, true},
		{`^a.c$`, true},
		{`(?s)^a.c$`, true},
		{`[^ab]`, true},
		{`^\w+@\w+\.[a-z]{2,}$`, true},
		{`é|b`, true},
		{`x^`, true},
		{`a$b`, true},
		{`(^a|b$)`, true},
		{`\bab\b`, false},
		{`(?m)^a$`, false},
		{`^(a|b)*a(a|b){9}$`, false}, // a thousand states
		{`^a{600}$`, false},
	} {
		expression := regexp.MustCompile(c.expression)
		m := newMatcher(expression)
		if got := m.next != nil; got != c.simple {
			t.Errorf("%s: automaton: %t", c.expression, got)
		}
		alphabet := []string{"a", "b", "c", "s-", "0", "12", "A", "Z", "-", "T", "\n", ".", "@", " ", "é", "2001-02-03T", "AB-1234", "s-17"}
		for range 2000 {
			text, ascii := "", true
			for range g.IntN(6) {
				text += alphabet[g.IntN(len(alphabet))]
			}
			for _, b := range []byte(text) {
				ascii = ascii && b < 0x80
			}
			if got, want := m.match([]byte(text), ascii), expression.MatchString(text); got != want {
				t.Fatalf("%s: %q: got %t, want %t", c.expression, text, got, want)
			}
		}
	}
}

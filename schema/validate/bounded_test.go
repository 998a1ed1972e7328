package validate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
)

// Schemas that look at what is inside once for each alternative, on each level anew, and records that let all of them but
// the last fail at the very bottom.
var bottomless = []struct{ name, schema, open, end string }{
	{"anyOf", `{"$defs":{"n":{"anyOf":[
		{"type":"object","properties":{"k":{"$ref":"#/$defs/n"},"leaf":{"const":1}},"additionalProperties":false},
		{"type":"object","properties":{"k":{"$ref":"#/$defs/n"},"leaf":{"const":2}},"additionalProperties":false}]}},
		"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `{"k":`, `}`},
	{"oneOf", `{"$defs":{"n":{"oneOf":[
		{"type":"array","items":{"$ref":"#/$defs/n"}},{"type":"array","items":{"$ref":"#/$defs/n"},"contains":false},
		{"type":"object","properties":{"leaf":{"const":2}},"additionalProperties":false}]}},
		"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `[`, `]`},
	{"not", `{"$defs":{"n":{"not":{"type":"object","required":["k"],"properties":{"k":{"anyOf":[
		{"not":{"$ref":"#/$defs/n"}},{"not":{"not":{"not":{"$ref":"#/$defs/n"}}}}]}}}}},
		"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `{"k":`, `}`},
	{"if", `{"$defs":{"n":{"if":{"properties":{"k":{"$ref":"#/$defs/n"}}},"then":{"properties":{"k":{"$ref":"#/$defs/n"},"leaf":{"const":2}}},
		"else":false}},"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `{"k":`, `}`},
	{"contains", `{"$defs":{"n":{"anyOf":[{"type":"array","contains":{"$ref":"#/$defs/n"}},{"type":"array","items":{"$ref":"#/$defs/n"},"contains":false},{"properties":{"leaf":{"const":2}},"type":"object"}]}},
		"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `[`, `]`},
	{"unevaluated", `{"$defs":{"n":{"unevaluatedProperties":{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n","title":"again"}]},"anyOf":[
		{"properties":{"leaf":{"const":1}},"required":["leaf"]},{"properties":{"leaf":{"const":2}}}]}},
		"type":"object","properties":{"root":{"$ref":"#/$defs/n"}}}`, `{"k":`, `}`},
}

// However a schema folds back on itself, what a record costs grows with its size alone, whether it is valid or not.
func TestRecursionIsBounded(t *testing.T) {
	for _, c := range bottomless {
		t.Run(c.name, func(t *testing.T) {
			schema := compileText(t, c.schema, Options{})
			if schema.whole || !schema.recursive {
				t.Fatalf("whole %v, recursive %v: this is no test of what is compiled", schema.whole, schema.recursive)
			}
			decoder := schema.NewDecoder(memory.DefaultAllocator)
			defer decoder.Release()
			for _, leaf := range []int{1, 2, 3} {
				for _, depth := range []int{3, 30, 120} {
					value := fmt.Sprintf(`{"root":%s{"leaf":%d}%s}`, strings.Repeat(c.open, depth), leaf, strings.Repeat(c.end, depth))
					refusal := decoder.Append([]byte(value)) // which would not end before the universe does
					if steps, most := decoder.judging.steps, 64*len(value); steps > most {
						t.Errorf("leaf %d at %d: %d steps for %d bytes", leaf, depth, steps, len(value))
					}
					if depth > 3 {
						continue
					}
					// What can be asked of jsonschema/v5 is the same.
					decoder.forget()
					if r := decoder.parse([]byte(value)); r != nil {
						t.Fatal(r)
					}
					if want := schema.reference(&decoder.tape); (want == nil) != (refusal == nil) || want != nil && *want != *refusal {
						t.Errorf("leaf %d at %d: %+v, want %+v", leaf, depth, refusal, want)
					}
				}
			}
		})
	}
}

// Why a record fails is told without jsonschema/v5 where asking would cost too much; a verdict does not depend on that.
func TestUnexplained(t *testing.T) {
	c := bottomless[0]
	schema := compileText(t, c.schema, Options{})
	verdicts := func(depth int) (codes [3]finding.Code) {
		for leaf := range 3 {
			value := fmt.Sprintf(`{"root":%s{"leaf":%d}%s}`, strings.Repeat(c.open, depth), leaf, strings.Repeat(c.end, depth))
			if r := schema.CheckJSON([]byte(value)); r != nil {
				codes[leaf] = r.Code
			}
		}
		return codes
	}
	if got := verdicts(2); got != [3]finding.Code{finding.SchemaCombination, "", ""} {
		t.Errorf("asked: %q", got)
	}
	if got := verdicts(100); got != [3]finding.Code{finding.SchemaCombination, "", ""} {
		t.Errorf("not asked: %q", got)
	}
}

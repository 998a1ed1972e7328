package validate

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// conditional are the keywords that are conditions, each with a value that is valid by it and one that is not.
var conditional = []struct{ schema, good, bad string }{
	{`"anyOf":[{"type":"integer"},{"type":"string"}]`, `"a"`, `true`},
	{`"oneOf":[{"minimum":2},{"maximum":3}]`, `1`, `2.5`},
	{`"not":{"type":"integer"}`, `1.5`, `2.0`},
	{`"if":{"type":"string"},"then":{"minLength":1},"else":{"minimum":1}`, `"a"`, `0`},
	{`"uniqueItems":true`, `[1,2.5,"1",{"a":1,"b":2},[2],1e30,-1,true]`, `[{"a":1,"b":2},{"b":2e0,"a":1.0}]`},
	{`"contains":{"type":"string"},"maxContains":2`, `[1,"a"]`, `["a","b","c"]`},
	{`"prefixItems":[{"type":"string"}],"items":{"type":"integer"}`, `["a",1]`, `["a","b"]`},
	{`"propertyNames":{"maxLength":3}`, `{"a":1}`, `{"abcd":1}`},
	{`"patternProperties":{"^a":{"type":"integer"}},"additionalProperties":false`, `{"ab":1}`, `{"b":1}`},
	{`"dependentRequired":{"a":["b"]}`, `{"a":1,"b":2}`, `{"a":1}`},
	{`"dependentSchemas":{"a":{"required":["b"]}}`, `{"a":1,"b":2}`, `{"a":1}`},
	{`"enum":[[1,2],{"a":1.5}]`, `{"a":15e-1}`, `[1,2,3]`},
	{`"const":{"a":[1e2]}`, `{"a":[100]}`, `{"a":[100.5]}`},
	{`"$ref":"#"`, `{"q":{"q":{}}}`, `{"q":{"q":1}}`},
	{`"anyOf":[{"properties":{"a":true}},{"properties":{"b":true}}],"unevaluatedProperties":false`, `{"a":1,"b":2}`, `{"c":1}`},
	{`"contains":{"type":"string"},"unevaluatedItems":false`, `["a"]`, `["a",1]`},
}

// TestConditions holds conditions to be read in the pass, without an allocation, and to agree with jsonschema/v5.
func TestConditions(t *testing.T) {
	for _, c := range conditional {
		schema := `{"type":"object","properties":{"q":{` + c.schema + `}}}`
		r, err := newTrial(c.schema, []byte(schema), &tally{}, func(map[string]Field) Options { return Options{} })
		if err != nil {
			t.Fatal(err)
		}
		good, bad := []byte(`{"q":`+c.good+`}`), []byte(`{"q":`+c.bad+`}`)
		for _, value := range [][]byte{good, bad} {
			if err := r.try(value, levels[0]); err != nil {
				t.Error(err)
			}
		}
		if n := r.count; n.accepted != 1 || n.refused != 1 || n.passed != 1 || len(r.checks.gaps) > 0 {
			t.Errorf("%s: %v, left to jsonschema/v5: %v", c.schema, n, r.checks.gaps)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		d := r.stored.NewDecoder(memory.DefaultAllocator)
		for range 2000 { // more than is measured, so that nothing has to grow
			d.Append(good)
		}
		d.Take().Release()
		d.Append(good)
		if n := testing.AllocsPerRun(500, func() { d.Append(good) }); n != 0 {
			t.Errorf("%s: %v allocations", c.schema, n)
		}
		d.Release()
	}
}

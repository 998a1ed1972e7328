package validate

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/finding"
)

// codes are the reason codes of the keywords, in the order in which a place's own faults are told.
var codes = []keywordCode{
	{"type", finding.SchemaType},
	{"const", finding.SchemaConst},
	{"enum", finding.SchemaEnum},
	{"format", finding.SchemaFormat},
	{"minLength", finding.SchemaLength},
	{"maxLength", finding.SchemaLength},
	{"pattern", finding.SchemaPattern},
	{"minimum", finding.SchemaRange},
	{"exclusiveMinimum", finding.SchemaRange},
	{"maximum", finding.SchemaRange},
	{"exclusiveMaximum", finding.SchemaRange},
	{"multipleOf", finding.SchemaMultipleOf},
	{"contentEncoding", finding.SchemaContent},
	{"contentMediaType", finding.SchemaContent},
	{"contentSchema", finding.SchemaContent},
	{"minProperties", finding.SchemaProperties},
	{"maxProperties", finding.SchemaProperties},
	{"propertyNames", finding.SchemaProperties},
	{"required", finding.SchemaRequired},
	{"minItems", finding.SchemaItems},
	{"maxItems", finding.SchemaItems},
	{"additionalItems", finding.SchemaItems},
	{"unevaluatedItems", finding.SchemaItems},
	{"items", finding.SchemaItems},
	{"prefixItems", finding.SchemaItems},
	{"contains", finding.SchemaItems},
	{"minContains", finding.SchemaItems},
	{"maxContains", finding.SchemaItems},
	{"uniqueItems", finding.SchemaUnique},
	{"dependencies", finding.SchemaDependency},
	{"dependentRequired", finding.SchemaDependency},
	{"not", finding.SchemaCombination},
	{"anyOf", finding.SchemaCombination},
	{"oneOf", finding.SchemaCombination},
	{"additionalProperties", finding.SchemaAdditional},
	{"unevaluatedProperties", finding.SchemaAdditional},
}

type keywordCode struct {
	keyword string
	code    finding.Code
}

// complaint is one thing that jsonschema/v5 found wrong.
type complaint struct {
	keyword  string
	location string // in the record: an escaped pointer, which may hold content
}

// reference lets jsonschema/v5 judge the value on the tape. It is the readable definition of what a plan checks.
func (s *Schema) reference(t *tape) (r *Refusal) {
	defer func() {
		// It panics on what it did not expect, big numbers for one. Those do not get here; should another kind do so,
		// one record is refused, not the process ended. What it panics with may be content and is not told.
		if recover() != nil {
			r = &Refusal{Code: finding.SchemaOther, At: -1}
		}
	}()
	err := s.rules.Validate(t.any(0))
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return &Refusal{Code: finding.SchemaOther, At: -1} // a $ref that leads to itself
	}
	return s.blame(t, complaints(nil, invalid))
}

// complaints picks what explains a failure best: what is inside a combined schema, unless several of its
// alternatives could have been meant.
func complaints(found []complaint, e *jsonschema.ValidationError) []complaint {
	word := keyword(e)
	switch {
	case len(e.Causes) == 0 || word == "minContains":
		return append(found, complain(e, word))
	case word == "anyOf" || word == "oneOf":
		var meant []*jsonschema.ValidationError
		for _, cause := range e.Causes {
			if !mistyped(cause, e.InstanceLocation) {
				meant = append(meant, cause)
			}
		}
		switch len(meant) {
		case 0:
			return append(found, complaint{"type", e.InstanceLocation})
		case 1:
			return complaints(found, meant[0])
		}
		return append(found, complaint{word, e.InstanceLocation})
	}
	for _, cause := range e.Causes {
		found = complaints(found, cause)
	}
	return found
}

// complain tells of a member or item that must not be there, and of a name, at what holds it.
func complain(e *jsonschema.ValidationError, word string) complaint {
	location := e.InstanceLocation
	if word == "propertyNames" || e.Message == "not allowed" && slices.Contains(holding, word) {
		location = location[:max(0, strings.LastIndexByte(location, '/'))]
	}
	return complaint{word, location}
}

var holding = []string{"additionalProperties", "unevaluatedProperties", "additionalItems", "unevaluatedItems", "items"}

// mistyped tells whether the value at location has a type that the failed schema does not want at all.
func mistyped(e *jsonschema.ValidationError, location string) bool {
	if len(e.Causes) == 0 {
		return e.InstanceLocation == location && keyword(e) == "type"
	}
	word := keyword(e)
	return word != "anyOf" && word != "oneOf" && slices.ContainsFunc(e.Causes, func(cause *jsonschema.ValidationError) bool {
		return mistyped(cause, location)
	})
}

// keyword returns the keyword that failed.
func keyword(e *jsonschema.ValidationError) string {
	path := strings.Split(e.KeywordLocation, "/")
	for i, token := range path {
		if token == "propertyNames" && (i == 0 || path[i-1] != "properties") {
			return "propertyNames"
		}
	}
	last := func() string {
		if len(path) == 0 {
			return ""
		}
		return path[len(path)-1]
	}
	if e.Message == "not allowed" { // the schema false: what led to it says what is wrong
		for last() == "$ref" || len(path) > 1 && path[len(path)-2] == "allOf" {
			if last() != "$ref" {
				path = path[:len(path)-1]
			}
			path = path[:len(path)-1]
		}
		if len(path) > 1 {
			switch path[len(path)-2] {
			case "properties", "patternProperties":
				return "additionalProperties"
			case "items", "prefixItems":
				return "items"
			}
		}
		if last() == "contains" || last() == "not" {
			return ""
		}
		return last()
	}
	if len(path) > 2 {
		if outer := path[len(path)-3]; outer == "dependencies" || outer == "dependentRequired" {
			return outer
		}
	}
	return last()
}

// blame picks the complaint that is told, always the same one: that about the value which ends first, which is the
// innermost of those that hold each other.
func (s *Schema) blame(t *tape, found []complaint) *Refusal {
	type place struct {
		rank  int
		node  int
		field string
		plan  *plan
	}
	places := make([]place, 0, len(found))
	for _, c := range found {
		rank := slices.IndexFunc(codes, func(known keywordCode) bool { return known.keyword == c.keyword })
		node, field, plan := s.locate(t, c.location)
		places = append(places, place{rank, node, field, plan})
	}
	first := slices.MinFunc(places, func(a, b place) int {
		return cmp.Or(
			cmp.Compare(t.nodes[a.node].end, t.nodes[b.node].end),
			cmp.Compare(b.node, a.node),
			cmp.Compare(uint(a.rank), uint(b.rank)), // an unknown keyword, -1, comes last
			cmp.Compare(a.field, b.field),
		)
	})
	code := finding.SchemaOther
	if first.rank >= 0 {
		code = codes[first.rank].code
	}
	r := &Refusal{Code: code, Field: first.field, At: int64(t.nodes[first.node].start)}
	if code == finding.SchemaRequired && first.plan != nil {
		for _, prop := range first.plan.props {
			if _, ok := t.member(first.node, prop.name); prop.required && !ok {
				r.Field = pointerTo(r.Field, prop.name)
				break
			}
		}
	}
	return r
}

// locate follows a location that jsonschema/v5 gave. The field ends before the first name that is content; the plan
// is nil where the schema has none.
func (s *Schema) locate(t *tape, location string) (at int, field string, p *plan) {
	p = s.plan
	known := true
	for _, token := range fragment(location) {
		name := true
		next, ok := t.member(at, token)
		if !ok {
			name = false
			k, err := strconv.Atoi(token)
			if next, ok = t.item(at, k); err != nil || !ok {
				break // inside a string that holds JSON
			}
		}
		switch {
		case !name:
			if p != nil {
				p = p.items
			}
		case p != nil && len(p.props) > 0:
			if k, ok := p.index[token]; ok {
				p = p.props[k].plan
			} else {
				known, p = false, p.other
			}
		default:
			// No plan says which names the schema knows here: those that stand somewhere in its files.
			known, p = known && s.names[token], nil
		}
		if known {
			field = pointerTo(field, token)
		}
		at = next
	}
	return at, field, p
}

package validate

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/tasterhq/taster/schema/finding"
)

// mask is a set of kinds.
type mask uint8

const (
	maskNull   mask = 1 << kindNull
	maskBool   mask = 1<<kindFalse | 1<<kindTrue
	maskInt    mask = 1 << kindInt
	maskNumber mask = 1<<kindInt | 1<<kindNumber
	maskString mask = 1 << kindString
	maskArray  mask = 1 << kindArray
	maskObject mask = 1 << kindObject
	maskAny    mask = 0xFF
)

var maskOf = map[string]mask{
	"null": maskNull, "boolean": maskBool, "integer": maskInt, "number": maskNumber,
	"string": maskString, "array": maskArray, "object": maskObject,
}

// plan says what is demanded of one place in a record, and where its value goes. It is the sum of all schemas that
// apply there, those behind $ref and allOf included. A plan is not changed once it is built.
type plan struct {
	types  mask // kinds that `type` allows; an integer may be written 1.0
	never  bool // the schema false: no value is allowed here
	holds  mask // kinds that can be there at all, as far as that is easily told; decides the column
	checks *checks

	// Objects.
	props     []property
	index     map[string]int32
	other     *plan // of members that props does not name; nil when anything goes
	closed    bool  // members that props does not name are not allowed
	memory    int   // where the Decoder remembers which member follows which
	minFields int
	maxFields int // -1: no limit

	// Arrays.
	items    *plan // nil when anything goes
	minItems int
	maxItems int // -1: no limit

	conditions []condition // what a place must meet beside all that; see there

	store  store
	slot   int // column; noSlot: checked and not stored
	vector bool
}

func newPlan() *plan {
	return &plan{types: maskAny, holds: maskAny, maxFields: -1, maxItems: -1, slot: noSlot}
}

const (
	noSlot   = -1
	rootSlot = -2 // the record itself: its members are the columns
)

// property is one member that the schema names.
type property struct {
	name     string
	plan     *plan
	required bool
	declared bool // by `properties`; otherwise only `required` names it, and it is kept like an unknown one
}

// checks are the demands on a value beyond its type. Those for another type than the value's do not apply.
type checks struct {
	enums     []enum
	formats   []func(any) bool
	minLength int // in code points
	maxLength int // -1: no limit
	patterns  []*regexp.Regexp
	bounds    []bound
	multiples []constant
}

// enum is the list of an `enum`, or the single value of a `const`.
type enum struct {
	code    finding.Code
	kinds   mask // null, false and true
	strings map[string]struct{}
	numbers []constant
}

// bound is one of minimum, maximum, exclusiveMinimum and exclusiveMaximum. A number is within it when the sign of
// (number - limit) is not the forbidden one, nor 0 where the limit is exclusive.
type bound struct {
	limit     constant
	forbidden int
	exclusive bool
}

// rule is one schema that applies to a place; with orNull, unless the value there is null.
type rule struct {
	*jsonschema.Schema
	orNull bool
}

// planner builds plans from a compiled schema.
type planner struct {
	docs   *documents
	stack  []*jsonschema.Schema
	cyclic map[*jsonschema.Schema]bool
	gaps   []Gap // what the plan does not check
	whole  bool  // one of them can only be filled with the whole record at hand
	plans  int
	slots  int // of the memory for predicted members

	inner       int              // above 0: what is planned belongs to a condition
	shared      map[string]*plan // those of conditions, by their rules
	ids         map[*jsonschema.Schema]int
	evaluated   map[*jsonschema.Schema]*evaluated
	conditional bool // some place has a condition
}

// maxPlans bounds what $refs can blow a small schema up to.
const maxPlans = 20000

// leave notes a keyword of s for which jsonschema/v5 has to see the whole record.
func (b *planner) leave(s *jsonschema.Schema, keyword string) {
	b.whole = true
	gap := b.docs.gap(s.Location, keyword)
	gap.Record = true
	b.note(gap)
}

// note notes what no plan checks.
func (b *planner) note(gap Gap) {
	if !slices.Contains(b.gaps, gap) {
		b.gaps = append(b.gaps, gap)
	}
}

// root builds the plan of a whole schema.
func (b *planner) root(s *jsonschema.Schema) *plan {
	return b.plan(b.gather(nil, s, false))
}

var nothing = func() *jsonschema.Schema {
	allowed := false
	return &jsonschema.Schema{Always: &allowed}
}()

// gather lists every schema that applies where s does.
func (b *planner) gather(rules []rule, s *jsonschema.Schema, orNull bool) []rule {
	if slices.Contains(rules, rule{s, orNull}) {
		return rules
	}
	rules = append(rules, rule{s, orNull})
	if s.Ref != nil {
		rules = b.gather(rules, s.Ref, orNull)
	}
	for _, sub := range s.AllOf {
		rules = b.gather(rules, sub, orNull)
	}
	if only, ok := alternative(s.AnyOf, false); ok {
		rules = b.gather(rules, only.Schema, only.orNull || orNull)
	}
	if only, ok := alternative(s.OneOf, true); ok {
		rules = b.gather(rules, only.Schema, only.orNull || orNull)
	}
	return rules
}

// alternative finds the one schema that an anyOf or oneOf comes down to: the usual way to say "X or null".
func alternative(of []*jsonschema.Schema, exactlyOne bool) (rule, bool) {
	var only rule
	nulls := 0
	for _, s := range of {
		if isNull(s) {
			nulls++
		} else if only.Schema != nil {
			return rule{}, false
		} else {
			only.Schema = s
		}
	}
	if only.Schema == nil || exactlyOne && (nulls > 1 || nulls == 1 && kinds(only.Schema, nil)&maskNull != 0) {
		return rule{}, false
	}
	only.orNull = nulls > 0
	return only, true
}

// isNull tells whether s is {"type": "null"}.
func isNull(s *jsonschema.Schema) bool {
	return len(s.Types) == 1 && s.Types[0] == "null" && s.Ref == nil && s.Enum == nil && s.Constant == nil &&
		s.Not == nil && s.AllOf == nil && s.AnyOf == nil && s.OneOf == nil && s.If == nil &&
		s.RecursiveRef == nil && s.DynamicRef == nil
}

// own returns the kinds that s itself leaves open: a superset, never too small.
func own(s *jsonschema.Schema, seen []*jsonschema.Schema) mask {
	if s.Always != nil && !*s.Always {
		return 0
	}
	m := typeMask(s)
	if len(s.Enum) > 0 { // jsonschema/v5 takes an empty list for none
		m &= valueKinds(s.Enum)
	}
	if s.Constant != nil {
		m &= valueKinds(s.Constant)
	}
	for _, of := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		if len(of) > 0 {
			var union mask
			for _, sub := range of {
				union |= kinds(sub, seen)
			}
			m &= union
		}
	}
	return m
}

// kinds returns the kinds that s leaves open, with all that s refers to.
func kinds(s *jsonschema.Schema, seen []*jsonschema.Schema) mask {
	if slices.Contains(seen, s) {
		return maskAny
	}
	seen = append(seen, s)
	m := own(s, seen)
	if s.Ref != nil {
		m &= kinds(s.Ref, seen)
	}
	for _, sub := range s.AllOf {
		m &= kinds(sub, seen)
	}
	return m
}

func typeMask(s *jsonschema.Schema) mask {
	if len(s.Types) == 0 {
		return maskAny
	}
	var m mask
	for _, t := range s.Types {
		m |= maskOf[t]
	}
	return m
}

// valueKinds returns the kinds of the values; a whole number counts as an integer however it is written.
func valueKinds(values []any) mask {
	var m mask
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			m |= maskNull
		case bool:
			m |= maskBool
		case string:
			m |= maskString
		case []any:
			m |= maskArray
		case map[string]any:
			m |= maskObject
		case json.Number:
			if d := parseDecimal([]byte(v)); d.integral() {
				m |= maskInt
			} else {
				m |= 1 << kindNumber
			}
		}
	}
	return m
}

// plan builds the plan for a place where all the rules apply.
func (b *planner) plan(rules []rule) *plan {
	if b.inner > 0 {
		return b.share(rules)
	}
	b.plans++
	p := newPlan()
	if b.plans > maxPlans {
		return p
	}
	for _, r := range rules {
		if slices.Contains(b.stack, r.Schema) && b.recursive(r.Schema) {
			// The value is kept as JSON text, which ends the recursion of columns.
			b.conditional = true
			p.conditions = []condition{{also: b.share(rules)}}
			return p
		}
	}
	depth := len(b.stack)
	for _, r := range rules {
		b.stack = append(b.stack, r.Schema)
	}
	b.fill(p, rules)
	b.stack = b.stack[:depth]
	return p
}

// fill makes p what all the rules demand.
func (b *planner) fill(p *plan, rules []rule) {
	for _, r := range rules {
		b.rule(p, r)
	}
	b.object(p, rules)
	b.array(p, rules)
}

// rule adds the demands of one schema that do not reach into the value.
func (b *planner) rule(p *plan, r rule) {
	var null mask
	if r.orNull {
		null = maskNull
	}
	if r.Always != nil {
		if !*r.Always {
			p.types &= null
			p.holds &= null
			p.never = null == 0
		}
		return
	}
	p.types &= typeMask(r.Schema) | null
	p.holds &= own(r.Schema, nil) | null

	for _, left := range []struct {
		keyword string
		present bool
	}{
		{"$recursiveRef", r.RecursiveRef != nil},
		{"$dynamicRef", r.DynamicRef != nil},
		{"patternProperties", r.RegexProperties}, // in the schema of draft 4 itself
	} {
		if left.present {
			b.leave(r.Schema, left.keyword)
		}
	}
	b.conditions(p, r)

	c := checks{maxLength: -1}
	if p.checks != nil {
		c = *p.checks
	}
	if r.Constant != nil && !nested(r.Constant) {
		enumerate(&c, r, finding.SchemaConst, r.Constant)
	}
	if len(r.Enum) > 0 && !nested(r.Enum) {
		enumerate(&c, r, finding.SchemaEnum, r.Enum)
	}
	if check, ok := jsonschema.Formats[r.Format]; ok && b.asserted(r.Schema) {
		c.formats = append(c.formats, check)
	}
	c.minLength = max(c.minLength, r.MinLength)
	c.maxLength = tighter(c.maxLength, r.MaxLength)
	if r.Pattern != nil {
		c.patterns = append(c.patterns, r.Pattern)
	}
	if r.Minimum != nil {
		c.bounds = append(c.bounds, bound{newConstant(r.Minimum), -1, false})
	}
	if r.ExclusiveMinimum != nil {
		c.bounds = append(c.bounds, bound{newConstant(r.ExclusiveMinimum), -1, true})
	}
	if r.Maximum != nil {
		c.bounds = append(c.bounds, bound{newConstant(r.Maximum), 1, false})
	}
	if r.ExclusiveMaximum != nil {
		c.bounds = append(c.bounds, bound{newConstant(r.ExclusiveMaximum), 1, true})
	}
	if r.MultipleOf != nil {
		c.multiples = append(c.multiples, newConstant(r.MultipleOf))
	}
	if c.enums != nil || c.formats != nil || c.minLength > 0 || c.maxLength >= 0 || c.patterns != nil ||
		c.bounds != nil || c.multiples != nil {
		p.checks = &c
	}

	p.minFields = max(p.minFields, r.MinProperties)
	p.maxFields = tighter(p.maxFields, r.MaxProperties)
	p.minItems = max(p.minItems, r.MinItems)
	p.maxItems = tighter(p.maxItems, r.MaxItems)
}

// asserted tells whether jsonschema/v5 demands that formats hold. Since draft 2019-09 they are mere notes, but to it
// only in a file that names its draft.
func (b *planner) asserted(s *jsonschema.Schema) bool {
	switch s.Draft {
	case jsonschema.Draft4, jsonschema.Draft6, jsonschema.Draft7:
		return true
	}
	doc, _, ok := b.docs.find(s.Location)
	if !ok {
		b.leave(s, "format")
		return false
	}
	_, named := doc.member(0, "$schema")
	return !named
}

// tighter returns the smaller of two limits, of which -1 is none.
func tighter(a, b int) int {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}

func enumerate(c *checks, r rule, code finding.Code, values []any) {
	e := enum{code: code, strings: map[string]struct{}{}}
	if r.orNull {
		e.kinds = maskNull
	}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			e.kinds |= maskNull
		case bool:
			if v {
				e.kinds |= 1 << kindTrue
			} else {
				e.kinds |= 1 << kindFalse
			}
		case string:
			e.strings[v] = struct{}{}
		case json.Number:
			d := parseDecimal([]byte(v))
			e.numbers = append(e.numbers, newConstant(d.rat()))
		}
	}
	c.enums = append(slices.Clip(c.enums), e)
}

// object plans the members of an object.
func (b *planner) object(p *plan, rules []rule) {
	var names []string
	required := map[string]bool{}
	declared := map[string]bool{}
	for _, r := range rules {
		for _, name := range b.docs.order(r.Schema) {
			if !declared[name] {
				declared[name] = true
				names = append(names, name)
			}
		}
		for _, name := range r.Required {
			required[name] = true
		}
	}
	undeclared := slices.Sorted(maps.Keys(required))
	undeclared = slices.DeleteFunc(undeclared, func(name string) bool { return declared[name] })

	// What applies to a member that a schema does not name is that schema's additionalProperties.
	var others []rule
	for _, r := range rules {
		if sub := additional(r.Schema); sub == nothing {
			p.closed = true
		} else if sub != nil {
			others = b.gather(others, sub, false)
		}
	}
	if len(others) > 0 && !p.closed {
		p.other = b.plan(others)
		p.closed = p.other.never
	}

	p.memory = b.slots
	p.index = make(map[string]int32, len(names)+len(undeclared))
	b.slots += 1 + len(names) + len(undeclared)
	for _, name := range names {
		var member []rule
		for _, r := range rules {
			if sub, ok := r.Properties[name]; ok {
				member = b.gather(member, sub, false)
			} else if sub := additional(r.Schema); sub != nil {
				member = b.gather(member, sub, false)
			}
		}
		p.index[name] = int32(len(p.props))
		p.props = append(p.props, property{name, b.plan(member), required[name], true})
	}
	for _, name := range undeclared {
		p.index[name] = int32(len(p.props))
		p.props = append(p.props, property{name, p.other, true, false})
	}
}

// additional is what s demands of members that it does not name: nil for nothing in particular. Where patterns name
// members, too, it is a condition.
func additional(s *jsonschema.Schema) *jsonschema.Schema {
	if len(s.PatternProperties) > 0 {
		return nil
	}
	switch a := s.AdditionalProperties.(type) {
	case bool:
		if !a {
			return nothing
		}
	case *jsonschema.Schema:
		return a
	}
	return nil
}

// array plans the items of an array. It is a condition that items differ by position.
func (b *planner) array(p *plan, rules []rule) {
	var items []rule
	for _, r := range rules {
		if len(r.PrefixItems) > 0 {
			continue
		}
		if sub, ok := r.Items.(*jsonschema.Schema); ok {
			items = b.gather(items, sub, false)
		}
		if r.Items2020 != nil {
			items = b.gather(items, r.Items2020, false)
		}
	}
	if len(items) > 0 {
		p.items = b.plan(items)
	}
}

// recursive tells whether s contains itself.
func (b *planner) recursive(s *jsonschema.Schema) bool {
	answer, known := b.cyclic[s]
	if !known {
		seen := map[*jsonschema.Schema]bool{}
		var reaches func(*jsonschema.Schema) bool
		reaches = func(from *jsonschema.Schema) bool {
			for _, sub := range subschemas(from) {
				if sub == s {
					return true
				}
				if !seen[sub] {
					seen[sub] = true
					if reaches(sub) {
						return true
					}
				}
			}
			return false
		}
		answer = reaches(s)
		b.cyclic[s] = answer
	}
	return answer
}

// subschemas lists the schemas that a plan for s is made from.
func subschemas(s *jsonschema.Schema) []*jsonschema.Schema {
	subs := slices.Concat(s.AllOf, s.AnyOf, s.OneOf, []*jsonschema.Schema{s.Ref, s.Items2020})
	for _, sub := range s.Properties {
		subs = append(subs, sub)
	}
	for _, sub := range []any{s.Items, s.AdditionalProperties} {
		if sub, ok := sub.(*jsonschema.Schema); ok {
			subs = append(subs, sub)
		}
	}
	return slices.DeleteFunc(subs, func(sub *jsonschema.Schema) bool { return sub == nil })
}

// pointerTo appends a name to an RFC 6901 pointer.
func pointerTo(parent, name string) string {
	return parent + "/" + escaper.Replace(name)
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

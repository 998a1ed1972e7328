package validate

import (
	"maps"
	"regexp"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// unevaluated is what unevaluatedProperties or unevaluatedItems demands of members or items that no other keyword is
// about. One of members and items is set.
type unevaluated struct {
	of      *evaluated
	members *plan
	items   *plan
}

// evaluated says which members and items of a value a schema is about, if the value is valid.
type evaluated struct {
	declared map[string]*jsonschema.Schema
	patterns []*regexp.Regexp
	members  bool    // all members
	first    int     // so many items
	items    bool    // all items
	contains []*plan // items that one of these is for
	branches []branch
}

// branch is what else a schema is about, depending on the value.
type branch struct {
	named     bool // where there is a member of that name
	name      string
	when      *plan // where the value is valid by this; nil: it is
	then      *evaluated
	otherwise *evaluated // nil: nothing
}

// evaluate says what s is about; with top, without its own unevaluatedProperties and unevaluatedItems.
func (b *planner) evaluate(s *jsonschema.Schema, top bool) *evaluated {
	if e := b.evaluated[s]; e != nil && !top {
		return e
	}
	e := &evaluated{declared: map[string]*jsonschema.Schema{}}
	if !top {
		b.evaluated[s] = e
	}
	var all []*jsonschema.Schema
	var visit func(at *jsonschema.Schema)
	visit = func(at *jsonschema.Schema) {
		if at == nil || slices.Contains(all, at) {
			return
		}
		all = append(all, at)
		maps.Copy(e.declared, at.Properties)
		for names := range at.PatternProperties {
			e.patterns = append(e.patterns, names)
		}
		own := top && at == s
		e.members = e.members || at.AdditionalProperties != nil || !own && at.UnevaluatedProperties != nil
		e.first = max(e.first, len(at.PrefixItems))
		e.items = e.items || at.Items2020 != nil || !own && at.UnevaluatedItems != nil
		switch items := at.Items.(type) {
		case *jsonschema.Schema:
			e.items = true
		case []*jsonschema.Schema:
			e.first = max(e.first, len(items))
			e.items = e.items || at.AdditionalItems != nil
		}
		if at.Contains != nil && at.ContainsEval {
			e.contains = append(e.contains, b.verdict(at.Contains))
		}
		for _, sub := range slices.Concat(at.AnyOf, at.OneOf) {
			e.branches = append(e.branches, branch{when: b.verdict(sub), then: b.evaluate(sub, false)})
		}
		if at.If != nil {
			e.branches = append(e.branches, branch{when: b.verdict(at.If), then: b.evaluate(at.If, false)})
			if at.Then != nil {
				e.branches = append(e.branches, branch{when: b.verdict(at.If), then: b.evaluate(at.Then, false)})
			}
			if at.Else != nil {
				e.branches = append(e.branches, branch{when: b.verdict(at.If), otherwise: b.evaluate(at.Else, false)})
			}
		}
		for name, sub := range at.DependentSchemas {
			e.branches = append(e.branches, branch{named: true, name: name, then: b.evaluate(sub, false)})
		}
		for name, what := range at.Dependencies {
			if sub, ok := what.(*jsonschema.Schema); ok {
				e.branches = append(e.branches, branch{named: true, name: name, then: b.evaluate(sub, false)})
			}
		}
		visit(at.Ref)
		for _, sub := range at.AllOf {
			visit(sub)
		}
	}
	visit(s)
	return e
}

// activate appends to d.active what a schema is about, given the value at, which is valid by it.
func (d *Decoder) activate(e *evaluated, at int) {
	d.active = append(d.active, e)
	for i := range e.branches {
		b := &e.branches[i]
		if b.named {
			if _, there := d.tape.member(at, b.name); !there {
				continue
			}
		}
		chosen := b.then
		if b.when != nil && !d.satisfies(b.when, at) {
			chosen = b.otherwise
		}
		if chosen != nil {
			d.activate(chosen, at)
		}
	}
}

// meetRest tells whether the members or items that no other keyword is about are as they have to be. The value is
// valid otherwise, or it does not matter.
func (d *Decoder) meetRest(c *unevaluated, at int) bool {
	t := &d.tape
	kind := kindObject
	if c.items != nil {
		kind = kindArray
	}
	if t.nodes[at].kind != kind {
		return true
	}
	mark := len(d.active)
	d.activate(c.of, at)
	about := d.active[mark:]
	defer func() { d.active = d.active[:mark] }()
	i := at + 1
	for k := range t.nodes[at].size() {
		if kind == kindArray {
			evaluated := slices.ContainsFunc(about, func(e *evaluated) bool {
				return e.items || k < e.first || slices.ContainsFunc(e.contains, func(p *plan) bool { return d.satisfies(p, i) })
			})
			if !evaluated && !d.satisfies(c.items, i) {
				return false
			}
			i = t.next(i)
			continue
		}
		name, value := t.text(&t.nodes[i]), i+1
		evaluated := slices.ContainsFunc(about, func(e *evaluated) bool {
			if _, ok := e.declared[string(name)]; ok || e.members {
				return true
			}
			return slices.ContainsFunc(e.patterns, func(p *regexp.Regexp) bool { return p.Match(name) })
		})
		if !evaluated && !d.satisfies(c.members, value) {
			return false
		}
		i = t.next(value)
	}
	return true
}

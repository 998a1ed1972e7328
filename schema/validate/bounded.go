package validate

import (
	"math"

	"github.com/tasterhq/taster/schema/finding"
)

// A schema that contains itself in several alternatives can be made to cost as many steps as it has alternatives to the
// power of a record's depth: each alternative looks at what is inside anew. What a plan says of a value is always the
// same, so once a record has cost more steps than are usual, answers are kept, and nothing is judged twice by one plan.
// jsonschema/v5 keeps nothing. It is not asked why a record fails when to explain that could cost it too much.

// usual is how many steps for each value of a record are taken before answers are kept, which costs more than most
// steps do. There are plans enough that look at a value from several sides without ever doing so twice.
const usual = 16

// explained is how many steps for each value of a record jsonschema/v5 may need and is asked nevertheless.
const explained = 256

// judging counts the steps that the conditions of what is on the tape cost.
type judging struct {
	steps int
	free  int             // so many until answers are kept
	known map[judged]bool // of arrays and objects
}

// judged is a value that was judged by a plan.
type judged struct {
	plan *plan
	at   int
}

// begin forgets the answers, which were about another tape.
func (j *judging) begin(values int, recursive bool) {
	j.steps, j.free = 0, math.MaxInt
	if recursive {
		j.free = usual * values
	}
	if len(j.known) > 0 {
		j.known = nil // as large as a record made it
	}
}

// satisfies tells whether the value at is valid by a plan that stores nothing. It is value without columns and reasons.
func (d *Decoder) satisfies(p *plan, at int) bool {
	d.judging.steps++
	if d.judging.steps <= d.judging.free || d.tape.nodes[at].kind < kindArray {
		return d.judge(p, at)
	}
	one := judged{p, at}
	ok, known := d.judging.known[one]
	if !known {
		ok = d.judge(p, at)
		if d.judging.known == nil {
			d.judging.known = map[judged]bool{}
		}
		d.judging.known[one] = ok
	}
	return ok
}

// explainable tells whether jsonschema/v5 can say in reasonable time what is wrong with the record on the tape.
func (d *Decoder) explainable() bool {
	most := explained * len(d.tape.nodes)
	return !d.schema.recursive || d.effort(d.schema.plan, 0, most, map[judged]int{}) <= most
}

// unexplained refuses a record of which it would take too long to tell what is wrong: it does not meet a combination of
// schemas somewhere.
func (d *Decoder) unexplained() *Refusal {
	return d.refuse(finding.SchemaCombination, &d.tape.nodes[0])
}

// effort is how many schemas have to be looked at, each time anew, to judge the value at by all that p demands. It goes
// no further than a little beyond most.
func (d *Decoder) effort(p *plan, at, most int, known map[judged]int) int {
	t := &d.tape
	n := &t.nodes[at]
	if p == nil {
		return 0
	}
	if n.kind >= kindArray {
		if total, ok := known[judged{p, at}]; ok {
			return total
		}
	}
	total := 1
	add := func(p *plan, at int) {
		if total <= most {
			total += d.effort(p, at, most, known)
		}
	}
	for i := range p.conditions {
		for _, sub := range p.conditions[i].here() {
			add(sub, at)
		}
	}
	switch i := at + 1; n.kind {
	case kindArray:
		for k := range n.size() {
			add(p.items, i)
			for c := range p.conditions {
				for _, sub := range p.conditions[c].ofItem(k) {
					add(sub, i)
				}
			}
			i = t.next(i)
		}
	case kindObject:
		for range n.size() {
			name, value := t.text(&t.nodes[i]), i+1
			sub := p.other
			if k, ok := p.index[string(name)]; ok {
				sub = p.props[k].plan
			}
			add(sub, value)
			for c := range p.conditions {
				for _, sub := range p.conditions[c].ofMember(name) {
					add(sub, value)
				}
			}
			i = t.next(value)
		}
	}
	if n.kind >= kindArray {
		known[judged{p, at}] = total
	}
	return total
}

// here returns the plans by which a condition judges the value where it stands.
func (c *condition) here() []*plan {
	subs := make([]*plan, 0, len(c.anyOf)+len(c.oneOf)+len(c.depends)+3)
	subs = append(append(subs, c.anyOf...), c.oneOf...)
	subs = append(subs, c.not, c.also)
	if c.ifThen != nil {
		subs = append(subs, c.ifThen.when, c.ifThen.then, c.ifThen.otherwise)
	}
	for _, dep := range c.depends {
		subs = append(subs, dep.plan)
	}
	return subs
}

// ofItem returns the plans by which a condition may judge item k.
func (c *condition) ofItem(k int) []*plan {
	switch {
	case c.contains != nil:
		return []*plan{c.contains.plan}
	case c.tuple != nil && k < len(c.tuple.first):
		return []*plan{c.tuple.first[k]}
	case c.tuple != nil:
		return []*plan{c.tuple.rest}
	case c.rest != nil:
		return []*plan{c.rest.items}
	}
	return nil
}

// ofMember returns the plans by which a condition may judge a member.
func (c *condition) ofMember(name []byte) []*plan {
	switch {
	case c.patterns != nil:
		var subs []*plan
		for _, p := range c.patterns.patterns {
			if p.names.Match(name) {
				subs = append(subs, p.plan)
			}
		}
		return append(subs, c.patterns.rest)
	case c.rest != nil:
		return []*plan{c.rest.members}
	}
	return nil
}

// inside returns the plans that a condition has for anything, names included.
func (c *condition) inside() []*plan {
	subs := c.here()
	subs = append(subs, c.naming)
	if c.contains != nil {
		subs = append(subs, c.contains.plan)
	}
	if c.tuple != nil {
		subs = append(append(subs, c.tuple.first...), c.tuple.rest)
	}
	if c.patterns != nil {
		for _, p := range c.patterns.patterns {
			subs = append(subs, p.plan)
		}
		subs = append(subs, c.patterns.rest)
	}
	if c.rest != nil {
		subs = append(subs, c.rest.items, c.rest.members)
	}
	return subs
}

// recurs tells whether a plan contains itself, or one that does.
func recurs(root *plan) bool {
	const entered, left = 1, 2
	state := map[*plan]int{}
	var visit func(p *plan) bool
	visit = func(p *plan) bool {
		if p == nil || state[p] == left {
			return false
		}
		if state[p] == entered {
			return true
		}
		state[p] = entered
		found := visit(p.items) || visit(p.other)
		for i := range p.props {
			found = found || visit(p.props[i].plan)
		}
		for i := range p.conditions {
			for _, sub := range p.conditions[i].inside() {
				found = found || visit(sub)
			}
		}
		state[p] = left
		return found
	}
	return visit(root)
}

package validate

import (
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// condition is one demand that a plan cannot make of type, members and items alone. Exactly one of its parts is set,
// each after the keyword that it stands for. A condition says yes or no and stores nothing; when it says no,
// jsonschema/v5 is asked why (and has the last word).
type condition struct {
	orNull bool // null is let through

	not      *plan
	anyOf    []*plan
	oneOf    []*plan
	ifThen   *branches
	also     *plan // a schema that contains the place where it stands
	unique   bool
	contains *contained
	tuple    *tuple
	naming   *plan // of the members' names
	patterns *patterned
	depends  []dependency
	rest     *unevaluated
	values   []any              // an enum or const with arrays and objects; numbers are *constant
	subtree  *jsonschema.Schema // what jsonschema/v5 has to check itself, without the rest of the record
}

type branches struct{ when, then, otherwise *plan } // the last two may be nil

type contained struct {
	plan     *plan
	min, max int // max -1: no limit
}

// tuple plans the items of an array by their position.
type tuple struct {
	first []*plan
	rest  *plan // nil when anything goes
}

// patterned plans members by patterns of their names.
type patterned struct {
	patterns []pattern
	declared map[string]*jsonschema.Schema // what the same schema's `properties` names is not additional
	rest     *plan                         // nil when anything goes
}

type pattern struct {
	names *regexp.Regexp
	plan  *plan
}

// dependency is what the presence of one member demands.
type dependency struct {
	name     string
	required []string
	plan     *plan // nil: nothing more
}

// conditions plans what a schema demands beyond types, members and items.
func (b *planner) conditions(p *plan, r rule) {
	add := func(c condition) {
		c.orNull = r.orNull
		b.conditional = true
		p.conditions = append(p.conditions, c)
	}
	if r.Not != nil {
		add(condition{not: b.verdict(r.Not)})
	}
	if _, ok := alternative(r.AnyOf, false); len(r.AnyOf) > 0 && !ok {
		add(condition{anyOf: b.verdicts(r.AnyOf)})
	}
	if _, ok := alternative(r.OneOf, true); len(r.OneOf) > 0 && !ok {
		add(condition{oneOf: b.verdicts(r.OneOf)})
	}
	if r.If != nil && (r.Then != nil || r.Else != nil) {
		add(condition{ifThen: &branches{b.verdict(r.If), b.verdict(r.Then), b.verdict(r.Else)}})
	}
	if r.UniqueItems {
		add(condition{unique: true})
	}
	if r.Contains != nil && (r.MinContains > 0 || r.MaxContains >= 0) {
		add(condition{contains: &contained{b.verdict(r.Contains), r.MinContains, r.MaxContains}})
	}
	if old, ok := r.Items.([]*jsonschema.Schema); ok {
		t := &tuple{first: b.verdicts(old)}
		switch rest := r.AdditionalItems.(type) {
		case bool:
			if !rest {
				t.rest = b.verdict(nothing)
			}
		case *jsonschema.Schema:
			t.rest = b.verdict(rest)
		}
		add(condition{tuple: t})
	}
	if len(r.PrefixItems) > 0 {
		add(condition{tuple: &tuple{b.verdicts(r.PrefixItems), b.verdict(r.Items2020)}})
	}
	if r.PropertyNames != nil {
		add(condition{naming: b.verdict(r.PropertyNames)})
	}
	if len(r.PatternProperties) > 0 {
		m := &patterned{declared: r.Properties}
		byText := func(a, b *regexp.Regexp) int { return strings.Compare(a.String(), b.String()) }
		for _, names := range slices.SortedFunc(maps.Keys(r.PatternProperties), byText) {
			m.patterns = append(m.patterns, pattern{names, b.verdict(r.PatternProperties[names])})
		}
		switch rest := r.AdditionalProperties.(type) {
		case bool:
			if !rest {
				m.rest = b.verdict(nothing)
			}
		case *jsonschema.Schema:
			m.rest = b.verdict(rest)
		}
		add(condition{patterns: m})
	}
	var depends []dependency
	for _, name := range slices.Sorted(maps.Keys(r.Dependencies)) {
		switch what := r.Dependencies[name].(type) {
		case []string:
			depends = append(depends, dependency{name: name, required: what})
		case *jsonschema.Schema:
			depends = append(depends, dependency{name: name, plan: b.verdict(what)})
		}
	}
	for name, required := range r.DependentRequired {
		depends = append(depends, dependency{name: name, required: required})
	}
	for _, name := range slices.Sorted(maps.Keys(r.DependentSchemas)) {
		depends = append(depends, dependency{name: name, plan: b.verdict(r.DependentSchemas[name])})
	}
	if depends != nil {
		add(condition{depends: depends})
	}
	for _, values := range [][]any{r.Constant, r.Enum} {
		if nested(values) {
			add(condition{values: constants(values)})
		}
	}
	if r.UnevaluatedProperties != nil || r.UnevaluatedItems != nil {
		e := b.evaluate(r.Schema, true)
		if r.UnevaluatedProperties != nil && !e.members {
			add(condition{rest: &unevaluated{of: e, members: b.verdict(r.UnevaluatedProperties)}})
		}
		if r.UnevaluatedItems != nil && !e.items {
			add(condition{rest: &unevaluated{of: e, items: b.verdict(r.UnevaluatedItems)}})
		}
	}
	if r.Draft == jsonschema.Draft7 {
		for _, left := range []struct {
			keyword string
			present bool
		}{{"contentEncoding", r.ContentEncoding != ""}, {"contentMediaType", r.ContentMediaType != ""}} {
			if left.present {
				b.note(b.docs.gap(r.Location, left.keyword))
				add(condition{subtree: r.Schema})
			}
		}
	}
}

// nested tells whether arrays or objects are among the values.
func nested(values []any) bool { return valueKinds(values)&(maskArray|maskObject) != 0 }

// verdict plans a schema that nothing is stored for; nil for none.
func (b *planner) verdict(s *jsonschema.Schema) *plan {
	if s == nil {
		return nil
	}
	return b.share(b.gather(nil, s, false))
}

func (b *planner) verdicts(of []*jsonschema.Schema) []*plan {
	plans := make([]*plan, len(of))
	for i, s := range of {
		plans[i] = b.verdict(s)
	}
	return plans
}

// share plans a place that nothing is stored for. Equal places share one plan, so that a schema which contains
// itself becomes a plan which contains itself.
func (b *planner) share(rules []rule) *plan {
	var key []byte
	for _, r := range rules {
		id, ok := b.ids[r.Schema]
		if !ok {
			id = len(b.ids)
			b.ids[r.Schema] = id
		}
		id <<= 1
		if r.orNull {
			id |= 1
		}
		key = binary.AppendUvarint(key, uint64(id))
	}
	if p := b.shared[string(key)]; p != nil {
		return p
	}
	p := newPlan()
	b.shared[string(key)] = p
	if len(b.shared) > maxPlans {
		b.leave(rules[0].Schema, "size")
		return p
	}
	b.inner++
	b.fill(p, rules)
	b.inner--
	return p
}

// constants makes the values of a schema ready to be compared.
func constants(values []any) []any {
	out := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case json.Number:
			d := parseDecimal([]byte(v))
			c := newConstant(d.rat())
			out[i] = &c
		case []any:
			out[i] = constants(v)
		case map[string]any:
			members := make(map[string]any, len(v))
			for name, member := range v {
				members[name] = constants([]any{member})[0]
			}
			out[i] = members
		default:
			out[i] = v
		}
	}
	return out
}

// equal tells whether the value at is v, one of constants.
func (t *tape) equal(at int, v any) bool {
	n := &t.nodes[at]
	switch v := v.(type) {
	case nil:
		return n.kind == kindNull
	case bool:
		return n.kind == kindTrue && v || n.kind == kindFalse && !v
	case string:
		return n.kind == kindString && string(t.text(n)) == v
	case *constant:
		return (n.kind == kindInt || n.kind == kindNumber) && v.compare(t, n) == 0
	case []any:
		if n.kind != kindArray || n.size() != len(v) {
			return false
		}
		i := at + 1
		for _, item := range v {
			if !t.equal(i, item) {
				return false
			}
			i = t.next(i)
		}
		return true
	case map[string]any:
		if n.kind != kindObject || n.size() != len(v) {
			return false
		}
		i := at + 1
		for range n.size() {
			member, ok := v[string(t.text(&t.nodes[i]))]
			if !ok || !t.equal(i+1, member) {
				return false
			}
			i = t.next(i + 1)
		}
		return true
	}
	return false
}

// judge is satisfies, without a look at what was judged before.
func (d *Decoder) judge(p *plan, at int) bool {
	t := &d.tape
	n := &t.nodes[at]
	if p.types&(1<<n.kind) == 0 && !d.whole(p.types, n) {
		return false
	}
	if p.checks != nil && p.checks.check(t, n) != "" {
		return false
	}
	switch n.kind {
	case kindObject:
		mark := len(d.seen)
		ok := d.membersSatisfy(p, at)
		d.seen = d.seen[:mark]
		if !ok {
			return false
		}
	case kindArray:
		size := n.size()
		if size < p.minItems || p.maxItems >= 0 && size > p.maxItems {
			return false
		}
		if p.items != nil {
			i := at + 1
			for range size {
				if !d.satisfies(p.items, i) {
					return false
				}
				i = t.next(i)
			}
		}
	}
	return d.meets(p.conditions, at)
}

func (d *Decoder) membersSatisfy(p *plan, at int) bool {
	t := &d.tape
	size := t.nodes[at].size()
	if size < p.minFields || p.maxFields >= 0 && size > p.maxFields {
		return false
	}
	if len(p.props) == 0 && !p.closed && p.other == nil {
		return true
	}
	mark := len(d.seen)
	for range (len(p.props) + 63) / 64 {
		d.seen = append(d.seen, 0)
	}
	last := p.memory
	i := at + 1
	for range size {
		name, value := t.text(&t.nodes[i]), i+1
		i = t.next(value)
		k := d.member(p, last, name)
		if k >= 0 {
			last = p.memory + 1 + k
			d.seen[mark+k>>6] |= 1 << (k & 63)
			if p.props[k].declared {
				if !d.satisfies(p.props[k].plan, value) {
					return false
				}
				continue
			}
		}
		if p.closed || p.other != nil && !d.satisfies(p.other, value) {
			return false
		}
	}
	for k := range p.props {
		if p.props[k].required && d.seen[mark+k>>6]&(1<<(k&63)) == 0 {
			return false
		}
	}
	return true
}

// meets tells whether the value at meets all conditions.
func (d *Decoder) meets(conditions []condition, at int) bool {
	for i := range conditions {
		if c := &conditions[i]; !(c.orNull && d.tape.nodes[at].kind == kindNull) && !d.meet(c, at) {
			return false
		}
	}
	return true
}

func (d *Decoder) meet(c *condition, at int) bool {
	t := &d.tape
	n := &t.nodes[at]
	switch {
	case c.not != nil:
		return !d.satisfies(c.not, at)
	case c.anyOf != nil:
		return slices.ContainsFunc(c.anyOf, func(p *plan) bool { return d.satisfies(p, at) })
	case c.oneOf != nil:
		found := 0
		for _, p := range c.oneOf {
			if d.satisfies(p, at) {
				if found++; found > 1 {
					return false
				}
			}
		}
		return found == 1
	case c.ifThen != nil:
		then := c.ifThen.otherwise
		if d.satisfies(c.ifThen.when, at) {
			then = c.ifThen.then
		}
		return then == nil || d.satisfies(then, at)
	case c.also != nil:
		return d.satisfies(c.also, at)
	case c.values != nil:
		return slices.ContainsFunc(c.values, func(v any) bool { return t.equal(at, v) })
	case c.rest != nil:
		return d.meetRest(c.rest, at)
	case c.subtree != nil:
		return subtree(c.subtree, t.any(at))
	}
	switch n.kind {
	case kindArray:
		return d.meetItems(c, at)
	case kindObject:
		return d.meetMembers(c, at)
	}
	return true
}

func (d *Decoder) meetItems(c *condition, at int) bool {
	t := &d.tape
	size := t.nodes[at].size()
	i := at + 1
	switch {
	case c.unique:
		return d.distinct(at)
	case c.contains != nil:
		found := 0
		for range size {
			if d.satisfies(c.contains.plan, i) {
				found++
			}
			i = t.next(i)
		}
		return found >= c.contains.min && (c.contains.max < 0 || found <= c.contains.max)
	case c.tuple != nil:
		for k := range size {
			p := c.tuple.rest
			if k < len(c.tuple.first) {
				p = c.tuple.first[k]
			}
			if p != nil && !d.satisfies(p, i) {
				return false
			}
			i = t.next(i)
		}
	}
	return true
}

func (d *Decoder) meetMembers(c *condition, at int) bool {
	t := &d.tape
	i := at + 1
	switch {
	case c.naming != nil:
		for range t.nodes[at].size() {
			if !d.satisfies(c.naming, i) {
				return false
			}
			i = t.next(i + 1)
		}
	case c.patterns != nil:
		for range t.nodes[at].size() {
			name, value := t.text(&t.nodes[i]), i+1
			i = t.next(value)
			_, known := c.patterns.declared[string(name)]
			for _, p := range c.patterns.patterns {
				if p.names.Match(name) {
					known = true
					if !d.satisfies(p.plan, value) {
						return false
					}
				}
			}
			if !known && c.patterns.rest != nil && !d.satisfies(c.patterns.rest, value) {
				return false
			}
		}
	case c.depends != nil:
		for _, dep := range c.depends {
			if _, there := t.member(at, dep.name); !there {
				continue
			}
			for _, name := range dep.required {
				if _, there := t.member(at, name); !there {
					return false
				}
			}
			if dep.plan != nil && !d.satisfies(dep.plan, at) {
				return false
			}
		}
	}
	return true
}

// subtree lets jsonschema/v5 judge a part of a record. What it panics with may be content.
func subtree(s *jsonschema.Schema, v any) (valid bool) {
	defer func() {
		if recover() != nil {
			valid = false
		}
	}()
	return s.Validate(v) == nil
}

// distinct tells whether no two items of the array at are equal, by their digests.
func (d *Decoder) distinct(at int) bool {
	t := &d.tape
	size := t.nodes[at].size()
	if size < 2 {
		return true
	}
	d.digests = d.digests[:0]
	i := at + 1
	for range size {
		d.digests = append(d.digests, t.digest(i))
		i = t.next(i)
	}
	slices.Sort(d.digests)
	for k := 1; k < size; k++ {
		if d.digests[k] == d.digests[k-1] {
			return false
		}
	}
	return true
}

// digest is equal for equal values. It is keyed, so that nobody can choose different values with one digest; members
// count in any order, and a number counts by its value.
func (t *tape) digest(at int) uint64 {
	n := &t.nodes[at]
	switch n.kind {
	case kindInt:
		return t.mix(uint64(kindInt), n.bits)
	case kindNumber:
		exact := parseDecimal(t.raw(n))
		if v, ok := exact.int64(); ok {
			return t.mix(uint64(kindInt), uint64(v))
		}
		var h maphash.Hash
		h.SetSeed(t.seed)
		for rest := exact.text; len(rest) > 0; { // without the point
			k := slices.Index(rest, '.')
			if k < 0 {
				h.Write(rest)
				break
			}
			h.Write(rest[:k])
			rest = rest[k+1:]
		}
		sign := uint64(kindNumber)
		if exact.negative {
			sign = ^sign
		}
		return t.mix(t.mix(sign, uint64(exact.exp)), h.Sum64())
	case kindString:
		return t.mix(uint64(kindString), maphash.Bytes(t.seed, t.text(n)))
	case kindArray:
		h := uint64(kindArray)
		i := at + 1
		for range n.size() {
			h = t.mix(h, t.digest(i))
			i = t.next(i)
		}
		return t.mix(uint64(kindArray), h)
	case kindObject:
		var sum uint64
		i := at + 1
		for range n.size() {
			sum += t.mix(t.digest(i), t.digest(i+1))
			i = t.next(i + 1)
		}
		return t.mix(uint64(kindObject), sum)
	}
	return t.mix(uint64(n.kind), 0)
}

func (t *tape) mix(a, b uint64) uint64 {
	var both [16]byte
	binary.LittleEndian.PutUint64(both[:], a)
	binary.LittleEndian.PutUint64(both[8:], b)
	return maphash.Bytes(t.seed, both[:])
}

// endless tells whether some place has to meet a condition that leads back to the same place. jsonschema/v5 finds such
// schemas when it compiles them; what it does not find, it has to judge.
func (b *planner) endless() bool {
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
		for i := range p.conditions {
			if slices.ContainsFunc(p.conditions[i].here(), visit) {
				return true
			}
		}
		state[p] = left
		return false
	}
	for _, p := range b.shared {
		if visit(p) {
			return true
		}
	}
	return false
}

package validate

import (
	"encoding/json"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/finding"
)

// Decoder turns messages into rows of a Schema. It is used by one goroutine at a time. Once its buffers have grown
// to the size of a batch, a message costs no allocation unless it is refused or jsonschema/v5 has to look at it.
type Decoder struct {
	schema  *Schema
	tape    tape
	columns columns  // by slot; nil: the verdict is all that is wanted
	follows []int32  // by plan and member: which member came next the last time
	seen    []uint64 // a bit per member of the objects that are being read
	path    []step   // from the root to where an unknown member may be met
	unmet   bool     // the record does not meet a condition
	digests []uint64 // of the items of an array
	active  []*evaluated
	judging judging
	extra   []byte // taster_extra of the row that is being added
	extras  int    // slot of taster_extra
	rows    int
	used    int // bytes of messages, and of extras, since the last Take
	mem     memory.Allocator
	pass    *pass // nil: there is none, or the tape alone shall read
}

// step is one step of a path: into a member, or into an item.
type step struct {
	name string
	item int // -1 for a member
}

// room is the number of bytes from which on a batch is full. One more message of the largest size that Options can
// allow still leaves every Arrow offset within its 32 bits.
const room = 1 << 30

// NewDecoder returns a Decoder whose columns live in memory from mem, which may hold anything before.
func (s *Schema) NewDecoder(mem memory.Allocator) *Decoder {
	d := s.newChecker()
	d.mem = mem
	d.columns = make(columns, len(s.layouts))
	for slot, l := range s.layouts {
		d.columns[slot] = column{layout: l, mem: mem}
	}
	d.extras = len(s.layouts) - 1
	d.pass = newPass(d)
	return d
}

// newChecker returns a Decoder that has no columns.
func (s *Schema) newChecker() *Decoder {
	return &Decoder{schema: s, tape: tape{seed: maphash.MakeSeed()}, follows: make([]int32, s.memory)}
}

// Append checks one message and adds it as a row. When it returns a Refusal no column was changed. The Decoder keeps
// nothing of value. To append when Full is a mistake of the caller, and panics.
func (d *Decoder) Append(value []byte) *Refusal {
	if d.Full() {
		panic("validate: Append to a Decoder that is full: call Take first")
	}
	if d.pass != nil && d.pass.worthwhile(len(value)) && d.pass.read(value) {
		d.rows++
		d.used += len(value) + len(d.extra)
		return nil
	}
	return d.append(value)
}

// append is Append by way of the tape.
func (d *Decoder) append(value []byte) *Refusal {
	defer d.forget()
	if r := d.parse(value); r != nil {
		return r
	}
	if root := &d.tape.nodes[0]; root.kind != kindObject {
		return d.refuse(finding.SchemaType, root)
	}
	if r := d.check(); r != nil {
		for _, slot := range d.schema.top {
			d.columns.cut(slot, d.rows)
		}
		return r
	}
	d.rows++
	d.used += len(value) + len(d.extra)
	return nil
}

// CheckJSON gives the verdict on any JSON value, which need not be an object. It is what Append says, but for
// numbers that do not fit their column.
func (s *Schema) CheckJSON(value []byte) *Refusal {
	d, _ := s.checkers.Get().(*Decoder)
	if d == nil {
		d = s.newChecker()
	}
	defer s.checkers.Put(d)
	defer d.forget()
	if r := d.parse(value); r != nil {
		return r
	}
	return d.check()
}

// forget lets go of the message: its bytes belong to the caller.
func (d *Decoder) forget() { d.tape.src = nil }

// Rows returns the number of rows since the last Take.
func (d *Decoder) Rows() int { return d.rows }

// Full tells that the rows must be taken before the next Append. That is so after a gigabyte of messages.
func (d *Decoder) Full() bool { return d.used > room }

// Take hands over the rows since the last Take and starts anew. The caller releases the batch.
func (d *Decoder) Take() arrow.RecordBatch {
	d.columns.addNulls(d.extras, d.rows-d.columns[d.extras].rows)
	arrays := make([]arrow.Array, len(d.schema.top))
	for i, slot := range d.schema.top {
		data := d.columns.take(slot)
		arrays[i] = array.MakeFromData(data)
		data.Release()
	}
	batch := array.NewRecordBatch(d.schema.columns, arrays, int64(d.rows))
	for _, a := range arrays {
		a.Release()
	}
	d.rows, d.used = 0, 0
	return batch
}

// Release gives back the memory of rows that were not taken. The Decoder can be used again.
func (d *Decoder) Release() {
	for slot := range d.columns {
		d.columns[slot].release()
	}
	d.rows, d.used = 0, 0
}

// parse applies the limits and takes value apart.
func (d *Decoder) parse(value []byte) *Refusal {
	if len(value) > d.schema.limits.Bytes {
		return &Refusal{Code: finding.TooLarge, At: -1}
	}
	if code, at := d.tape.parse(value, d.schema.limits.Depth); code != "" {
		return &Refusal{Code: code, At: int64(at)}
	}
	return nil
}

// check walks the plan over the tape and fills the columns on the way. What the plan leaves out, jsonschema/v5 checks.
func (d *Decoder) check() *Refusal {
	d.extra, d.path, d.seen, d.unmet = d.extra[:0], d.path[:0], d.seen[:0], false
	d.judging.begin(len(d.tape.nodes), d.schema.recursive)
	if r := d.value(d.schema.plan, 0); r != nil {
		return r
	}
	if d.schema.whole || d.unmet {
		if !d.schema.whole && !d.explainable() {
			return d.unexplained()
		}
		// It says what is wrong, and has the last word.
		if r := d.schema.reference(&d.tape); r != nil {
			return r
		}
	}
	if d.columns != nil {
		d.addExtra()
	}
	return nil
}

// addExtra adds what is in extra, if there is anything. Rows without are added when the next one has some.
func (d *Decoder) addExtra() {
	if len(d.extra) > 0 {
		d.extra = append(d.extra, '}')
		d.columns.addNulls(d.extras, d.rows-d.columns[d.extras].rows)
		d.columns[d.extras].addText(d.extra)
	}
}

func (d *Decoder) refuse(code finding.Code, n *node) *Refusal {
	return &Refusal{Code: code, At: int64(n.start)}
}

// column returns where the values of p go; nil when they are not stored.
func (d *Decoder) column(p *plan) *column {
	if d.columns == nil || p.slot < 0 {
		return nil
	}
	return &d.columns[p.slot]
}

// value checks the node at against p and stores it. The Refusal's Field is relative to the value.
func (d *Decoder) value(p *plan, at int) *Refusal {
	n := &d.tape.nodes[at]
	if p.types&(1<<n.kind) == 0 && !d.whole(p.types, n) {
		if p.never {
			return d.refuse(finding.SchemaOther, n)
		}
		return d.refuse(finding.SchemaType, n)
	}
	// Beside type, enum and anyOf decided what the column can hold.
	fits := p.holds&(1<<n.kind) != 0 || d.whole(p.holds, n)
	if p.checks != nil && (n.kind < kindArray || !fits) {
		if code := p.checks.check(&d.tape, n); code != "" {
			return d.refuse(code, n)
		}
	}
	if !fits {
		return d.refuse(finding.SchemaType, n)
	}
	if p.conditions != nil && !d.unmet && !d.schema.whole {
		d.unmet = !d.meets(p.conditions, at)
	}
	switch n.kind {
	case kindObject:
		if r := d.object(p, at); r != nil {
			return r
		}
	case kindArray:
		if p.vector {
			return d.vector(p, at)
		}
		if r := d.array(p, at); r != nil {
			return r
		}
	}
	if p.checks != nil && n.kind >= kindArray { // what is inside is told first
		if code := p.checks.check(&d.tape, n); code != "" {
			return d.refuse(code, n)
		}
	}
	c := d.column(p)
	if c == nil {
		return nil
	}
	switch {
	case n.kind == kindNull:
		d.columns.addNull(p.slot)
	case c.store == storeJSON:
		c.addText(d.tape.raw(n))
	case c.store == storeText:
		c.addText(d.tape.text(n))
	case c.store == storeInt:
		v, ok := int64(n.bits), true
		if n.kind != kindInt {
			exact := parseDecimal(d.tape.raw(n))
			v, ok = exact.int64()
		}
		if !ok {
			return d.refuse(finding.NumberRange, n)
		}
		c.addInt(v)
	case c.store == storeFloat:
		c.addFloat(n.float())
	case c.store == storeBool:
		c.addBool(n.kind == kindTrue)
	}
	return nil
}

// whole tells whether n is an integer though it is not written like one, and integers are wanted.
func (d *Decoder) whole(types mask, n *node) bool {
	if n.kind != kindNumber || types&maskInt == 0 {
		return false
	}
	exact := parseDecimal(d.tape.raw(n))
	return exact.integral()
}

// member returns which member of p has the name, -1 for none. It tries the one that followed on the last one before.
func (d *Decoder) member(p *plan, last int, name []byte) int {
	if len(p.props) == 0 {
		return -1
	}
	if k := int(d.follows[last]); p.props[k].name == string(name) {
		return k
	}
	k, ok := p.index[string(name)]
	if !ok {
		return -1
	}
	d.follows[last] = k
	return int(k)
}

// object checks and stores the members of the object at.
func (d *Decoder) object(p *plan, at int) *Refusal {
	t := &d.tape
	n := &t.nodes[at]
	stored := d.columns != nil && p.store == storeStruct && p.slot != noSlot
	if stored && p.slot != rootSlot {
		d.columns.catchUp(p.slot)
	}
	mark := len(d.seen)
	for range (len(p.props) + 63) / 64 {
		d.seen = append(d.seen, 0)
	}
	unknown := false
	last := p.memory
	i := at + 1
	for range n.size() {
		name, value := t.text(&t.nodes[i]), i+1
		i = t.next(value)
		k := d.member(p, last, name)
		if k >= 0 {
			last = p.memory + 1 + k
			prop := &p.props[k]
			d.seen[mark+k>>6] |= 1 << (k & 63)
			if prop.plan != nil && prop.plan.never {
				unknown = true
				continue
			}
			if prop.declared {
				nested := stored && t.nodes[value].kind >= kindArray
				if nested {
					d.path = append(d.path, step{prop.name, -1})
				}
				if r := d.value(prop.plan, value); r != nil {
					r.Field = pointerTo("", prop.name) + r.Field
					return r
				}
				if nested {
					d.path = d.path[:len(d.path)-1]
				}
				continue
			}
		}
		if p.closed {
			unknown = true
			continue
		}
		if p.other != nil {
			if r := d.value(p.other, value); r != nil {
				if k >= 0 {
					r.Field = pointerTo("", p.props[k].name) + r.Field
				} else {
					r.Field = "" // the name is content
				}
				return r
			}
		}
		if stored && !d.keep(name, t.raw(&t.nodes[value])) {
			return &Refusal{Code: finding.TooLarge, At: -1}
		}
	}
	if n.size() < p.minFields || p.maxFields >= 0 && n.size() > p.maxFields {
		return d.refuse(finding.SchemaProperties, n)
	}
	for k := range p.props {
		if d.seen[mark+k>>6]&(1<<(k&63)) != 0 {
			continue
		}
		prop := &p.props[k]
		if prop.required {
			r := d.refuse(finding.SchemaRequired, n)
			r.Field = pointerTo("", prop.name)
			return r
		}
		if stored && prop.declared && prop.plan.slot >= 0 {
			d.columns.addNull(prop.plan.slot)
		}
	}
	if unknown {
		return d.refuse(finding.SchemaAdditional, n)
	}
	d.seen = d.seen[:mark]
	if stored && p.slot != rootSlot {
		d.columns[p.slot].rows++
	}
	return nil
}

// array checks and stores the items of the array at.
func (d *Decoder) array(p *plan, at int) *Refusal {
	t := &d.tape
	n := &t.nodes[at]
	size := n.size()
	c := d.column(p)
	stored := c != nil && c.store == storeList
	if p.items != nil {
		if stored {
			d.path = append(d.path, step{})
		}
		i := at + 1
		for k := range size {
			if stored {
				d.path[len(d.path)-1].item = k
			}
			if r := d.value(p.items, i); r != nil {
				if p.items.never {
					return d.refuse(finding.SchemaItems, n)
				}
				r.Field = "/" + strconv.Itoa(k) + r.Field
				return r
			}
			i = t.next(i)
		}
		if stored {
			d.path = d.path[:len(d.path)-1]
		}
	}
	if size < p.minItems || p.maxItems >= 0 && size > p.maxItems {
		return d.refuse(finding.SchemaItems, n)
	}
	if stored {
		c.end(d.columns[c.children[0]].rows)
		c.rows++
	}
	return nil
}

// vector checks and stores the array at as float32. Each number goes by way of a double, as in numpy.
func (d *Decoder) vector(p *plan, at int) *Refusal {
	t := &d.tape
	n := &t.nodes[at]
	size := n.size()
	if size < p.minItems || p.maxItems >= 0 && size > p.maxItems {
		return d.refuse(finding.VectorLength, n)
	}
	c := d.column(p)
	if c != nil {
		c.vectorRoom(size)
	}
	items := p.items
	i := at + 1
	for k := range size {
		item := &t.nodes[i]
		var code finding.Code
		var f float32
		switch {
		case item.kind == kindNull:
			code = finding.VectorValue
		case items.types&(1<<item.kind) == 0 && !d.whole(items.types, item):
			code = finding.SchemaType
		default:
			if f = float32(item.float()); math.IsInf(float64(f), 0) {
				code = finding.VectorValue
			} else if items.checks != nil {
				code = items.checks.check(t, item)
			}
			if code == "" && items.conditions != nil && !d.unmet && !d.schema.whole {
				d.unmet = !d.meets(items.conditions, i)
			}
		}
		if code != "" {
			r := d.refuse(code, item)
			r.Field = "/" + strconv.Itoa(k)
			return r
		}
		if c != nil {
			c.vectors.values[c.size+k] = f
		}
		i++
	}
	if c != nil {
		c.size += size
		c.end(c.size)
		c.rows++
	}
	return nil
}

// keep puts a member that the schema does not declare into taster_extra. False: there is no more room.
func (d *Decoder) keep(name, value []byte) bool {
	out := d.extra
	if len(out) == 0 {
		out = append(out, '{', '"')
	} else {
		out = append(out, ',', '"')
	}
	for i := range d.path {
		out = append(out, '/')
		if s := &d.path[i]; s.item < 0 {
			out = appendToken(out, s.name)
		} else {
			out = strconv.AppendInt(out, int64(s.item), 10)
		}
	}
	out = appendToken(append(out, '/'), name)
	out = append(out, '"', ':')
	d.extra = append(out, value...)
	return len(d.extra) < room/2
}

const hex = "0123456789abcdef"

// appendToken writes a name as a token of an RFC 6901 pointer within a JSON string.
func appendToken[T string | []byte](out []byte, name T) []byte {
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '~':
			out = append(out, '~', '0')
		case c == '/':
			out = append(out, '~', '1')
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			out = append(out, c)
		}
	}
	return out
}

// check returns why the value breaks a demand, "" when it does not. The type was checked before.
func (c *checks) check(t *tape, n *node) finding.Code {
	if n.kind == kindString {
		return c.checkText(t.text(n))
	}
	for i := range c.enums {
		if e := &c.enums[i]; !e.has(t, n) {
			return e.code
		}
	}
	switch n.kind {
	case kindInt, kindNumber:
		for i := range c.bounds {
			b := &c.bounds[i]
			if s := b.limit.compare(t, n); s == b.forbidden || s == 0 && b.exclusive {
				return finding.SchemaRange
			}
		}
		for i := range c.multiples {
			if !c.multiples[i].divides(t, n) {
				return finding.SchemaMultipleOf
			}
		}
	}
	return ""
}

// checkText does so for the text of a string.
func (c *checks) checkText(text []byte) finding.Code {
	for i := range c.enums {
		if e := &c.enums[i]; !e.hasText(text) {
			return e.code
		}
	}
	for _, valid := range c.formats {
		if !valid(unsafe.String(unsafe.SliceData(text), len(text))) {
			return finding.SchemaFormat
		}
	}
	// A code point has one to four bytes, which often is all that one needs to know.
	if c.maxLength >= 0 && len(text) > c.maxLength && utf8.RuneCount(text) > c.maxLength ||
		len(text) < c.minLength || len(text) < 4*c.minLength && utf8.RuneCount(text) < c.minLength {
		return finding.SchemaLength
	}
	for _, p := range c.patterns {
		if !p.Match(text) {
			return finding.SchemaPattern
		}
	}
	return ""
}

func (e *enum) hasText(text []byte) bool {
	_, ok := e.strings[string(text)]
	return ok
}

func (e *enum) has(t *tape, n *node) bool {
	switch n.kind {
	case kindInt, kindNumber:
		return slices.ContainsFunc(e.numbers, func(c constant) bool { return c.compare(t, n) == 0 })
	case kindNull, kindFalse, kindTrue:
		return e.kinds&(1<<n.kind) != 0
	}
	return false
}

// any turns the value at into what encoding/json would make of it with UseNumber, which is what jsonschema/v5 reads.
func (t *tape) any(at int) any {
	n := &t.nodes[at]
	switch n.kind {
	case kindFalse, kindTrue:
		return n.kind == kindTrue
	case kindInt:
		return json.Number(t.raw(n))
	case kindNumber:
		text := t.raw(n)
		if len(text) > 64 || slices.ContainsFunc(text, func(c byte) bool { return c|0x20 == 'e' }) {
			exact := parseDecimal(text)
			return json.Number(exact.String())
		}
		return json.Number(text)
	case kindString:
		return string(t.text(n))
	case kindArray:
		items := make([]any, n.size())
		i := at + 1
		for k := range items {
			items[k] = t.any(i)
			i = t.next(i)
		}
		return items
	case kindObject:
		members := make(map[string]any, n.size())
		i := at + 1
		for range n.size() {
			members[string(t.text(&t.nodes[i]))] = t.any(i + 1)
			i = t.next(i + 1)
		}
		return members
	}
	return nil
}

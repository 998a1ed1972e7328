package validate

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"

	"github.com/tasterhq/taster/schema/finding"
)

// A program is a plan made ready for one pass over the bytes: what follows from the schema alone is worked out here,
// once, so that little is left to be decided for a value. Plans remain what a program means.

// op says what the pass does with a value.
type op uint8

const (
	opText   op = iota // a string, into its column
	opInt              // an integer
	opFloat            // a number
	opBool             // true or false
	opObject           // an object with members that the schema names
	opList             // an array
	opVector           // an array of numbers, as float32
	opJSON             // several kinds, or one without a type of its own: checked, and kept as it came
	opMeet             // any of these, and conditions
	opNever            // nothing that the pass can accept
)

// task is what the pass does at one place in a record.
type task struct {
	op     op
	kinds  mask // that can be accepted: type, enum and what else follows from the schema alone
	slot   int  // column; noSlot: checked and not stored
	text   *textRules
	number *numberRules
	object *object
	list   *list
	meet   *meeting
}

// meeting is a value that has to meet conditions, too: it is taken apart for that by the tape.
type meeting struct {
	task
	conditions []condition
}

// list is an array to the pass.
type list struct {
	items    *task // nil when anything goes
	minItems int
	maxItems int // -1: no limit
	stored   bool
	plain    bool // the items are numbers of which nothing more is demanded, and are stored
}

// object is an object to the pass.
type object struct {
	fields    []field
	memory    int // where the Decoder remembers which member follows which
	required  [maxFields / 64]uint64
	optional  [maxFields / 64]uint64 // those of them that have a column, and are null when absent
	words     int                    // of the above that are used
	closed    bool
	other     *task // of members that are not named; nil when anything goes
	minFields int
	maxFields int // -1: no limit
	stored    bool
	counted   bool // stored, and a column of its own: not the record
	slot      int

	// Names are looked up by a hash of their first and last eight bytes and their length that no two share. Where
	// there is no such hash, index is used.
	seed  uint64
	shift uint
	table []uint16 // 1 + field; 0 for none
	index map[string]int32
}

// maxFields is how many members an object may name for a program to be made: the set of those seen is a few words.
const maxFields = 256

// field is a member that the schema names.
type field struct {
	head [2]uint64 // the bytes `"name":`, the first 16 of them
	mask [2]uint64
	size int    // of `"name":`
	tail string // what of it is behind the first 16 bytes
	name string
	task
	declared bool
	nested   bool // unknown members may be met within, and are kept
}

// unmatchable is what no word masked with 0 is.
const unmatchable = 1

// textRules are checks on strings.
type textRules struct {
	minLength, maxLength int  // in code points; -1: no limit
	lengths              bool // they are all that is demanded
	short                []shortText
	patterns             []matcher
	rest                 *checks // enums and formats as they are; nil when the above says all
}

// shortText is a string of at most 16 bytes.
type shortText struct {
	size int
	head [2]uint64
}

// numberRules are checks on numbers.
type numberRules struct {
	min, max   int64   // of integers
	above      float64 // what is between them, and equal to neither, is within the bounds
	below      float64
	wholly     bool // an integer is good if and only if it is within min and max
	everything *checks
}

// assemble makes the program of a whole schema; nil when the pass cannot help.
func assemble(p *plan) *program {
	a := assembler{}
	o := a.object(p)
	if a.failed || p.types&p.holds&maskObject == 0 || p.checks != nil && p.checks.enums != nil {
		return nil
	}
	return &program{o, p.conditions}
}

// program is what the pass does with a record.
type program struct {
	*object
	conditions []condition
}

type assembler struct{ failed bool }

// task makes what the pass does where p applies.
func (a *assembler) task(p *plan) task {
	s := task{op: opJSON, kinds: p.types & p.holds, slot: p.slot}
	if c := p.checks; c != nil {
		for _, e := range c.enums {
			s.kinds &= e.kinds | maskNumber | maskString // an enum with arrays or objects in it is not compiled
		}
		s.text, s.number = newTextRules(c), newNumberRules(c)
	}
	if s.kinds&maskNumber == 1<<kindNumber { // whatever is not an integer; schemas hardly ever ask for that
		s.kinds &^= maskNumber
	}
	stored := p.store
	if p.slot == noSlot && !p.vector { // nobody looked for a column
		stored = shape(p)
	}
	switch stored {
	case storeText:
		s.op = opText
	case storeInt:
		s.op = opInt
	case storeFloat:
		s.op = opFloat
	case storeBool:
		s.op = opBool
	case storeStruct:
		s.op = opObject
	case storeList:
		s.op = opList
	case storeVector:
		s.op = opVector
	}
	if s.kinds&maskObject != 0 && (len(p.props) > 0 || p.other != nil || p.closed || p.minFields > 0 || p.maxFields >= 0) {
		s.object = a.object(p)
	}
	if s.kinds&maskArray != 0 && (p.items != nil || p.minItems > 0 || p.maxItems >= 0) {
		s.list = &list{minItems: p.minItems, maxItems: p.maxItems, stored: p.store == storeList && p.slot >= 0}
		if p.items != nil {
			items := a.task(p.items)
			if p.items.never {
				items.op = opNever
			}
			s.list.items = &items
			s.list.plain = items.number == nil && items.kinds&maskNumber == maskNumber && (p.vector || items.op == opFloat && items.slot >= 0)
		}
	}
	// An enum may leave nothing of what the column is for.
	missing := false
	switch s.op {
	case opText:
		missing = s.kinds&maskString == 0
	case opInt:
		missing = s.kinds&maskInt == 0
	case opFloat:
		missing = s.kinds&maskNumber == 0
	case opBool:
		missing = s.kinds&maskBool == 0
	case opObject:
		missing = s.object == nil
	case opList, opVector:
		missing = s.list == nil
	}
	if missing {
		s.op = opNever
	}
	if len(p.conditions) > 0 {
		return task{op: opMeet, slot: p.slot, meet: &meeting{s, p.conditions}}
	}
	return s
}

// nested tells whether unknown members may be met, and kept, within what t reads.
func (t *task) nested() bool {
	return t.op == opObject || t.op == opList || t.op == opMeet && t.meet.nested()
}

// object makes the program of an object.
func (a *assembler) object(p *plan) *object {
	if len(p.props) > maxFields {
		a.failed = true
		return nil
	}
	o := &object{
		memory: p.memory, closed: p.closed, minFields: p.minFields, maxFields: p.maxFields, index: p.index,
		stored: p.store == storeStruct && p.slot != noSlot, counted: p.store == storeStruct && p.slot >= 0, slot: p.slot,
		words: (len(p.props) + 63) / 64,
	}
	if p.other != nil {
		other := a.task(p.other)
		o.other = &other
	}
	for k, prop := range p.props {
		f := field{name: prop.name, declared: prop.declared}
		switch {
		case prop.plan != nil && prop.plan.never:
			f.task = task{op: opNever, slot: prop.plan.slot}
		case prop.declared:
			f.task = a.task(prop.plan)
		case p.closed:
			f.op = opNever
		default:
			f.op = opJSON
		}
		f.nested = o.stored && f.task.nested()
		f.spell()
		o.fields = append(o.fields, f)
		if prop.required {
			o.required[k>>6] |= 1 << (k & 63)
		} else if o.stored && prop.declared && prop.plan.slot >= 0 {
			o.optional[k>>6] |= 1 << (k & 63)
		}
	}
	if len(o.fields) == 0 { // something must be there to be predicted
		o.fields = []field{{task: task{op: opNever}, head: [2]uint64{unmatchable}}}
	}
	o.hash()
	return o
}

// spell writes down how the member is usually written. A name that has to be escaped is never matched as it stands,
// nor are its bytes looked up.
func (f *field) spell() {
	text := `"` + f.name + `":`
	f.size = len(text)
	var padded [16]byte
	copy(padded[:], text)
	for k := range f.head {
		f.head[k] = binary.LittleEndian.Uint64(padded[8*k:])
		f.mask[k] = lowBytes(f.size - 8*k)
	}
	if f.size > 16 {
		f.tail = text[16:]
	}
	for i := range len(f.name) {
		if c := f.name[i]; c < 0x20 || c == '"' || c == '\\' {
			f.head, f.mask = [2]uint64{unmatchable}, [2]uint64{}
			return
		}
	}
}

// lowBytes is the mask of the first n bytes of a word.
func lowBytes(n int) uint64 {
	switch {
	case n <= 0:
		return 0
	case n >= 8:
		return math.MaxUint64
	}
	return 1<<(8*n) - 1
}

// fold makes of a name what is hashed.
func fold(first, last uint64, size int) uint64 {
	return first ^ bits.RotateLeft64(last, 31) ^ uint64(size)
}

// hash looks for a table in which each name has a place of its own.
func (o *object) hash() {
	n := len(o.index)
	if n == 0 {
		return
	}
	folded := make([]uint64, n)
	for k := range folded {
		var text [16]byte
		name := o.fields[k].name
		copy(text[:8], name)
		copy(text[8:], name[max(0, len(name)-8):])
		folded[k] = fold(binary.LittleEndian.Uint64(text[:]), binary.LittleEndian.Uint64(text[8:]), len(name))
	}
	for width := bits.Len(uint(2 * n)); width <= bits.Len(uint(16*n)); width++ {
		table := make([]uint16, 1<<width)
		seed := uint64(0x9E3779B97F4A7C15)
	next:
		for range 64 {
			seed = seed*0xD1342543DE82EF95 + 2
			clear(table)
			for k, f := range folded {
				at := f * (seed | 1) >> (64 - width)
				if table[at] != 0 {
					continue next
				}
				table[at] = uint16(k + 1)
			}
			o.seed, o.shift, o.table = seed|1, uint(64-width), table
			return
		}
	}
}

func newTextRules(c *checks) *textRules {
	r := &textRules{minLength: c.minLength, maxLength: c.maxLength}
	if c.formats != nil || len(c.enums) > 0 {
		r.rest = c
	}
	if len(c.enums) == 1 && len(c.enums[0].strings) <= 8 {
		for s := range c.enums[0].strings {
			if len(s) > 16 {
				r.short = nil
				break
			}
			var text [16]byte
			copy(text[:], s)
			r.short = append(r.short, shortText{
				len(s), [2]uint64{binary.LittleEndian.Uint64(text[:]), binary.LittleEndian.Uint64(text[8:])},
			})
		}
		if r.short != nil && c.formats == nil {
			r.rest = nil
		}
	}
	for _, p := range c.patterns {
		r.patterns = append(r.patterns, newMatcher(p))
	}
	if r.minLength <= 0 && r.maxLength < 0 && r.patterns == nil && r.short == nil && r.rest == nil {
		return nil
	}
	r.lengths = r.patterns == nil && r.short == nil && r.rest == nil
	return r
}

func newNumberRules(c *checks) *numberRules {
	if len(c.bounds) == 0 && len(c.multiples) == 0 && len(c.enums) == 0 {
		return nil
	}
	r := &numberRules{min: math.MinInt64, max: math.MaxInt64, above: math.Inf(-1), below: math.Inf(1), everything: c}
	r.wholly = len(c.multiples) == 0 && len(c.enums) == 0
	if !r.wholly {
		r.above, r.below = r.below, r.above
	}
	for i := range c.bounds {
		b := &c.bounds[i]
		least, isInt := integerBound(b)
		if !isInt {
			r.wholly = false
		}
		if b.forbidden < 0 {
			r.min, r.above = max(r.min, least), max(r.above, b.limit.float)
		} else {
			r.max, r.below = min(r.max, least), min(r.below, b.limit.float)
		}
	}
	return r
}

// integerBound returns the last integer within a bound; false when it is not an int64.
func integerBound(b *bound) (int64, bool) {
	whole := new(big.Int)
	rest := new(big.Int)
	whole.DivMod(b.limit.exact.Num(), b.limit.exact.Denom(), rest) // towards -∞
	switch {
	case rest.Sign() == 0 && b.exclusive:
		whole.Sub(whole, big.NewInt(int64(b.forbidden)))
	case rest.Sign() != 0 && b.forbidden < 0:
		whole.Add(whole, big.NewInt(1))
	}
	return whole.Int64(), whole.IsInt64()
}

// good tells whether a number meets the demands.
func (r *numberRules) good(t *tape, n *node) bool {
	if n.kind == kindInt && r.wholly {
		return int64(n.bits) >= r.min && int64(n.bits) <= r.max
	}
	if f := n.float(); f > r.above && f < r.below {
		return true
	}
	return r.everything.check(t, n) == finding.Code("")
}

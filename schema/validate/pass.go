package validate

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

// The pass reads a record once: it checks the JSON and the schema and writes into the columns as it goes. It only ever
// accepts. Whatever it cannot vouch for, broken records and odd ones alike, it leaves: the row is not counted, and the
// tape and the plan begin anew, which are the definition of every verdict and of every value. So one thing has to hold:
// what the pass accepts, they accept, and with the same values.

// pass is the part of a Decoder that makes the pass. Its methods take the place of something in the record and return
// what is behind it; left when the record has to be left.
type pass struct {
	*Decoder
	with    *instructions
	root    *program
	columns columns // the Decoder's, at hand
	follows []int32

	// The record as a copy with zero bytes around it: whole words can be read wherever it is, and a zero byte, which
	// is part of no JSON text, ends whatever is being scanned.
	text  []byte
	base  unsafe.Pointer // of the record in text
	size  int            // of the record
	depth int            // how many more containers may be opened

	names []nameRef // in the objects that are being read: names that the schema does not know
	table []int32   // hash table of one large object's names
	aside tape      // reads, with the tape's own methods, what is too rare to be read here
	sink  column    // takes strings that are not stored; they stay uncounted

	misses int // see worthwhile
	idle   int
}

const (
	left    = -1
	margin  = 64      // zero bytes on either side of a record
	maxText = 4 << 20 // larger records are left: they would be copied, and the copy kept
)

// newPass returns the pass of a Decoder; nil when its schema has no program.
func newPass(d *Decoder) *pass {
	if d.schema.program == nil {
		return nil
	}
	return &pass{
		Decoder: d, with: levels[len(levels)-1], root: d.schema.program, columns: d.columns, follows: d.follows,
		sink: column{mem: memory.NewGoAllocator()}, aside: tape{seed: d.tape.seed},
	}
}

// Of how many records that are left more than of those that are read the pass is given a rest, and for how long. To
// read a record with the pass in vain costs a third of what the tape and the plan do, so it has to succeed with one
// record of four to be worth it.
const (
	patience = 96
	respite  = 256
)

// worthwhile tells whether to try the pass. Streams change, so that it is tried again now and then.
func (p *pass) worthwhile(size int) bool {
	if p.idle > 0 {
		p.idle--
		return false
	}
	return size <= min(maxText, p.schema.limits.Bytes)
}

// read adds a record as a row. False: the tape has to be asked, and nothing was added.
func (p *pass) read(value []byte) bool {
	if need := margin + len(value) + margin; need > len(p.text) {
		p.text = make([]byte, max(need+need/4, 4096))
		p.aside.src, p.base = p.text[margin:], unsafe.Pointer(&p.text[margin])
	}
	p.size = copy(p.text[margin:], value)
	*(*[margin]byte)(unsafe.Add(p.base, p.size)) = [margin]byte{}
	p.depth, p.names = p.schema.limits.Depth, p.names[:0]
	p.extra, p.path = p.extra[:0], p.path[:0]

	if i := p.space(0); p.byte(i) == '{' {
		if i = p.object(p.root.object, i+1); i >= 0 && p.space(i) == p.size && p.meets(p.root.conditions, 0, p.size) {
			p.addExtra()
			p.misses = max(0, p.misses-1)
			return true
		}
	}
	if p.misses += 3; p.misses >= patience {
		p.misses, p.idle = patience-4*3, respite
	}
	for _, slot := range p.schema.top {
		p.columns.cut(slot, p.rows)
	}
	return false
}

func (p *pass) byte(i int) byte { return *(*byte)(unsafe.Add(p.base, i)) }

// word reads the eight bytes from i on. Nothing reads further than margin behind the record.
func (p *pass) word(i int) uint64 { return load(p.base, i) }

func load(base unsafe.Pointer, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(base, i))[:])
}

func (p *pass) raw(from, to int) []byte { return p.text[margin+from : margin+to] }

func (p *pass) space(i int) int {
	for {
		switch p.byte(i) {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
}

// object reads the object whose first byte behind the brace is at i.
func (p *pass) object(o *object, i int) int {
	if p.depth == 0 {
		return left
	}
	p.depth--
	if o.counted {
		p.columns.catchUp(o.slot)
	}
	var seen [maxFields / 64]uint64
	last, base, count := o.memory, len(p.names), 0
	c := p.byte(i)
	if c <= ' ' {
		i = p.space(i)
		c = p.byte(i)
	}
	for c != '}' {
		// The name: the one that followed the last time, as it is usually written, or any other.
		k := int(p.follows[last])
		f := &o.fields[k]
		if (p.word(i)&f.mask[0]^f.head[0])|(p.word(i+8)&f.mask[1]^f.head[1]) == 0 && (f.size <= 16 || p.tail(i, f)) {
			i += f.size
		} else {
			var at, size int
			if at, size, i = p.name(i); i < 0 {
				return left
			}
			if k = p.find(o, at, size); k < 0 {
				if i = p.unknown(o, base, p.raw(at, at+size), p.space(i)); i < 0 {
					return left
				}
				f = nil
			} else {
				p.follows[last] = int32(k)
				f = &o.fields[k]
			}
		}
		if f != nil {
			last = o.memory + 1 + k
			if seen[k>>6&3]>>(k&63)&1 != 0 {
				return left
			}
			seen[k>>6&3] |= 1 << (k & 63)
			if c = p.byte(i); c <= ' ' {
				if i++; p.byte(i) <= ' ' || c != ' ' {
					i = p.space(i - 1)
				}
			}
			switch {
			case f.op == opText && p.byte(i) == '"': // most members are strings
				i = p.string(&f.task, i+1)
			case !f.declared:
				i = p.undeclared(o, f, i)
			case f.nested:
				p.path = append(p.path, step{f.name, -1})
				i = p.value(&f.task, i)
				p.path = p.path[:len(p.path)-1]
			default:
				i = p.value(&f.task, i)
			}
			if i < 0 {
				return left
			}
		}
		count++
		if c = p.byte(i); c <= ' ' {
			i = p.space(i)
			c = p.byte(i)
		}
		if c == ',' {
			if i++; p.byte(i) == ' ' {
				i++
			}
		} else if c != '}' {
			return left
		}
	}
	i++
	if len(p.names) > base {
		if len(p.names) > base+few && p.repeated(base) {
			return left
		}
		p.names = p.names[:base]
	}
	if count < o.minFields || o.maxFields >= 0 && count > o.maxFields {
		return left
	}
	for w := range o.words {
		if o.required[w&3]&^seen[w&3] != 0 {
			return left
		}
		for absent := o.optional[w&3] &^ seen[w&3]; absent != 0; absent &= absent - 1 {
			p.columns.addNull(o.fields[w<<6+bits.TrailingZeros64(absent)].slot)
		}
	}
	if o.counted {
		p.columns[o.slot].rows++
	}
	p.depth++
	return i
}

// tail compares what of a name is behind its first 16 bytes.
func (p *pass) tail(i int, f *field) bool {
	return i+f.size <= p.size && string(p.raw(i+16, i+f.size)) == f.tail
}

// name reads a name and the colon, with white space wherever it may be. Names with escapes are left.
func (p *pass) name(i int) (at, size, end int) {
	if i = p.space(i); p.byte(i) != '"' {
		return 0, 0, left
	}
	at = i + 1
	end, size, _ = p.copy(&p.sink, at)
	if end < 0 || end-1-at != size { // with escapes it is shorter than it stands
		return 0, 0, left
	}
	if i = p.space(end); p.byte(i) != ':' {
		return 0, 0, left
	}
	return at, size, i + 1
}

// find returns the field with the name; -1 when the object has none.
func (p *pass) find(o *object, at, size int) int {
	if o.table == nil {
		if k, ok := o.index[string(p.raw(at, at+size))]; ok {
			return int(k)
		}
		return -1
	}
	first := p.word(at) & lowBytes(size)
	final := first
	if size >= 8 {
		final = p.word(at + size - 8)
	}
	k := int(o.table[fold(first, final, size)*o.seed>>o.shift]) - 1
	if k >= 0 && o.fields[k].name != string(p.raw(at, at+size)) {
		return -1
	}
	return k
}

// unknown reads the value of a member that the schema does not name.
func (p *pass) unknown(o *object, base int, name []byte, i int) int {
	if o.closed || !p.first(base, name) {
		return left
	}
	return p.kept(o, name, i)
}

// undeclared reads the value of a member that only `required` names: one that there must be, and otherwise unknown.
func (p *pass) undeclared(o *object, f *field, i int) int {
	if o.closed || f.op == opNever {
		return left
	}
	return p.kept(o, []byte(f.name), i)
}

func (p *pass) kept(o *object, name []byte, i int) int {
	var end int
	if o.other != nil {
		end = p.value(o.other, i)
	} else {
		end = p.skip(i)
	}
	if end < 0 || o.stored && !p.keep(name, p.raw(i, end)) {
		return left
	}
	return end
}

// value reads the value at i, which no white space stands before.
func (p *pass) value(t *task, i int) int {
	c := p.byte(i)
	switch t.op {
	case opText:
		if c == '"' {
			return p.string(t, i+1)
		}
	case opInt:
		if c != 'n' {
			return p.integer(t, i)
		}
	case opFloat:
		if c != 'n' {
			return p.float(t, i)
		}
	case opBool:
		if end, on, kinds := p.boolean(i); end >= 0 {
			if t.kinds&kinds == 0 {
				return left
			}
			if t.slot >= 0 {
				p.columns[t.slot].addBool(on)
			}
			return end
		}
	case opObject:
		if c == '{' {
			return p.object(t.object, i+1)
		}
	case opList:
		if c == '[' {
			return p.array(t, i+1)
		}
	case opVector:
		if c == '[' {
			return p.vector(t, i+1)
		}
	case opJSON:
		return p.any(t, i)
	case opMeet:
		end := p.value(&t.meet.task, i)
		if end < 0 || !p.meets(t.meet.conditions, i, end) {
			return left
		}
		return end
	case opNever:
		return left
	}
	return p.null(t, i)
}

// meets tells whether a value that was read meets conditions.
func (p *pass) meets(conditions []condition, from, to int) bool {
	if len(conditions) == 0 {
		return true
	}
	defer p.forget()
	p.seen = p.seen[:0]
	code, _ := p.tape.parse(p.raw(from, to), p.schema.limits.Depth)
	p.judging.begin(len(p.tape.nodes), p.schema.recursive)
	return code == "" && p.Decoder.meets(conditions, 0)
}

func (p *pass) null(t *task, i int) int {
	if uint32(p.word(i)) != nullWord || t.kinds&maskNull == 0 {
		return left
	}
	if t.slot >= 0 {
		p.columns.addNull(t.slot)
	}
	return i + 4
}

// The literals as words.
const (
	nullWord  = 'n' | 'u'<<8 | 'l'<<16 | 'l'<<24
	trueWord  = 't' | 'r'<<8 | 'u'<<16 | 'e'<<24
	falseWord = 'f' | 'a'<<8 | 'l'<<16 | 's'<<24 | 'e'<<32
)

// boolean reads true or false.
func (p *pass) boolean(i int) (end int, on bool, kind mask) {
	w := p.word(i)
	if uint32(w) == trueWord {
		return i + 4, true, 1 << kindTrue
	}
	if w&(1<<40-1) == falseWord {
		return i + 5, false, 1 << kindFalse
	}
	return left, false, 0
}

// any reads a value that may be of several kinds, or whose kind has no column of its own.
func (p *pass) any(t *task, i int) int {
	end := left
	switch c := p.byte(i); c {
	case '"':
		if t.kinds&maskString != 0 {
			var size int
			var ascii bool
			end, size, ascii = p.copy(&p.sink, i+1)
			if end >= 0 && t.text != nil && !t.text.good(p.sink.text.values[:size], ascii) {
				return left
			}
		}
	case '{':
		if t.kinds&maskObject == 0 {
			return left
		}
		if t.object != nil {
			end = p.object(t.object, i+1)
		} else {
			end = p.skip(i)
		}
	case '[':
		if t.kinds&maskArray == 0 {
			return left
		}
		if t.list != nil {
			end = p.array(t, i+1)
		} else {
			end = p.skip(i)
		}
	case 't', 'f':
		var kind mask
		if end, _, kind = p.boolean(i); t.kinds&kind == 0 {
			return left
		}
	case 'n':
		return p.null(t, i)
	default:
		var n node
		if end, n = p.number(i); end < 0 || t.kinds&(1<<n.kind) == 0 || t.number != nil && !t.number.good(&p.aside, &n) {
			return left
		}
	}
	if end >= 0 && t.slot >= 0 {
		p.columns[t.slot].addText(p.raw(i, end))
	}
	return end
}

// stretch bounds what is reserved for numbers at once: a large record is no reason to reserve much in each of its lists.
const stretch = 512

// array reads the array whose first byte behind the bracket is at i.
func (p *pass) array(t *task, i int) int {
	if p.depth == 0 {
		return left
	}
	p.depth--
	l := t.list
	if l.stored {
		p.path = append(p.path, step{})
	}
	count := 0
	c := p.byte(i)
	if c <= ' ' {
		i = p.space(i)
		c = p.byte(i)
	}
	for c != ']' {
		if l.plain {
			child := &p.columns[l.items.slot]
			n, next := fractions(p, child.floatRoom(min(stretch, p.numbersAhead(i))), &p.with.float64s, i)
			i = next
			child.rows += n
			count += n
		}
		if l.items == nil {
			i = p.skip(i)
		} else {
			if l.stored {
				p.path[len(p.path)-1].item = count
			}
			i = p.value(l.items, i)
		}
		if i < 0 {
			return left
		}
		count++
		if i, c = p.separator(i, ']'); i < 0 {
			return left
		}
	}
	if count < l.minItems || l.maxItems >= 0 && count > l.maxItems {
		return left
	}
	if l.stored {
		p.path = p.path[:len(p.path)-1]
		c := &p.columns[t.slot]
		c.end(p.columns[c.children[0]].rows)
		c.rows++
	}
	p.depth++
	return i + 1
}

// separator reads a comma and goes to what follows it, or stays at the closing bracket, which it returns.
func (p *pass) separator(i int, closing byte) (int, byte) {
	c := p.byte(i)
	if c <= ' ' {
		i = p.space(i)
		c = p.byte(i)
	}
	if c == closing {
		return i, c
	}
	if c != ',' {
		return left, 0
	}
	if i++; p.byte(i) <= ' ' {
		i = p.space(i)
	}
	if p.byte(i) == closing { // a comma with nothing behind
		return left, 0
	}
	return i, 0
}

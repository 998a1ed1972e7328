package validate

import (
	"hash/maphash"
	"math/bits"
)

// skip reads any value, of which the schema demands nothing but that it is one.
func (p *pass) skip(i int) int {
	end := left
	switch p.byte(i) {
	case '"':
		end, _, _ = p.copy(&p.sink, i+1)
	case '{':
		end = p.skipObject(i + 1)
	case '[':
		end = p.skipArray(i + 1)
	case 't', 'f':
		end, _, _ = p.boolean(i)
	case 'n':
		if uint32(p.word(i)) == nullWord {
			end = i + 4
		}
	default:
		end, _ = p.number(i)
	}
	return end
}

func (p *pass) skipArray(i int) int {
	if p.depth == 0 {
		return left
	}
	p.depth--
	i = p.space(i)
	for c := p.byte(i); c != ']'; {
		if i = p.skip(i); i < 0 {
			return left
		}
		if i, c = p.separator(i, ']'); i < 0 {
			return left
		}
	}
	p.depth++
	return i + 1
}

func (p *pass) skipObject(i int) int {
	if p.depth == 0 {
		return left
	}
	p.depth--
	base := len(p.names)
	i = p.space(i)
	for c := p.byte(i); c != '}'; {
		at, size, value := p.name(i)
		if value < 0 || !p.first(base, p.raw(at, at+size)) {
			return left
		}
		if i = p.skip(p.space(value)); i < 0 {
			return left
		}
		if i, c = p.separator(i, '}'); i < 0 {
			return left
		}
	}
	if len(p.names) > base+few && p.repeated(base) {
		return left
	}
	p.names = p.names[:base]
	p.depth++
	return i + 1
}

// nameRef is a name in the record.
type nameRef struct {
	text []byte
	mark uint64 // length and first bytes, which tell nearly all names apart
}

// first notes a name in the object whose names begin at base; false when it is not the first of that name. Of many
// names only the first few are compared here, see repeated.
func (p *pass) first(base int, text []byte) bool {
	mark := uint64(len(text)) << 56
	for k := range min(len(text), 7) {
		mark |= uint64(text[k]) << (8 * k)
	}
	if len(p.names)-base < few {
		for k := range p.names[base:] {
			if n := &p.names[base+k]; n.mark == mark && string(n.text) == string(text) {
				return false
			}
		}
	}
	p.names = append(p.names, nameRef{text, mark})
	return true
}

// repeated looks for two equal names among many, in linear time: the hash is keyed, so that nobody can choose names
// that collide.
func (p *pass) repeated(base int) bool {
	names := p.names[base:]
	want := 1 << bits.Len(uint(2*len(names)))
	if cap(p.table) < want {
		p.table = make([]int32, want)
	}
	table := p.table[:want]
	clear(table)
	for k := range names {
		h := maphash.Bytes(p.aside.seed, names[k].text)
		for {
			h &= uint64(want - 1)
			at := table[h]
			if at == 0 {
				table[h] = int32(k + 1)
				break
			}
			if other := &names[at-1]; other.mark == names[k].mark && string(other.text) == string(names[k].text) {
				return true
			}
			h++
		}
	}
	return false
}

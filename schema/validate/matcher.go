package validate

import (
	"regexp"
	"regexp/syntax"
	"slices"
)

// matcher is a regular expression and, where it is a simple one, an automaton that answers for ASCII text: a step a
// byte, where package regexp takes some ten times as long.
type matcher struct {
	expression *regexp.Regexp
	next       []uint8 // by state and byte; nil when there is no automaton
	final      []bool  // by state: the text may end here
	prefix     string  // how every text begins that matches, and the state behind it
	behind     int
}

// The first states of every automaton.
const (
	matched   = 0 // whatever follows, there is a match
	hopeless  = 1 // whatever follows, there is none
	beginning = 2
)

// Bounds of an automaton: 8 KiB, and some milliseconds to make it.
const (
	maxStates  = 64
	maxThreads = 512
)

func newMatcher(expression *regexp.Regexp) matcher {
	p := matcher{expression: expression}
	tree, err := syntax.Parse(expression.String(), syntax.Perl)
	if err != nil {
		return p
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return p
	}
	b := automaton{program: program}
	if len(program.Inst) <= maxThreads && b.build() {
		p.next, p.final = b.next, b.final
		p.begin()
	}
	return p
}

// begin finds the prefix: as long as all bytes but one are hopeless, and the text may not end.
func (p *matcher) begin() {
	p.behind = beginning
	for !p.final[p.behind] && len(p.prefix) < maxStates {
		only, ways := 0, 0
		for c, to := range p.next[p.behind<<7:][:128] {
			if to != hopeless {
				only = c
				ways++
			}
		}
		if ways != 1 {
			return
		}
		p.prefix += string(rune(only))
		p.behind = int(p.next[p.behind<<7|only])
	}
}

// match tells whether the pattern is found in text, which is ASCII where ascii says so.
func (p *matcher) match(text []byte, ascii bool) bool {
	if !ascii || p.next == nil {
		return p.expression.Match(text)
	}
	if len(text) < len(p.prefix) || string(text[:len(p.prefix)]) != p.prefix {
		return false
	}
	state := p.behind
	for _, c := range text[len(p.prefix):] {
		state = int(p.next[state<<7|int(c&0x7F)])
		if state <= hopeless {
			break
		}
	}
	return p.final[state]
}

// automaton makes a deterministic automaton of a program by following all its threads at once (Thompson, 1968).
type automaton struct {
	program *syntax.Prog
	states  [][]uint32 // threads, sorted
	next    []uint8
	final   []bool
	foreign bool // it asks for more than the beginning and the end of the text
}

// build makes the states that can be reached; false when there are too many, or it cannot be done.
func (b *automaton) build() bool {
	first, found := b.closure([]uint32{uint32(b.program.Start)}, true, false)
	if found {
		first = nil
	}
	b.states = [][]uint32{matched: nil, hopeless: nil, beginning: first}
	b.final = []bool{matched: true}
	b.next = make([]uint8, 2*128)
	for c := range 128 {
		b.next[hopeless<<7|c] = hopeless
	}
	for s := beginning; s < len(b.states); s++ {
		if s == beginning && found {
			b.next = append(b.next, make([]uint8, 128)...)
			b.final = append(b.final, false, true)
			continue
		}
		_, end := b.closure(slices.Clone(b.states[s]), s == beginning, true)
		for len(b.final) <= s {
			b.final = append(b.final, false)
		}
		b.final[s] = end
		for c := range rune(128) {
			threads := []uint32{uint32(b.program.Start)} // a match may begin anywhere
			for _, t := range b.states[s] {
				if i := &b.program.Inst[t]; i.Op != syntax.InstEmptyWidth && i.MatchRune(c) {
					threads = append(threads, i.Out)
				}
			}
			to, found := b.closure(threads, false, false)
			if b.foreign {
				return false
			}
			b.next = append(b.next, b.state(to, found))
			if len(b.states) > maxStates {
				return false
			}
		}
	}
	return !b.foreign
}

// state returns the number of the state with the given threads.
func (b *automaton) state(threads []uint32, found bool) uint8 {
	if found {
		return matched
	}
	if len(threads) == 0 {
		return hopeless
	}
	for s := beginning + 1; s < len(b.states); s++ {
		if slices.Equal(b.states[s], threads) {
			return uint8(s)
		}
	}
	b.states = append(b.states, threads)
	return uint8(len(b.states) - 1)
}

// closure follows what costs no text, from the given threads, and returns those that wait for a byte or for the end.
func (b *automaton) closure(threads []uint32, begin, end bool) (waiting []uint32, found bool) {
	seen := make([]bool, len(b.program.Inst))
	for len(threads) > 0 {
		t := threads[len(threads)-1]
		threads = threads[:len(threads)-1]
		if seen[t] {
			continue
		}
		seen[t] = true
		switch i := &b.program.Inst[t]; i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			threads = append(threads, i.Arg, i.Out)
		case syntax.InstCapture, syntax.InstNop:
			threads = append(threads, i.Out)
		case syntax.InstMatch:
			found = true
		case syntax.InstFail:
		case syntax.InstEmptyWidth:
			wants := syntax.EmptyOp(i.Arg)
			switch {
			case wants&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0:
				b.foreign = true
			case wants&syntax.EmptyBeginText != 0 && !begin:
			case wants&syntax.EmptyEndText != 0 && !end:
				waiting = append(waiting, t)
			default:
				threads = append(threads, i.Out)
			}
		default:
			waiting = append(waiting, t)
		}
	}
	slices.Sort(waiting)
	return waiting, found
}

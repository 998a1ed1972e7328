package verify

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
)

// item is one thing that is known of a place in a zone: an object that was listed, or what another object says of it.
// Items are sorted by chain, place and kind, so that all that is known of a place comes together, in the order in
// which chains are walked.
type item struct {
	chain string // of a partition T/ID/PARTITION, of a process its name, else ""
	at    string // 20 digits; "" for what is known of the chain as a whole
	kind  byte
	body  string
}

func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.chain, b.chain), cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind), cmp.Compare(a.body, b.body))
}

// sortMemory is how many bytes of items a sorter holds before it puts them into its file.
const sortMemory = 4 << 20

// sorter sorts any number of items in little memory: an external merge sort (Knuth, The Art of Computer Programming,
// volume 3, section 5.4) whose runs stand in a temporary file without a name.
type sorter struct {
	items  []item
	memory int
	file   *os.File
	size   int64
	runs   []run
}

// run is a sorted part of the file.
type run struct{ at, size int64 }

func (s *sorter) add(i item) error {
	s.items = append(s.items, i)
	s.memory += len(i.chain) + len(i.at) + len(i.body) + 96
	if s.memory < sortMemory {
		return nil
	}
	return s.spill()
}

func (s *sorter) spill() error {
	if s.file == nil {
		file, err := os.CreateTemp("", "taster-verify-")
		if err != nil {
			return err
		}
		_ = os.Remove(file.Name()) // a killed process leaves nothing; where this is not possible, close does it
		s.file = file
	}
	slices.SortFunc(s.items, compareItems)
	counted := &countingWriter{w: io.NewOffsetWriter(s.file, s.size)}
	w := bufio.NewWriterSize(counted, 256<<10)
	for _, i := range s.items {
		writeItem(w, i)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s.runs = append(s.runs, run{s.size, counted.n})
	s.size += counted.n
	clear(s.items)
	s.items, s.memory = s.items[:0], 0
	return nil
}

// sorted yields every item once, equal ones together as one. It may be called again.
func (s *sorter) sorted() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		slices.SortFunc(s.items, compareItems)
		sources := merge{}
		for i := range s.runs {
			src := &source{file: bufio.NewReaderSize(io.NewSectionReader(s.file, s.runs[i].at, s.runs[i].size), 32<<10)}
			if src.advance() {
				sources = append(sources, src)
			} else if src.err != nil {
				yield(item{}, src.err)
				return
			}
		}
		if src := (&source{items: s.items}); src.advance() {
			sources = append(sources, src)
		}
		heap.Init(&sources)
		var last item
		for first := true; len(sources) > 0; first = false {
			src := sources[0]
			if next := src.head; first || next != last {
				if !yield(next, nil) {
					return
				}
				last = next
			}
			switch {
			case src.advance():
				heap.Fix(&sources, 0)
			case src.err != nil:
				yield(item{}, src.err)
				return
			default:
				heap.Pop(&sources)
			}
		}
	}
}

func (s *sorter) close() {
	if s.file != nil {
		s.file.Close()
		_ = os.Remove(s.file.Name())
	}
	*s = sorter{}
}

// source is a run, or the items that are still in memory.
type source struct {
	head  item
	items []item
	file  *bufio.Reader
	err   error
}

func (s *source) advance() bool {
	if s.file == nil {
		if len(s.items) == 0 {
			return false
		}
		s.head, s.items = s.items[0], s.items[1:]
		return true
	}
	s.head, s.err = readItem(s.file, s.head)
	if errors.Is(s.err, io.EOF) {
		s.err = nil
		return false
	}
	return s.err == nil
}

type merge []*source

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return compareItems(m[i].head, m[j].head) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*source)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func writeItem(w *bufio.Writer, i item) { // errors are kept by w until Flush
	for _, text := range []string{i.chain, i.at, i.body} {
		_, _ = w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(len(text))))
		_, _ = w.WriteString(text)
	}
	_ = w.WriteByte(i.kind)
}

// readItem reads the next item. last is the one before, whose chain is used again where it is the same.
func readItem(r *bufio.Reader, last item) (i item, err error) {
	for n, to := range []*string{&i.chain, &i.at, &i.body} {
		size, err := binary.ReadUvarint(r)
		if err != nil {
			if errors.Is(err, io.EOF) && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return i, err
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(r, text); err != nil {
			return i, io.ErrUnexpectedEOF
		}
		if n == 0 && string(text) == last.chain {
			i.chain = last.chain
		} else {
			*to = string(text)
		}
	}
	i.kind, err = r.ReadByte()
	return i, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// step is all that is known of one place of a chain.
type step struct {
	chain, at string
	items     []item
	mode      mode
	saved     *saved // of resumed
}

// bodies returns what the items of a kind say.
func (s *step) bodies(kind byte) []string {
	var found []string
	for _, i := range s.items {
		if i.kind == kind {
			found = append(found, i.body)
		}
	}
	return found
}

func (s *step) has(kind byte) bool {
	return slices.ContainsFunc(s.items, func(i item) bool { return i.kind == kind })
}

// mode says how much of a step is looked at.
type mode int

const (
	full      mode = iota // everything
	anchor                // the last step that is taken as known: its bytes and links, not what it lists
	addedOnly             // before the anchor: only files that later changes added
	claimOnly             // verified before, and resumed behind: only that checkpoints name its entry as it is
	resumed               // no step of its own: what is known of all steps before
)

// steps groups sorted items.
func steps(sorted iter.Seq2[item, error]) iter.Seq2[*step, error] {
	return func(yield func(*step, error) bool) {
		var now *step
		for i, err := range sorted {
			if err != nil {
				yield(nil, err)
				return
			}
			if now != nil && (i.chain != now.chain || i.at != now.at) {
				if !yield(now, nil) {
					return
				}
				now = nil
			}
			if now == nil {
				now = &step{chain: i.chain, at: i.at}
			}
			now.items = append(now.items, i)
		}
		if now != nil {
			yield(now, nil)
		}
	}
}

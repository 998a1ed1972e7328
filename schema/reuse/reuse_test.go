package reuse

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/memory"
)

var _ memory.Allocator = new(Pool)

func TestSizes(t *testing.T) {
	before := -1
	for n := 1; n < largest+smallest; n += 1 + n/64 {
		class, size := classOf(n)
		if n <= smallest || n > largest {
			if class >= 0 {
				t.Fatalf("%d bytes are of class %d", n, class)
			}
			continue
		}
		if size < n || size > n+n/4+1 {
			t.Fatalf("%d bytes become %d", n, size)
		}
		if class != before && class != before+1 || class >= sizes {
			t.Fatalf("class %d of %d bytes comes after %d", class, n, before)
		}
		before = class
		if again, same := classOf(size); again != class || same != size {
			t.Fatalf("%d bytes of class %d are class %d of %d bytes", size, class, again, same)
		}
	}
	if class, size := classOf(largest); class != sizes-1 || size != largest {
		t.Errorf("the largest is class %d, %d bytes", class, size)
	}
}

// TestAligned holds what Arrow asks of memory (Columnar format, "Buffer alignment and padding").
func TestAligned(t *testing.T) {
	var p Pool
	for n := 64; n < 1<<20; n += 64 * (1 + n/4096) {
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(p.Allocate(n)))); at%64 != 0 {
			t.Errorf("%d bytes at %#x", n, at)
		}
	}
}

func TestGivenAgain(t *testing.T) {
	if same(new(Pool)) == runsWithLedger {
		t.Errorf("memory is given again: %v", !runsWithLedger)
	}
	if runsWithLedger {
		return
	}
	var p Pool
	b := p.Get(100_000)
	p.Put(b[:7])
	if p.Held() != cap(b) {
		t.Errorf("%d bytes are held of %d", p.Held(), cap(b))
	}
	if c := p.Get(cap(b)*4/5 - 1); &c[0] != &b[0] || len(c) != cap(b)*4/5-1 {
		t.Error("memory of the next size is not used")
	}
	if p.Held() != 0 {
		t.Errorf("%d bytes are held of none", p.Held())
	}
	p.Put(make([]byte, 100_000)) // not a Pool's, and of none of its sizes
	if p.Held() != 0 {
		t.Errorf("%d bytes are held that were nobody's", p.Held())
	}
}

// same tells whether a Pool gives memory again that it got back.
func same(p *Pool) bool {
	b := p.Get(1 << 20)
	p.Put(b)
	c := p.Get(1 << 20)
	return &b[0] == &c[0]
}

func TestGrows(t *testing.T) {
	var p Pool
	b := p.Allocate(5000)
	for i := range b {
		b[i] = byte(i)
	}
	c := p.Reallocate(50_000, b)
	for i := range 5000 {
		if c[i] != byte(i) {
			t.Fatalf("byte %d is another", i)
		}
	}
	if d := p.Reallocate(40_000, c); &d[0] != &c[0] || len(d) != 40_000 {
		t.Error("to shrink is to move")
	}
}

func TestBound(t *testing.T) {
	if runsWithLedger {
		return // which keeps nothing
	}
	p := Pool{Most: 1 << 20}
	var lent [][]byte
	for range 9 {
		lent = append(lent, p.Get(256<<10))
	}
	for _, b := range lent {
		p.Put(b)
	}
	if p.Held() != 1<<20 {
		t.Errorf("%d bytes are held", p.Held())
	}
	// What has lain longest goes first, of whatever size.
	last := p.Get(256 << 10)
	other := p.Get(512 << 10)
	p.Put(last)
	p.Put(other)
	if b := p.Get(512 << 10); &b[0] != &other[0] {
		t.Error("what came last is gone")
	}
	if b := p.Get(256 << 10); &b[0] != &last[0] {
		t.Error("what came before it is gone, and older pieces are not")
	}
	if p.Put(make([]byte, 2<<20)); p.Held() > 1<<20 {
		t.Errorf("%d bytes are held", p.Held())
	}
}

// TestLetsGo has a Pool that was busy once keep what is still needed, and no more.
func TestLetsGo(t *testing.T) {
	if runsWithLedger {
		return
	}
	var p Pool
	var lent [][]byte
	for range 50 {
		lent = append(lent, p.Get(1<<20))
	}
	for _, b := range lent {
		p.Put(b)
	}
	for range 3 * period {
		a, b := p.Get(1<<20), p.Get(1<<20)
		p.Put(a)
		p.Put(b)
	}
	if p.Held() != 2<<20 {
		t.Errorf("%d bytes are held, of which two megabytes are needed", p.Held())
	}
	p.mu.Lock()
	p.drop()
	p.mu.Unlock()
	if p.Held() != 0 || !same(&p) {
		t.Error("what let go of everything does not go on")
	}
	runtime.GC() // and whoever looks behind the collector disturbs nobody
	if !same(&p) {
		t.Error("the collector took what is held")
	}
}

// TestLedger has the race detector's programs tell who gives memory back that is not lent.
func TestLedger(t *testing.T) {
	if !runsWithLedger {
		return
	}
	var p Pool
	b := p.Get(5000)
	b[17] = 1
	p.Put(b)
	if b[17] != p.Get(1)[0] {
		t.Error("what was given back can still be read")
	}
	for name, c := range map[string][]byte{"given back twice": b, "nobody's": make([]byte, 5000)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("memory was %s, and nobody said so", name)
				}
			}()
			p.Put(c)
		}()
	}
}

func TestLease(t *testing.T) {
	var p Pool
	l := p.Lease(100_000)
	if len(l.Bytes()) != 100_000 {
		t.Fatalf("%d bytes", len(l.Bytes()))
	}
	l.Hold().Release()
	if l.Bytes() == nil || p.Held() != 0 {
		t.Error("given back while it is held")
	}
	l.Release()
	if l.Bytes() != nil || p.Held() == 0 != runsWithLedger {
		t.Error("not given back")
	}
	var none *Lease
	none.Hold().Release()
	defer func() {
		if recover() == nil {
			t.Error("let go of twice, and nobody said so")
		}
	}()
	l.Release()
}

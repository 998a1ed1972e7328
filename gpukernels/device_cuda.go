//go:build cuda && cgo && linux && amd64

package gpukernels

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/tasterhq/taster/gpukernels/driver"
	"github.com/tasterhq/taster/gpukernels/kernels"
)

const (
	// laneBytes is the page-locked memory of each lane, for each way: a bus of 16 GB/s takes half a millisecond for it, long against
	// the microseconds that a transfer takes to begin.
	laneBytes = 8 << 20
	lanes     = 2
	// oldest is the compute capability that the PTX was made for.
	oldest = 80
	// mostQueries go to the device at a time: so many that the points are read seldom, so few that the candidates of their spans stay small.
	mostQueries = 4096
	// spare is the part of the limit, one in so many, that points leave to what is computed with them.
	spare = 4
)

// Device is one device, open. It is safe for concurrent use.
type Device struct {
	info  Info
	limit int64
	// patience is how long a lane may take. The largest piece of work is some hundred milliseconds on the slowest device.
	patience time.Duration
	closing  chan struct{}
	ended    chan struct{} // closed by the thread's end
	jobs     chan func()

	mu      sync.Mutex
	lost    error
	closed  bool
	garbage []*operand
	used    int64

	// What follows belongs to the device's thread.
	module    cu.Module
	functions map[string]cu.Function
	lane      [lanes]*lane
	next      int
	blocks    int    // that run at a time: a multiprocessor has room for one of knn's
	tensor    bool   // tensor cores multiply
	exact     bool   // points are kept as they were given, too
	scratch   buffer // rows that are not resident
	model     buffer // what rows are judged by: a factor, centroids, a forest
}

// Open opens a device.
func Open(o Options) (*Device, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil || o.Device < 0 || o.Device >= n {
		return nil, fmt.Errorf("%w: there is no device %d; the driver finds %d", ErrUnavailable, o.Device, n)
	}
	info, device, compute, err := describe(o.Device)
	if err != nil {
		return nil, fmt.Errorf("%w: device %d: %w", ErrUnavailable, o.Device, err)
	}
	if compute < oldest {
		return nil, fmt.Errorf("%w: device %d, %s, has compute capability %s; the kernels need %d.%d", ErrUnavailable, o.Device, info.Name, info.Compute, oldest/10, oldest%10)
	}
	processors, err := device.Attribute(cu.MultiprocessorCount)
	if err != nil {
		return nil, fmt.Errorf("%w: device %d: %w", ErrUnavailable, o.Device, err)
	}
	d := &Device{info: info, limit: o.Memory, jobs: make(chan func()), closing: make(chan struct{}), ended: make(chan struct{}), functions: map[string]cu.Function{}, blocks: processors, patience: 30 * time.Second}
	d.tensor, d.exact = o.Tensor, o.Rerank
	opened := make(chan error)
	go d.thread(device, opened)
	if err := <-opened; err != nil {
		<-d.ended
		return nil, fmt.Errorf("%w: device %d, %s: %w", ErrUnavailable, o.Device, info.Name, err)
	}
	return d, nil
}

// Info describes the device.
func (d *Device) Info() Info { return d.info }

// Used returns how many bytes of the device's memory are in use, and how many may be.
func (d *Device) Used() (used, limit int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used, d.limit
}

// Close gives the device's memory back. Later calls fail with [ErrLost].
func (d *Device) Close() {
	d.mu.Lock()
	done, lost := d.closed, d.lost != nil
	d.closed = true
	d.mu.Unlock()
	if !done {
		close(d.closing)
	}
	if !lost { // one that hangs may never end
		<-d.ended
	}
}

// thread makes every call that needs the device's context.
func (d *Device) thread(device cu.Device, opened chan<- error) {
	defer close(d.ended)
	runtime.LockOSThread() // never unlocked: the thread ends with its context
	context, err := device.MakeContext(cu.SchedAuto)
	if err != nil {
		opened <- failure("its context", err)
		return
	}
	defer func() { _ = context.Destroy() }() // frees all that was allocated
	if err := d.prepare(); err != nil {
		opened <- err
		return
	}
	opened <- nil
	for {
		select {
		case job := <-d.jobs:
			job()
		case <-d.closing:
			return
		}
	}
}

func (d *Device) prepare() (err error) {
	free, _, err := cu.MemInfo()
	if err != nil {
		return failure("its memory", err)
	}
	if most := free - free/10; d.limit <= 0 || d.limit > most {
		d.limit = most
	}
	if d.module, err = cu.LoadData(kernels.PTX); err != nil {
		return failure("the kernels", err)
	}
	for i := range d.lane {
		if d.lane[i], err = d.newLane(); err != nil {
			return err
		}
	}
	return nil
}

// failure turns an error of the driver into one that tells how to go on.
func failure(what string, err error) error {
	kind := ErrLost
	var own driver.Error
	if errors.Is(err, cu.OutOfMemory) || errors.As(err, &own) && int(own) == int(cu.OutOfMemory) {
		kind = ErrMemory
	}
	return fmt.Errorf("%w: %s: %w", kind, what, err)
}

// do runs a job on the device's thread. An error other than for want of memory is the device's last.
func (d *Device) do(job func() error) error {
	d.mu.Lock()
	if d.lost != nil || d.closed {
		defer d.mu.Unlock()
		if d.lost != nil {
			return d.lost
		}
		return fmt.Errorf("%w: it was closed", ErrLost)
	}
	d.mu.Unlock()
	answer := make(chan error, 1)
	select {
	case d.jobs <- func() { answer <- d.run(job) }:
	case <-d.closing:
		return fmt.Errorf("%w: it was closed", ErrLost)
	}
	return <-answer
}

func (d *Device) run(job func() error) error {
	d.mu.Lock()
	lost, garbage := d.lost, d.garbage
	d.garbage = nil
	d.mu.Unlock()
	if lost != nil {
		return lost
	}
	for _, o := range garbage {
		d.free(o.at, o.bytes)
	}
	err := job()
	if err != nil && !errors.Is(err, ErrLost) {
		for _, l := range d.lane { // nothing may still write where a later call writes
			l.finish = nil
			if lost := l.wait(d.patience); lost != nil {
				err = lost // and no want of memory, which would be told in its place
			}
		}
	}
	if errors.Is(err, ErrLost) {
		d.mu.Lock()
		d.lost = err
		d.mu.Unlock()
	}
	return err
}

// alloc takes device memory within the limit.
func (d *Device) alloc(bytes int64) (cu.DevicePtr, error) {
	d.mu.Lock()
	used := d.used
	d.mu.Unlock()
	if used+bytes > d.limit {
		return 0, fmt.Errorf("%w: %d bytes on top of %d are more than the %d that may be used", ErrMemory, bytes, used, d.limit)
	}
	at, err := cu.MemAlloc(max(bytes, 4))
	if err != nil {
		return 0, failure("an allocation", err)
	}
	d.mu.Lock()
	d.used += bytes
	d.mu.Unlock()
	return at, nil
}

func (d *Device) free(at cu.DevicePtr, bytes int64) {
	if cu.MemFree(at) == nil { // an error is the next call's, too
		d.mu.Lock()
		d.used -= bytes
		d.mu.Unlock()
	}
}

// lane is a queue of work on the device, with memory of both sides: what goes in, and what comes out.
type lane struct {
	stream    cu.Stream
	in, out   unsafe.Pointer // page-locked
	din, dout cu.DevicePtr
	work      buffer // for what lies between kernels
	finish    func() // takes what came out, once the queue is empty
}

func (d *Device) newLane() (l *lane, err error) {
	l = &lane{}
	if l.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return nil, failure("a stream", err)
	}
	for _, at := range []*unsafe.Pointer{&l.in, &l.out} {
		if *at, err = driver.HostAlloc(laneBytes); err != nil {
			return nil, failure("page-locked memory", err)
		}
	}
	for _, at := range []*cu.DevicePtr{&l.din, &l.dout} {
		if *at, err = d.alloc(laneBytes); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// take returns the lane whose turn it is, empty.
func (d *Device) take() (*lane, error) {
	l := d.lane[d.next]
	d.next = (d.next + 1) % lanes
	return l, l.wait(d.patience)
}

// drain waits for all lanes.
func (d *Device) drain() error {
	for range lanes {
		if _, err := d.take(); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when the queue is empty. It asks, rather than wait in the driver, lest a device that hangs hang the process.
func (l *lane) wait(patience time.Duration) error {
	began := time.Now()
	for turn := 0; ; turn++ {
		err := l.stream.Query()
		if err == nil {
			break
		}
		if !errors.Is(err, cu.NotReady) {
			return failure("a kernel or a copy", err)
		}
		switch {
		case turn < 1000:
			runtime.Gosched()
		case time.Since(began) > patience:
			return fmt.Errorf("%w: no answer for %v", ErrLost, patience)
		default:
			time.Sleep(20 * time.Microsecond)
		}
	}
	if l.finish != nil {
		l.finish()
		l.finish = nil
	}
	return nil
}

// floats are n values at the start of page-locked memory.
func floats(at unsafe.Pointer, n int) []float32 { return unsafe.Slice((*float32)(at), n) }

// number is what matrices, and what belongs to them, are made of.
type number interface{ float32 | int32 | int64 }

// send copies values to the device through the lane, which must be empty, at most laneBytes.
func send[T number](l *lane, to cu.DevicePtr, values []T) error {
	if len(values) == 0 {
		return nil
	}
	copy(unsafe.Slice((*T)(l.in), len(values)), values)
	if err := cu.MemcpyHtoDAsync(to, l.in, int64(len(values))*int64(unsafe.Sizeof(values[0])), l.stream); err != nil {
		return failure("a copy to it", err)
	}
	return nil
}

// fetch has bytes copied to the lane's page-locked memory, of which there are laneBytes.
func (l *lane) fetch(to int, from cu.DevicePtr, bytes int) error {
	if err := cu.MemcpyDtoHAsync(unsafe.Add(l.out, to), from, int64(bytes), l.stream); err != nil {
		return failure("a copy from it", err)
	}
	return nil
}

// launch queues a kernel. Each argument takes 64 bits, whatever it is: cu reads so many.
func (d *Device) launch(l *lane, name string, grid [3]int, args ...uint64) error {
	fn, ok := d.functions[name]
	if !ok {
		var err error
		if fn, err = d.module.Function(name); err != nil {
			return failure("kernel "+name, err)
		}
		d.functions[name] = fn
	}
	at := make([]unsafe.Pointer, len(args))
	for i := range args {
		at[i] = unsafe.Pointer(&args[i])
	}
	if err := fn.Launch(grid[0], grid[1], grid[2], kernels.BlockThreads, 1, 1, 0, l.stream, at); err != nil {
		return failure("kernel "+name, err)
	}
	return nil
}

// upload copies values to device memory in pieces, a lane for each in turn. The caller drains.
func upload[T number](d *Device, to cu.DevicePtr, values []T) error {
	var one T
	size := int(unsafe.Sizeof(one))
	for len(values) > 0 {
		n := min(len(values), laneBytes/size)
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := send(l, to, values[:n]); err != nil {
			return err
		}
		to += cu.DevicePtr(size * n)
		values = values[n:]
	}
	return nil
}

// each has rows worked on, most at a time, a lane for each piece in turn, and waits for all. A piece sets its lane's finish.
func (d *Device) each(rows, most int, work func(l *lane, from, n int) error) error {
	for from := 0; from < rows; from += most {
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := work(l, from, min(most, rows-from)); err != nil {
			return err
		}
	}
	return d.drain()
}

// download hands n values of device memory, on which no lane works any more, over in pieces.
func (d *Device) download(from cu.DevicePtr, n int, took func(first int, values []float32)) error {
	return d.each(n, laneBytes/4, func(l *lane, first, n int) error {
		l.finish = func() { took(first, floats(l.out, n)) }
		return l.fetch(0, from+cu.DevicePtr(4*first), 4*n)
	})
}

// buffer is device memory that grows.
type buffer struct {
	at   cu.DevicePtr
	room int64
}

// fit makes room in a buffer that no lane uses. What was in it is lost where it grows.
func (d *Device) fit(b *buffer, bytes int64) error {
	if bytes <= b.room {
		return nil
	}
	d.empty(b)
	at, err := d.alloc(bytes)
	if err != nil {
		return err
	}
	*b = buffer{at, bytes}
	return nil
}

func (d *Device) empty(b *buffer) {
	if b.room > 0 {
		d.free(b.at, b.room)
		*b = buffer{}
	}
}

// operand is what work is done on: rows that were prepared for products (kernels.h), or as they are with their squared lengths; resident, or sent to
// the device with every call.
type operand struct {
	rows, cols int
	metric     int
	raw        bool // as they are
	exact      bool // prepared, and behind that as they are
	bytes      int64
	at         cu.DevicePtr // 0: not resident
	data       []float32    // nil when it is resident
	origin     []float32    // empty: none
}

// placed is where rows are.
type placed struct {
	rows   cu.DevicePtr // prepared, unless the operand is raw
	bias   cu.DevicePtr // of prepared rows, or the squared lengths of raw ones
	origin cu.DevicePtr // 0: none
	given  cu.DevicePtr // as they were given; 0: they are not there
}

// depth is how many columns prepared rows have.
func depth(cols int) int {
	return max(1, (cols+kernels.DepthStep-1)/kernels.DepthStep) * kernels.DepthStep
}

// tiles is how many tiles rows fill.
func tiles(rows int) int { return (rows + kernels.Tile - 1) / kernels.Tile }

// prepared is how many bytes rows take when they are prepared, with their biases.
func prepared(rows, cols int) int64 {
	return int64(tiles(rows)*kernels.Tile) * int64(4*depth(cols)+4)
}

// unit is in which numbers rows come.
func (o *operand) unit() int {
	if o.raw {
		return 1
	}
	return kernels.Tile
}

// wide is how many columns the rows have on the device.
func (o *operand) wide() int {
	if o.raw {
		return o.cols
	}
	return depth(o.cols)
}

func (o *operand) padded(rows int) int { return (rows + o.unit() - 1) / o.unit() * o.unit() }

// size is how many bytes so many rows take: rows, biases, the origin, rows as given.
func (o *operand) size(rows int) int64 {
	n := int64(o.padded(rows))*int64(4*o.wide()+4) + int64(4*len(o.origin))
	if o.exact {
		n += int64(4*rows) * int64(o.cols)
	}
	return n
}

// placed tells where so many rows are that begin at an address.
func (o *operand) placed(at cu.DevicePtr, rows int) placed {
	p := placed{rows: at, bias: at + cu.DevicePtr(4*o.padded(rows)*o.wide())}
	end := p.bias + cu.DevicePtr(4*o.padded(rows))
	if len(o.origin) > 0 {
		p.origin = end
		end += cu.DevicePtr(4 * len(o.origin))
	}
	switch {
	case o.raw:
		p.given = at
	case o.exact:
		p.given = end
	}
	return p
}

// reside has rows brought to the device if its memory suffices. The caller has them discarded.
func (d *Device) reside(o *operand) error {
	return d.do(func() error {
		for {
			o.bytes = o.size(o.rows)
			d.mu.Lock()
			fits := d.used+o.bytes <= d.limit-d.limit/spare
			d.mu.Unlock()
			at, err := cu.DevicePtr(0), ErrMemory
			if fits && o.rows > 0 {
				at, err = d.alloc(o.bytes)
			}
			switch {
			case errors.Is(err, ErrMemory) && o.exact:
				o.exact = false // prepared rows alone may fit
				continue
			case errors.Is(err, ErrMemory):
				return nil // they go there in pieces
			case err != nil:
				return err
			}
			if err := d.place(o, at, o.data); err != nil {
				d.free(at, o.bytes)
				return err
			}
			o.at, o.data = at, nil
			return nil
		}
	})
}

// pieces calls f with rows that are on the device: once with all of them where they are resident, otherwise for piece after piece, which it brings there.
func (d *Device) pieces(o *operand, f func(at placed, first, rows int) error) error {
	if o.at != 0 {
		return f(o.placed(o.at, o.rows), 0, o.rows)
	}
	if o.rows == 0 {
		return nil
	}
	d.mu.Lock()
	left := d.limit - d.used + d.scratch.room
	d.mu.Unlock()
	left /= 2 // what is computed with them needs memory, too
	most := int((left-int64(4*len(o.origin)))/int64(4*o.wide()+4)) / o.unit() * o.unit()
	most = min(most, o.padded(o.rows))
	if most < o.unit() {
		return fmt.Errorf("%w: there is no room for %d rows of %d values", ErrMemory, o.unit(), o.cols)
	}
	if err := d.fit(&d.scratch, o.size(most)); err != nil {
		return err
	}
	for first := 0; first < o.rows; first += most {
		rows := min(most, o.rows-first)
		if err := d.place(o, d.scratch.at, o.data[first*o.cols:(first+rows)*o.cols]); err != nil {
			return err
		}
		if err := f(o.placed(d.scratch.at, rows), first, rows); err != nil {
			return err
		}
	}
	return nil
}

// Points are rows that are resident on a device, or sent there with every call where its memory does not suffice. They are safe for
// concurrent use.
type Points struct {
	device *Device
	operand
}

// Load makes rows of cols values resident. For [L2] distances origin, if not empty, is subtracted from every row first, which changes no distance
// and makes them exact; for [Cosine] it has no meaning. Load may keep both slices.
func (d *Device) Load(data []float32, cols int, metric Metric, origin []float32) (*Points, error) {
	if cols < 1 || len(data)%cols != 0 {
		return nil, fmt.Errorf("%d values are no rows of %d", len(data), cols)
	}
	p := &Points{device: d, operand: operand{rows: len(data) / cols, cols: cols, metric: int(metric), exact: d.exact, data: data, origin: origin}}
	if err := d.reside(&p.operand); err != nil {
		return nil, err
	}
	if p.at != 0 {
		resident := p.operand
		runtime.AddCleanup(p, d.discard, &resident)
	}
	return p, nil
}

// Resident says whether the points stay on the device.
func (p *Points) Resident() bool { return p.at != 0 }

// discard has memory freed by the next job.
func (d *Device) discard(o *operand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.garbage = append(d.garbage, o)
}

// place sends rows to the device, to an address, with what belongs to them (placed).
func (d *Device) place(o *operand, at cu.DevicePtr, data []float32) error {
	rows := len(data) / o.cols
	to := o.placed(at, rows)
	if to.origin != 0 {
		if err := upload(d, to.origin, o.origin); err != nil {
			return err
		}
		if err := d.drain(); err != nil { // both lanes read it
			return err
		}
	}
	most := laneBytes / 4 / o.cols / o.unit() * o.unit()
	if most == 0 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, o.cols)
	}
	return d.each(rows, most, func(l *lane, first, n int) error {
		x := l.din
		if to.given != 0 {
			x = to.given + cu.DevicePtr(4*first*o.cols)
		}
		if err := send(l, x, data[first*o.cols:(first+n)*o.cols]); err != nil {
			return err
		}
		bias := to.bias + cu.DevicePtr(4*first)
		if o.raw {
			return d.launch(l, "rows_norm", [3]int{(n + kernels.Warps - 1) / kernels.Warps, 1, 1}, uint64(x), uint64(n), uint64(o.cols), uint64(o.cols), uint64(bias))
		}
		return d.prepareRows(l, x, n, o.cols, o.metric, to.origin, to.rows+cu.DevicePtr(4*first*o.wide()), bias)
	})
}

// prepareRows prepares n rows at x.
func (d *Device) prepareRows(l *lane, x cu.DevicePtr, n, cols, metric int, origin, out, bias cu.DevicePtr) error {
	padded := tiles(n) * kernels.Tile
	return d.launch(l, "rows_prepare", [3]int{(padded + kernels.Warps - 1) / kernels.Warps, 1, 1}, uint64(x), uint64(n), uint64(cols), uint64(cols),
		uint64(origin), uint64(metric), uint64(out), uint64(padded), uint64(depth(cols)), uint64(bias))
}

// Nearest finds, for each query, k points with the smallest distances as float32 products tell, in no order, of equal ones those with the
// smaller index. index holds k entries for each; where there are fewer points, the last ones are -1.
//
// A row with a NaN, an infinity or a squared length above 1e37 has no neighbours and is nobody's neighbour.
func (p *Points) Nearest(queries []float32, k int, index []int32) error {
	if k < 1 || k > MaxNeighbours || len(queries)%p.cols != 0 || len(index) != len(queries)/p.cols*k {
		return fmt.Errorf("%d neighbours, of at most %d, for %d values in rows of %d, into %d", k, MaxNeighbours, len(queries), p.cols, len(index))
	}
	if p.rows == 0 || len(index) == 0 {
		for i := range index {
			index[i] = -1
		}
		return nil
	}
	err := p.device.do(func() error { return p.device.nearest(&p.operand, queries, k, index) })
	runtime.KeepAlive(p) // its memory is in use until here
	return err
}

func (d *Device) nearest(o *operand, queries []float32, k int, index []int32) error {
	if o.at != 0 {
		return d.search(o, o.placed(o.at, o.rows), 0, o.rows, queries, k, nil, func(q int, keys []uint64) { write(index[q*k:(q+1)*k], keys) })
	}
	// What each piece of the points has for a query is put together as it comes.
	best := make([]uint64, len(index))
	for i := range best {
		best[i] = kernels.NoCandidate
	}
	both := make([]uint64, 2*k)
	err := d.pieces(o, func(at placed, first, rows int) error {
		return d.search(o, at, first, rows, queries, k, nil, func(q int, keys []uint64) {
			kept := best[q*k : (q+1)*k]
			copy(both, kept)
			copy(both[k:], keys)
			slices.Sort(both) // by key, then by index
			copy(kept, both)
		})
	})
	if err != nil {
		return err
	}
	for q := range len(index) / k {
		write(index[q*k:(q+1)*k], best[q*k:(q+1)*k])
	}
	return nil
}

// ranking is what points have once their distances were added up in float64 by the device.
type ranking struct {
	k        int
	index    []int32
	distance []float32
}

// Exact says whether the device can tell distances: [Options.Rerank] was asked for, and the rows fit twice.
func (p *Points) Exact() bool { return p.at != 0 && p.exact }

// NearestExact finds, for each query, the k nearest among so many candidates (k to [MaxNeighbours]) that float32 products choose, in order, by distances that the device adds up
// in float64 from the rows as they were given, and those distances. Equal ones go to the smaller index. index and distance hold k entries for each
// query; where there are fewer points, the last ones are -1 and NaN. Only points that are [Points.Exact] can be asked.
func (p *Points) NearestExact(queries []float32, k, candidates int, index []int32, distance []float32) error {
	n := len(queries) / p.cols
	if !p.Exact() || k < 1 || candidates < k || candidates > MaxNeighbours || len(queries)%p.cols != 0 || len(index) != n*k || len(distance) != n*k {
		return fmt.Errorf("%d neighbours of %d candidates, of at most %d, for %d values in rows of %d, into %d and %d; the rows themselves are there: %v",
			k, candidates, MaxNeighbours, len(queries), p.cols, len(index), len(distance), p.Exact())
	}
	err := p.device.do(func() error {
		return p.device.search(&p.operand, p.placed(p.at, p.rows), 0, p.rows, queries, candidates, &ranking{k, index, distance}, nil)
	})
	runtime.KeepAlive(p)
	return err
}

// write turns candidates into indexes, those that stand for none last.
func write(index []int32, keys []uint64) {
	n := 0
	for _, key := range keys {
		if key != kernels.NoCandidate {
			index[n] = int32(uint32(key))
			n++
		}
	}
	for ; n < len(index); n++ {
		index[n] = -1
	}
}

// search calls found with each query's k best candidates among rows at a place, which count from first. With a ranking it is the device that chooses among the
// candidates, and found is not called.
func (d *Device) search(o *operand, at placed, first, rows int, queries []float32, k int, rank *ranking, found func(q int, keys []uint64)) error {
	wide := o.wide()
	knn := "knn_f32"
	if d.tensor {
		knn = "knn_tensor"
	}
	// A piece of queries is as much as a lane takes, and has results for.
	most := min(laneBytes/4/o.cols, laneBytes/(8*k), mostQueries)
	if most == 0 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, o.cols)
	}
	return d.each(len(queries)/o.cols, most, func(l *lane, from, count int) error {
		queryTiles := tiles(count)
		// As many blocks as the device has room for: those of one piece of queries share the points.
		var spans, span, across int
		var sizes [4]int64
		_, err := d.afford(l, d.blocks, func(blocks int) int64 {
			spans = max(1, min(blocks/queryTiles, tiles(rows)))
			span = (tiles(rows) + spans - 1) / spans * kernels.Tile
			spans = (rows + span - 1) / span
			across = max(1, min(queryTiles, blocks/spans))
			sizes = [...]int64{
				prepared(count, o.cols),
				int64(across*spans) * kernels.Tile * kernels.List * 8,
				int64(count*spans*k) * 8,
				0,
			}
			if rank != nil {
				sizes[3] = int64(count*k) * 8
			}
			return sizes[0] + sizes[1] + sizes[2] + sizes[3]
		})
		if err != nil {
			return err
		}
		ready := l.work.at
		readyBias := ready + cu.DevicePtr(4*queryTiles*kernels.Tile*wide)
		lists := ready + cu.DevicePtr(sizes[0])
		parts := lists + cu.DevicePtr(sizes[1])
		merged := l.dout
		if rank != nil {
			merged = parts + cu.DevicePtr(sizes[2])
		}
		if err := send(l, l.din, queries[from*o.cols:(from+count)*o.cols]); err != nil {
			return err
		}
		if err := d.prepareRows(l, l.din, count, o.cols, o.metric, at.origin, ready, readyBias); err != nil {
			return err
		}
		out := merged
		if spans > 1 {
			out = parts
		}
		grid := [3]int{(count + kernels.Warps - 1) / kernels.Warps, 1, 1}
		err = d.launch(l, knn, [3]int{across, spans, 1}, uint64(ready), uint64(readyBias), uint64(count), uint64(at.rows), uint64(at.bias), uint64(rows), uint64(wide),
			uint64(span), uint64(k), uint64(lists), uint64(out))
		if err == nil && spans > 1 {
			err = d.launch(l, "knn_merge", grid, uint64(parts), uint64(count), uint64(spans), uint64(k), uint64(merged))
		}
		if rank == nil {
			l.finish = func() {
				all := unsafe.Slice((*uint64)(l.out), count*k)
				for q := range count {
					keys := all[q*k : (q+1)*k]
					for i, key := range keys {
						if key != kernels.NoCandidate {
							keys[i] = key + uint64(first)
						}
					}
					found(from+q, keys)
				}
			}
			if err == nil {
				err = l.fetch(0, l.dout, count*k*8)
			}
			return err
		}
		few := count * rank.k
		if err == nil {
			err = d.launch(l, "knn_exact", grid, uint64(merged), uint64(count), uint64(k), uint64(l.din), uint64(o.cols), uint64(at.given), uint64(o.cols), uint64(o.cols),
				uint64(o.metric), uint64(rank.k), uint64(l.dout), uint64(l.dout)+uint64(4*few))
		}
		if err == nil {
			err = l.fetch(0, l.dout, 8*few)
		}
		l.finish = func() {
			copy(rank.index[from*rank.k:], unsafe.Slice((*int32)(l.out), few))
			copy(rank.distance[from*rank.k:], floats(l.out, 2*few)[few:])
		}
		return err
	})
}

// afford makes room between a lane's kernels for as many blocks as memory allows, at most, and returns how many: as sizes tell, half as many and so on, and
// when one is too many from the beginning once more, after memory was freed that other calls left.
func (d *Device) afford(l *lane, most int, size func(blocks int) int64) (blocks int, err error) {
	blocks = most
	for released := false; ; {
		err := d.fit(&l.work, size(blocks))
		switch {
		case err == nil:
			return blocks, nil
		case !errors.Is(err, ErrMemory):
			return 0, err
		case blocks > 1:
			blocks /= 2
		case released:
			return 0, err
		default:
			if err := d.release(); err != nil {
				return 0, err
			}
			blocks, released = most, true
		}
	}
}

// release waits for all lanes and frees what lies between their kernels, and what rows were judged by.
func (d *Device) release() error {
	if err := d.drain(); err != nil {
		return err
	}
	for _, l := range d.lane {
		d.empty(&l.work)
	}
	d.empty(&d.model)
	return nil
}

// Product sets dst (n × m) to a·bᵀ, where a is n × cols and b m × cols.
func (d *Device) Product(dst, a, b []float32, cols int) error {
	if cols < 1 || len(a)%cols != 0 || len(b)%cols != 0 || len(dst) != len(a)/cols*(len(b)/cols) {
		return fmt.Errorf("%d and %d values in rows of %d into %d", len(a), len(b), cols, len(dst))
	}
	if len(dst) == 0 {
		return nil
	}
	return d.do(func() error { return d.product(dst, a, b, cols) })
}

func (d *Device) product(dst, a, b []float32, cols int) error {
	if d.tensor {
		if whole, err := d.multiply(dst, a, b, cols, true); whole || err != nil {
			return err
		}
	}
	_, err := d.multiply(dst, a, b, cols, false)
	return err
}

// multiply is product. Tensor cores take prepared rows, and those that are too long or not numbers are zero there: with one of them the product is not whole.
func (d *Device) multiply(dst, a, b []float32, cols int, tensor bool) (whole bool, err error) {
	m := len(b) / cols
	o := operand{cols: cols, metric: kernels.MetricL2, raw: !tensor}
	d.mu.Lock()
	left := (d.limit - d.used + d.scratch.room) / 2 // neighbours need memory, too
	d.mu.Unlock()
	most := min(o.padded(m), widest, int(left/int64(4*o.wide()+4))/o.unit()*o.unit())
	if most < 1 || laneBytes/4/cols < 1 {
		return false, fmt.Errorf("%w: rows of %d values are too long", ErrMemory, cols)
	}
	if err := d.fit(&d.scratch, o.size(most)); err != nil {
		return false, err
	}
	whole = true
	check := func(biases []float32) {
		for _, v := range biases {
			whole = whole && !math.IsInf(float64(v), 1)
		}
	}
	for first := 0; first < m && whole; first += most {
		wide := min(most, m-first)
		right, piece := o.placed(d.scratch.at, wide), b[first*cols:(first+wide)*cols]
		if tensor {
			err = d.place(&o, d.scratch.at, piece)
			if err == nil {
				err = d.download(right.bias, wide, func(_ int, biases []float32) { check(biases) })
			}
		} else if err = upload(d, right.rows, piece); err == nil {
			err = d.drain() // both lanes read it
		}
		if err != nil {
			return false, err
		}
		if err := d.across(dst[first:], a, m, &o, right, wide, tensor, check); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// widest is how many columns a product may have at a time: a tile of rows of it fits a lane.
const widest = laneBytes/4/kernels.Tile - kernels.Tile

// across multiplies a with so many rows on the device, at most widest, the product of which stands at the beginning of dst's rows of m values. Tensor cores also tell
// the biases of a's rows.
func (d *Device) across(dst, a []float32, m int, o *operand, right placed, wide int, tensor bool, biases func([]float32)) error {
	cols := o.cols
	high := min(laneBytes/4/cols, laneBytes/4/(wide+1))
	if high < 1 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, cols)
	}
	return d.each(len(a)/cols, high, func(l *lane, from, rows int) error {
		if err := send(l, l.din, a[from*cols:(from+rows)*cols]); err != nil {
			return err
		}
		grid := [3]int{tiles(wide), tiles(rows), 1}
		var err error
		if tensor {
			if err = d.fit(&l.work, prepared(rows, cols)); err != nil {
				return err
			}
			bias := l.work.at + cu.DevicePtr(4*tiles(rows)*kernels.Tile*o.wide())
			err = d.prepareRows(l, l.din, rows, cols, o.metric, 0, l.work.at, bias)
			if err == nil {
				err = d.launch(l, "product_tensor", grid, uint64(l.work.at), uint64(rows), uint64(right.rows), uint64(wide), uint64(o.wide()), uint64(l.dout), uint64(wide))
			}
			if err == nil {
				err = l.fetch(4*rows*wide, bias, 4*rows)
			}
		} else {
			err = d.launch(l, "product_f32", grid, uint64(l.din), uint64(rows), uint64(cols), uint64(right.rows), uint64(wide), uint64(cols), uint64(cols), uint64(l.dout), uint64(wide))
		}
		if err == nil {
			err = l.fetch(0, l.dout, 4*rows*wide)
		}
		l.finish = func() {
			got := floats(l.out, rows*(wide+1))
			for r := range rows {
				copy(dst[(from+r)*m:], got[r*wide:(r+1)*wide])
			}
			if tensor {
				biases(got[rows*wide:])
			}
		}
		return err
	})
}

//go:build cuda && cgo && linux && amd64

package gpukernels

import (
	"errors"
	"fmt"
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
	blocks    int          // that run at a time: a multiprocessor has room for one of knn's
	knn       string       // the kernel for neighbours
	scratch   cu.DevicePtr // points that are not resident
	room      int64        // of scratch
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
		return nil, fmt.Errorf("%w: device %d: %v", ErrUnavailable, o.Device, err)
	}
	if compute < oldest {
		return nil, fmt.Errorf("%w: device %d, %s, has compute capability %s; the kernels need %d.%d", ErrUnavailable, o.Device, info.Name, info.Compute, oldest/10, oldest%10)
	}
	processors, err := device.Attribute(cu.MultiprocessorCount)
	if err != nil {
		return nil, fmt.Errorf("%w: device %d: %v", ErrUnavailable, o.Device, err)
	}
	d := &Device{info: info, limit: o.Memory, jobs: make(chan func()), closing: make(chan struct{}), ended: make(chan struct{}), functions: map[string]cu.Function{}, blocks: processors, patience: 30 * time.Second}
	if d.knn = "knn_f32"; o.Tensor {
		d.knn = "knn_tensor"
	}
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
	if err == error(cu.OutOfMemory) || errors.As(err, &own) && int(own) == int(cu.OutOfMemory) {
		kind = ErrMemory
	}
	return fmt.Errorf("%w: %s: %v", kind, what, err)
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
			err = errors.Join(err, l.wait(d.patience))
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
	work      cu.DevicePtr // for what lies between kernels
	room      int64        // of work
	finish    func()       // takes what came out, once the queue is empty
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
		if err != error(cu.NotReady) {
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

// send copies values to the device through the lane, which must be empty, at most laneBytes.
func (l *lane) send(to cu.DevicePtr, values []float32) error {
	if len(values) == 0 {
		return nil
	}
	copy(floats(l.in, len(values)), values)
	if err := cu.MemcpyHtoDAsync(to, l.in, int64(4*len(values)), l.stream); err != nil {
		return failure("a copy to it", err)
	}
	return nil
}

// fetch has bytes of what comes out copied to the lane's page-locked memory.
func (l *lane) fetch(bytes int) error {
	if err := cu.MemcpyDtoHAsync(l.out, l.dout, int64(bytes), l.stream); err != nil {
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
func (d *Device) upload(to cu.DevicePtr, values []float32) error {
	for len(values) > 0 {
		n := min(len(values), laneBytes/4)
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := l.send(to, values[:n]); err != nil {
			return err
		}
		to += cu.DevicePtr(4 * n)
		values = values[n:]
	}
	return nil
}

// operand is what queries are multiplied with: rows that were prepared (kernels.h), resident, or rows as they are, which go to the device with
// every call.
type operand struct {
	rows, cols int
	metric     int
	bytes      int64
	at         cu.DevicePtr // prepared rows, their biases, and the origin; 0: not resident
	data       []float32    // nil when it is resident
	origin     []float32    // empty: none
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
	p := &Points{device: d, operand: operand{rows: len(data) / cols, cols: cols, metric: int(metric), data: data, origin: origin}}
	p.bytes = prepared(p.rows, cols) + int64(4*len(origin))
	err := d.do(func() error {
		d.mu.Lock()
		fits := d.used+p.bytes <= d.limit-d.limit/spare
		d.mu.Unlock()
		if !fits || p.rows == 0 {
			return nil // it goes there in pieces
		}
		at, err := d.alloc(p.bytes)
		if errors.Is(err, ErrMemory) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.place(&p.operand, at, data); err != nil {
			d.free(at, p.bytes)
			return err
		}
		p.at = at
		return nil
	})
	if err != nil {
		return nil, err
	}
	if p.at != 0 {
		p.data = nil
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

// place sends rows to the device and has them prepared at an address: rows, then biases, then the origin.
func (d *Device) place(o *operand, at cu.DevicePtr, data []float32) error {
	rows := len(data) / o.cols
	origin := cu.DevicePtr(0)
	if len(o.origin) > 0 {
		origin = at + cu.DevicePtr(prepared(rows, o.cols))
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := l.send(origin, o.origin); err != nil {
			return err
		}
		if err := d.drain(); err != nil { // both lanes read it
			return err
		}
	}
	wide := depth(o.cols)
	bias := at + cu.DevicePtr(4*tiles(rows)*kernels.Tile*wide)
	most := laneBytes / 4 / o.cols / kernels.Tile * kernels.Tile
	if most == 0 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, o.cols)
	}
	for first := 0; first < rows; first += most {
		n := min(most, rows-first)
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := l.send(l.din, data[first*o.cols:(first+n)*o.cols]); err != nil {
			return err
		}
		if err := d.prepareRows(l, n, o, origin, at+cu.DevicePtr(4*first*wide), bias+cu.DevicePtr(4*first)); err != nil {
			return err
		}
	}
	return d.drain()
}

// prepareRows prepares n rows of what is at the lane's input.
func (d *Device) prepareRows(l *lane, n int, o *operand, origin, out, bias cu.DevicePtr) error {
	padded := tiles(n) * kernels.Tile
	return d.launch(l, "rows_prepare", [3]int{(padded + kernels.Warps - 1) / kernels.Warps, 1, 1}, uint64(l.din), uint64(n), uint64(o.cols), uint64(o.cols),
		uint64(origin), uint64(o.metric), uint64(out), uint64(padded), uint64(depth(o.cols)), uint64(bias))
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
	n := len(queries) / o.cols
	if o.at != 0 {
		return d.search(o, o.at, 0, o.rows, queries, k, func(q int, keys []uint64) { write(index[q*k:(q+1)*k], keys) })
	}
	// Piece after piece of the points; what each has for a query is put together as it comes.
	best := make([]uint64, 0, n*k)
	for range n * k {
		best = append(best, kernels.NoCandidate)
	}
	d.mu.Lock()
	left := d.limit - d.used + d.room
	d.mu.Unlock()
	left /= 2 // what is computed with them needs memory, too
	most := int((left-int64(4*len(o.origin)))/(int64(4*depth(o.cols))+4)) / kernels.Tile * kernels.Tile
	most = min(most, tiles(o.rows)*kernels.Tile)
	if most < kernels.Tile {
		return fmt.Errorf("%w: there is no room for %d rows of %d values", ErrMemory, kernels.Tile, o.cols)
	}
	if err := d.reserve(prepared(most, o.cols) + int64(4*len(o.origin))); err != nil {
		return err
	}
	both := make([]uint64, 2*k)
	for first := 0; first < o.rows; first += most {
		rows := min(most, o.rows-first)
		if err := d.place(o, d.scratch, o.data[first*o.cols:(first+rows)*o.cols]); err != nil {
			return err
		}
		err := d.search(o, d.scratch, first, rows, queries, k, func(q int, keys []uint64) {
			kept := best[q*k : (q+1)*k]
			copy(both, kept)
			copy(both[k:], keys)
			slices.Sort(both) // by key, then by index
			copy(kept, both)
		})
		if err != nil {
			return err
		}
	}
	for q := range n {
		write(index[q*k:(q+1)*k], best[q*k:(q+1)*k])
	}
	return nil
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

// reserve makes room in the scratch memory.
func (d *Device) reserve(bytes int64) error {
	if bytes <= d.room {
		return nil
	}
	if d.room > 0 {
		d.free(d.scratch, d.room)
		d.scratch, d.room = 0, 0
	}
	at, err := d.alloc(bytes)
	if err != nil {
		return err
	}
	d.scratch, d.room = at, bytes
	return nil
}

// search calls found with each query's k best candidates among prepared rows at an address, which count from first.
func (d *Device) search(o *operand, at cu.DevicePtr, first, rows int, queries []float32, k int, found func(q int, keys []uint64)) error {
	wide, n := depth(o.cols), len(queries)/o.cols
	bias := at + cu.DevicePtr(4*tiles(rows)*kernels.Tile*wide)
	origin := cu.DevicePtr(0)
	if len(o.origin) > 0 {
		origin = bias + cu.DevicePtr(4*tiles(rows)*kernels.Tile)
	}
	// A piece of queries is as much as a lane takes, and has results for.
	most := min(laneBytes/4/o.cols, laneBytes/(8*k), mostQueries)
	if most == 0 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, o.cols)
	}
	for from := 0; from < n; from += most {
		count := min(most, n-from)
		queryTiles := tiles(count)
		// As many blocks as the device has room for: those of one piece of queries share the points.
		l, err := d.take()
		if err != nil {
			return err
		}
		var spans, span, across int
		var sizes [3]int64
		for blocks, released := d.blocks, false; ; {
			spans = max(1, min(blocks/queryTiles, tiles(rows)))
			span = (tiles(rows) + spans - 1) / spans * kernels.Tile
			spans = (rows + span - 1) / span
			across = max(1, min(queryTiles, blocks/spans))
			sizes = [...]int64{
				prepared(count, o.cols),
				int64(across*spans) * kernels.Tile * kernels.List * 8,
				int64(count*spans*k) * 8,
			}
			err := d.grow(l, sizes[0]+sizes[1]+sizes[2])
			if err == nil {
				break
			}
			switch {
			case !errors.Is(err, ErrMemory):
				return err
			case blocks > 1:
				blocks /= 2
			case released:
				return err
			default: // the other lane may hold what it does not need
				if err := d.release(); err != nil {
					return err
				}
				blocks, released = d.blocks, true
			}
		}
		ready := l.work
		readyBias := ready + cu.DevicePtr(4*queryTiles*kernels.Tile*wide)
		lists := ready + cu.DevicePtr(sizes[0])
		parts := lists + cu.DevicePtr(sizes[1])
		if err := l.send(l.din, queries[from*o.cols:(from+count)*o.cols]); err != nil {
			return err
		}
		if err := d.prepareRows(l, count, o, origin, ready, readyBias); err != nil {
			return err
		}
		out := l.dout
		if spans > 1 {
			out = parts
		}
		err = d.launch(l, d.knn, [3]int{across, spans, 1}, uint64(ready), uint64(readyBias), uint64(count), uint64(at), uint64(bias), uint64(rows), uint64(wide),
			uint64(span), uint64(k), uint64(lists), uint64(out))
		if err == nil && spans > 1 {
			err = d.launch(l, "knn_merge", [3]int{(count + kernels.Warps - 1) / kernels.Warps, 1, 1}, uint64(parts), uint64(count), uint64(spans), uint64(k), uint64(l.dout))
		}
		if err == nil {
			err = l.fetch(count * k * 8)
		}
		if err != nil {
			return err
		}
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
	}
	return d.drain()
}

// grow makes room in a lane's memory for what lies between kernels. The lane must be empty.
func (d *Device) grow(l *lane, bytes int64) error {
	if bytes <= l.room {
		return nil
	}
	if l.room > 0 {
		d.free(l.work, l.room)
		l.work, l.room = 0, 0
	}
	at, err := d.alloc(bytes)
	if err != nil {
		return err
	}
	l.work, l.room = at, bytes
	return nil
}

// release waits for all lanes and frees what lies between their kernels.
func (d *Device) release() error {
	if err := d.drain(); err != nil {
		return err
	}
	for _, l := range d.lane {
		if l.room > 0 {
			d.free(l.work, l.room)
			l.work, l.room = 0, 0
		}
	}
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
	n, m := len(a)/cols, len(b)/cols
	d.mu.Lock()
	left := (d.limit - d.used + d.room) / 2 // neighbours need memory, too
	d.mu.Unlock()
	most := min(m, laneBytes/4/kernels.Tile, int(left/int64(4*cols)))
	if most < 1 || cols > laneBytes/4 {
		return fmt.Errorf("%w: rows of %d values are too long", ErrMemory, cols)
	}
	if err := d.reserve(int64(4 * most * cols)); err != nil {
		return err
	}
	for first := 0; first < m; first += most {
		wide := min(most, m-first)
		if err := d.upload(d.scratch, b[first*cols:(first+wide)*cols]); err != nil {
			return err
		}
		if err := d.drain(); err != nil { // both lanes read it
			return err
		}
		high := min(laneBytes/4/cols, laneBytes/4/wide)
		for from := 0; from < n; from += high {
			rows := min(high, n-from)
			l, err := d.take()
			if err != nil {
				return err
			}
			if err := l.send(l.din, a[from*cols:(from+rows)*cols]); err != nil {
				return err
			}
			err = d.launch(l, "product_f32", [3]int{tiles(wide), tiles(rows), 1}, uint64(l.din), uint64(rows), uint64(cols), uint64(d.scratch), uint64(wide),
				uint64(cols), uint64(cols), uint64(l.dout), uint64(wide))
			if err == nil {
				err = l.fetch(4 * rows * wide)
			}
			if err != nil {
				return err
			}
			l.finish = func() {
				got := floats(l.out, rows*wide)
				for r := range rows {
					copy(dst[(from+r)*m+first:], got[r*wide:(r+1)*wide])
				}
			}
		}
		if err := d.drain(); err != nil {
			return err
		}
	}
	return nil
}

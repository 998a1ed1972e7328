//go:build cuda && cgo && linux && amd64

package gpukernels

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/tasterhq/taster/gpukernels/kernels"
)

// chunkRows are added up at a time in float32 for a covariance; what chunks come to is added up in float64.
const chunkRows = 4096

// Rows are rows as they were given, resident on a device, or sent there with every call where its memory does not suffice: what is asked of
// columns and distributions rather than of neighbours. They are safe for concurrent use.
//
// A row takes part if its squared length is at most 1e37: a NaN or an infinity keeps it out.
type Rows struct {
	device *Device
	operand
}

// Keep makes rows of cols values resident. origin, if not empty, has a value for each column, which [Rows.Covariance], [Rows.Mahalanobis] and
// [Rows.Step] subtract. Keep may keep both slices.
func (d *Device) Keep(data []float32, cols int, origin []float32) (*Rows, error) {
	if cols < 1 || len(data)%cols != 0 || len(origin) != 0 && len(origin) != cols {
		return nil, fmt.Errorf("%d values are no rows of %d, or %d no origin of theirs", len(data), cols, len(origin))
	}
	r := &Rows{device: d, operand: operand{rows: len(data) / cols, cols: cols, raw: true, data: data, origin: origin}}
	if err := d.reside(&r.operand); err != nil {
		return nil, err
	}
	if r.at != 0 {
		resident := r.operand
		runtime.AddCleanup(r, d.discard, &resident)
	}
	return r, nil
}

// Resident says whether the rows stay on the device.
func (r *Rows) Resident() bool { return r.at != 0 }

// on calls f with rows that are on the device, piece after piece.
func (r *Rows) on(f func(d *Device, at placed, first, rows int) error) error {
	err := r.device.do(func() error {
		return r.device.pieces(&r.operand, func(at placed, first, rows int) error { return f(r.device, at, first, rows) })
	})
	runtime.KeepAlive(r) // its memory is in use until here
	return err
}

// ceil is how many blocks of size each n things fill.
func ceil(n, size int) int { return (n + size - 1) / size }

// plus returns the address n float32 on.
func plus(at cu.DevicePtr, n int) cu.DevicePtr { return at + cu.DevicePtr(4*n) }

// Mean sets dst to the mean of each column over the rows that take part, added up in float64, and returns how many those are. Without any it is 0.
func (r *Rows) Mean(dst []float32) (n int, err error) {
	if len(dst) != r.cols {
		return 0, fmt.Errorf("a mean of %d columns into %d", r.cols, len(dst))
	}
	total := make([]float64, r.cols)
	err = r.on(func(d *Device, at placed, first, rows int) error {
		parts := min(max(1, 2*d.blocks/ceil(r.cols, kernels.Warp)), ceil(rows, kernels.Warps))
		l, err := d.take()
		if err != nil {
			return err
		}
		if err := d.fit(&l.work, int64(8*parts)*int64(r.cols+1)+int64(4*r.cols)); err != nil {
			return err
		}
		sums, taken := l.work.at, l.work.at+cu.DevicePtr(8*parts*r.cols)
		mean := taken + cu.DevicePtr(8*parts)
		err = d.launch(l, "columns_sum", [3]int{ceil(r.cols, kernels.Warp), parts, 1}, uint64(at.given), uint64(rows), uint64(r.cols), uint64(r.cols), uint64(at.bias), uint64(sums), uint64(taken))
		if err == nil {
			err = d.launch(l, "columns_mean", [3]int{ceil(r.cols, kernels.BlockThreads), 1, 1}, uint64(sums), uint64(taken), uint64(parts), uint64(r.cols), uint64(mean))
		}
		if err == nil {
			err = l.fetch(0, taken, 8*parts)
		}
		piece := 0
		l.finish = func() {
			for _, n := range unsafe.Slice((*int64)(l.out), parts) {
				piece += int(n)
			}
		}
		if err == nil {
			err = d.drain()
		}
		if err != nil {
			return err
		}
		n += piece
		return d.download(mean, r.cols, func(first int, values []float32) {
			for i, v := range values {
				total[first+i] += float64(piece) * float64(v)
			}
		})
	})
	if err != nil {
		return 0, err
	}
	for c := range dst {
		dst[c] = float32(total[c] / float64(max(1, n)))
	}
	return n, nil
}

// sum has parts of n values each computed, as many as may be, at most, and as memory allows, and adds them up to dst, times a scale. more are values of
// its own that the launch needs on the device; it returns how many parts there are.
func (d *Device) sum(dst []float32, parts int, scale float64, again bool, more []float32, launch func(l *lane, parts int, more, out cu.DevicePtr) (int, error)) error {
	n := len(dst)
	l, err := d.take()
	if err != nil {
		return err
	}
	parts, err = d.afford(l, parts, func(parts int) int64 { return 4*(int64(parts)+1)*int64(n) + int64(4*len(more)) })
	if err != nil {
		return err
	}
	out := l.work.at
	given := plus(out, n)
	first := plus(given, len(more))
	if err := send(l, given, more); err != nil {
		return err
	}
	if parts, err = launch(l, parts, given, first); err != nil {
		return err
	}
	if err := d.launch(l, "parts_sum", [3]int{ceil(n, kernels.BlockThreads), 1, 1}, uint64(first), uint64(parts), uint64(n), math.Float64bits(scale), uint64(out)); err != nil {
		return err
	}
	if err := d.drain(); err != nil {
		return err
	}
	return d.download(out, n, func(at int, values []float32) {
		if !again {
			copy(dst[at:], values)
			return
		}
		for i, v := range values {
			dst[at+i] += v
		}
	})
}

// Covariance sets dst (cols × cols) to scale · Σ (x − origin)(x − origin)ᵀ over the rows x that take part: a Gram matrix of the columns with a scale of 1 and without an
// origin, a covariance with the mean as origin and one less than the number of rows to divide by.
func (r *Rows) Covariance(dst []float32, scale float64) error {
	if int64(len(dst)) != int64(r.cols)*int64(r.cols) {
		return fmt.Errorf("a covariance of %d columns into %d", r.cols, len(dst))
	}
	clear(dst)
	return r.on(func(d *Device, at placed, first, rows int) error {
		across := ceil(r.cols, kernels.Tile)
		// Blocks on and above the diagonal have work: enough chunks to keep all multiprocessors busy, none longer than is exact.
		parts := max(ceil(rows, chunkRows), min(ceil(2*d.blocks, across*(across+1)/2), ceil(rows, kernels.Tile)))
		parts = min(parts, 1<<16-1)
		return d.sum(dst, parts, scale, first > 0, nil, func(l *lane, parts int, _, out cu.DevicePtr) (int, error) {
			chunk := ceil(ceil(rows, parts), kernels.DepthStep) * kernels.DepthStep
			parts = ceil(rows, chunk) // fewer where whole steps hold all rows
			return parts, d.launch(l, "covariance_f32", [3]int{across, across, parts}, uint64(at.given), uint64(rows), uint64(r.cols), uint64(r.cols), uint64(at.origin), uint64(at.bias), uint64(chunk), uint64(out))
		})
	})
}

// Step sets dst to one step of subspace iteration towards the leading directions of the rows X less their origin: (XᵀXVᵀ)ᵀ, where v, and so dst, holds
// at most [MaxDirections] directions of cols values each. X is read once. Whoever asks makes the directions orthonormal between steps.
func (r *Rows) Step(dst, v []float32) error {
	n := len(v) / r.cols
	if len(v)%r.cols != 0 || n < 1 || n > MaxDirections || len(dst) != len(v) {
		return fmt.Errorf("%d values are no 1 to %d directions of %d values, into %d", len(v), MaxDirections, r.cols, len(dst))
	}
	if len(v) > laneBytes/4 {
		return fmt.Errorf("%w: directions of %d values are too long", ErrMemory, r.cols)
	}
	clear(dst)
	return r.on(func(d *Device, at placed, first, rows int) error {
		return d.sum(dst, min(2*d.blocks, ceil(rows, kernels.Warp)), 1, first > 0, v, func(l *lane, parts int, v, out cu.DevicePtr) (int, error) {
			return parts, d.launch(l, "subspace_step_f32", [3]int{parts, 1, 1}, uint64(at.given), uint64(rows), uint64(r.cols), uint64(r.cols), uint64(at.origin), uint64(at.bias),
				uint64(v), uint64(n), uint64(r.cols), uint64(out))
		})
	})
}

// give has values brought to the model's memory, from an offset in bytes on.
func give[T number](d *Device, offset int, values []T) error {
	return upload(d, d.model.at+cu.DevicePtr(offset), values)
}

// judge sets a value of dst for each row, pieces in lanes.
func (d *Device) judge(dst []float32, rows int, launch func(l *lane, from, n int) error) error {
	return d.each(rows, laneBytes/4, func(l *lane, from, n int) error {
		if err := launch(l, from, n); err != nil {
			return err
		}
		l.finish = func() { copy(dst[from:], floats(l.out, n)) }
		return l.fetch(0, l.dout, 4*n)
	})
}

// Mahalanobis sets dst, one for each row, to ‖factor (x − origin)‖, where factor, rank × cols, whitens: W with WᵀW the inverse of the covariance. It is NaN for a row that takes no part.
func (r *Rows) Mahalanobis(dst, factor []float32) error {
	if len(dst) != r.rows || len(factor)%r.cols != 0 {
		return fmt.Errorf("%d distances of %d rows, by %d values in rows of %d", len(dst), r.rows, len(factor), r.cols)
	}
	placedOnce := false
	return r.on(func(d *Device, at placed, first, rows int) error {
		if !placedOnce {
			if err := d.modelled(int64(4*len(factor)), func() error { return give(d, 0, factor) }); err != nil {
				return err
			}
			placedOnce = true
		}
		return d.judge(dst[first:], rows, func(l *lane, from, n int) error {
			return d.launch(l, "mahalanobis_f32", [3]int{ceil(n, kernels.Tile), 1, 1}, uint64(plus(at.given, from*r.cols)), uint64(n), uint64(r.cols), uint64(r.cols), uint64(at.origin),
				uint64(plus(at.bias, from)), uint64(d.model.at), uint64(len(factor)/r.cols), uint64(r.cols), uint64(l.dout))
		})
	})
}

// modelled makes room for what rows are judged by and waits until it is there.
func (d *Device) modelled(bytes int64, place func() error) error {
	if err := d.fit(&d.model, bytes); err != nil {
		return err
	}
	if err := place(); err != nil {
		return err
	}
	return d.drain()
}

// check says what is wrong with a forest: on a device that would be a loop without an end, or memory that is not the forest's.
func (f *Forest) check(cols int) error {
	n := len(f.Value)
	if len(f.Feature) != n || len(f.Child) != n || n > math.MaxInt32 {
		return fmt.Errorf("a forest of %d features, %d values and %d children", len(f.Feature), n, len(f.Child))
	}
	for i, feature := range f.Feature {
		if child := int(f.Child[i]); feature >= 0 && (int(feature) >= cols || child <= i || child+1 >= n) {
			return fmt.Errorf("node %d of %d asks column %d of %d and leads to %d", i, n, feature, cols, child)
		}
	}
	for t, root := range f.Root {
		if root < 0 || int(root) >= n {
			return fmt.Errorf("tree %d begins at node %d of %d", t, root, n)
		}
	}
	return nil
}

// Depth sets dst, one for each row, to the mean over the trees of the leaves' values that the row falls to; without trees 0. Rows that take no part fall, too.
func (r *Rows) Depth(dst []float32, f *Forest) error {
	if len(dst) != r.rows {
		return fmt.Errorf("%d depths of %d rows", len(dst), r.rows)
	}
	if err := f.check(r.cols); err != nil {
		return err
	}
	n, placedOnce := len(f.Value), false
	return r.on(func(d *Device, at placed, first, rows int) error {
		if !placedOnce {
			err := d.modelled(int64(12*n+4*len(f.Root)), func() error {
				return errors.Join(give(d, 0, f.Feature), give(d, 4*n, f.Value), give(d, 8*n, f.Child), give(d, 12*n, f.Root))
			})
			if err != nil {
				return err
			}
			placedOnce = true
		}
		model := d.model.at
		return d.judge(dst[first:], rows, func(l *lane, from, count int) error {
			return d.launch(l, "forest_depth", [3]int{ceil(count, kernels.BlockThreads), 1, 1}, uint64(plus(at.given, from*r.cols)), uint64(count), uint64(r.cols), uint64(r.cols),
				uint64(model), uint64(plus(model, n)), uint64(plus(model, 2*n)), uint64(plus(model, 3*n)), uint64(len(f.Root)), uint64(l.dout))
		})
	})
}

// Select sets dst, len(ranks) × cols, to the element of each rank in each column: rank 0 is the smallest, NaN smaller than every number, -0 than +0. A rank
// that the rows do not have gives NaN. All rows count.
func (r *Rows) Select(dst []float32, ranks []int64) error {
	if len(dst) != len(ranks)*r.cols || len(ranks) > 1<<16-1 {
		return fmt.Errorf("%d ranks of %d columns into %d", len(ranks), r.cols, len(dst))
	}
	if len(dst) == 0 {
		return nil
	}
	d := r.device
	err := d.do(func() error {
		if err := d.modelled(int64(8*len(ranks)), func() error { return give(d, 0, ranks) }); err != nil {
			return err
		}
		if r.at != 0 || r.rows == 0 {
			return d.columns(dst, r.cols, 0, r.at, r.rows, r.cols, len(ranks))
		}
		// Ranks are of whole columns: as many columns at a time as there is memory for.
		d.mu.Lock()
		left := (d.limit - d.used + d.scratch.room) / 2
		d.mu.Unlock()
		most := min(r.cols, int(left/int64(4*r.rows)))
		if most < 1 {
			return fmt.Errorf("%w: there is no room for a column of %d rows", ErrMemory, r.rows)
		}
		if err := d.fit(&d.scratch, int64(4*r.rows)*int64(most)); err != nil {
			return err
		}
		some := make([]float32, 0, r.rows*most)
		for first := 0; first < r.cols; first += most {
			n := min(most, r.cols-first)
			some = some[:0]
			for row := range r.rows {
				some = append(some, r.data[row*r.cols+first:row*r.cols+first+n]...)
			}
			if err := upload(d, d.scratch.at, some); err != nil {
				return err
			}
			if err := d.drain(); err != nil {
				return err
			}
			if err := d.columns(dst, r.cols, first, d.scratch.at, r.rows, n, len(ranks)); err != nil {
				return err
			}
		}
		return nil
	})
	runtime.KeepAlive(r)
	return err
}

// columns selects ranks, which are in the model's memory, in cols columns, the first of which is another's of dst, whose rows are wide.
func (d *Device) columns(dst []float32, wide, first int, x cu.DevicePtr, rows, cols, ranks int) error {
	l, err := d.take()
	if err != nil {
		return err
	}
	if err := d.fit(&l.work, int64(4*ranks)*int64(cols)); err != nil {
		return err
	}
	if err := d.launch(l, "columns_select", [3]int{ceil(cols, kernels.Warp), ranks, 1}, uint64(x), uint64(rows), uint64(cols), uint64(cols), uint64(d.model.at), uint64(l.work.at)); err != nil {
		return err
	}
	if err := d.drain(); err != nil {
		return err
	}
	return d.download(l.work.at, ranks*cols, func(at int, values []float32) {
		for i, v := range values {
			dst[(at+i)/cols*wide+first+(at+i)%cols] = v
		}
	})
}

// Assign finds the nearest of the centroids, rows like the points, of each point by the points' metric, as float32 products tell; of equal ones that with the smaller index. It is -1 for a
// point that takes no part, and where no centroid does.
func (p *Points) Assign(centroids []float32, assigned []int32) error {
	if len(centroids)%p.cols != 0 || len(assigned) != p.rows {
		return fmt.Errorf("%d values in rows of %d, for %d points, into %d", len(centroids), p.cols, p.rows, len(assigned))
	}
	if p.rows == 0 {
		return nil
	}
	d := p.device
	o := operand{rows: len(centroids) / p.cols, cols: p.cols, metric: p.metric, origin: p.origin}
	err := d.do(func() error {
		if err := d.modelled(o.size(o.rows), func() error { return d.place(&o, d.model.at, centroids) }); err != nil {
			return err
		}
		model := o.placed(d.model.at, o.rows)
		return d.pieces(&p.operand, func(at placed, first, rows int) error {
			return d.each(rows, laneBytes/4, func(l *lane, from, n int) error {
				err := d.launch(l, "kmeans_assign_f32", [3]int{ceil(n, kernels.Tile), 1, 1}, uint64(plus(at.rows, from*p.wide())), uint64(plus(at.bias, from)), uint64(n),
					uint64(model.rows), uint64(model.bias), uint64(o.rows), uint64(p.wide()), uint64(l.dout), 0)
				if err != nil {
					return err
				}
				l.finish = func() { copy(assigned[first+from:], unsafe.Slice((*int32)(l.out), n)) }
				return l.fetch(0, l.dout, 4*n)
			})
		})
	})
	runtime.KeepAlive(p)
	return err
}

// Product sets dst (n × the rows) to a·Xᵀ, where a is n × cols and X the rows as they were given, without the way there for X. The sums are those
// of [Device.Product] in float32 units, to the bit.
func (r *Rows) Product(dst, a []float32) error {
	if len(a)%r.cols != 0 || int64(len(dst)) != int64(len(a)/r.cols)*int64(r.rows) {
		return fmt.Errorf("%d values in rows of %d, times %d rows, into %d", len(a), r.cols, r.rows, len(dst))
	}
	if len(dst) == 0 {
		return nil
	}
	return r.on(func(d *Device, at placed, first, rows int) error {
		for from := 0; from < rows; from += widest {
			right := placed{rows: plus(at.given, from*r.cols)}
			if err := d.across(dst[first+from:], a, r.rows, &r.operand, right, min(widest, rows-from), false, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

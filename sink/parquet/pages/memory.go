package pages

import (
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tasterhq/taster/schema/reuse"
)

// pieces are bytes that are written one behind the other, in memory that is given back: a column chunk of many pages need
// not lie in one piece, which would have to be moved again and again while it grows.
type pieces struct {
	list [][]byte
	size int64
}

// pieceSize is what a piece of a chunk of several pages takes: a page of the largest size, with its header.
const pieceSize = 5 << 18

// end returns the last piece, which has room for n bytes more behind what is in it.
func (p *pieces) end(n int) *[]byte {
	last := len(p.list) - 1
	if last < 0 || cap(p.list[last])-len(p.list[last]) < n {
		if last >= 0 {
			n = max(n, pieceSize)
		}
		p.list = append(p.list, reuse.Shared.Get(n)[:0])
		last++
	}
	return &p.list[last]
}

// drop gives the memory back.
func (p *pieces) drop() {
	for i, piece := range p.list {
		reuse.Shared.Put(piece)
		p.list[i] = nil
	}
	p.list, p.size = p.list[:0], 0
}

// encoders keep their memory from one column chunk to the next: as many of them as two files have at work.
var encoders = make(chan *encoder, 2*runtime.NumCPU())

func takeEncoder() *encoder {
	select {
	case e := <-encoders:
		return e
	default:
		return new(encoder)
	}
}

func (e *encoder) giveBack() {
	e.out.drop()
	e.first.drop()
	const much = 8 << 20 // a row that is larger than most
	if cap(e.plain)+cap(e.packed) > much {
		e.plain, e.packed = nil, nil
	}
	select {
	case encoders <- e:
	default:
	}
}

// window is how far zstd looks back: as far as a page reaches. Pages that are larger, of a huge row, are left to arrow-go.
const window = 2 << 20

// packers are zstd encoders like arrow-go's, whose output is the same, by level. arrow-go's live in a sync.Pool, from which the collector
// takes them, with eight megabytes each. These are shared, and let in as many at a time as there are cores to use: each holds a window's memory, and
// more would wait for a core.
var packers = func() (p [zstd.SpeedBestCompression + 1]func() *zstd.Encoder) {
	for level := zstd.SpeedFastest; level <= zstd.SpeedBestCompression; level++ {
		p[level] = sync.OnceValue(func() *zstd.Encoder {
			packer, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
				zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
			if err != nil {
				panic("pages: " + err.Error()) // the options are good or never were
			}
			return packer
		})
	}
	return p
}()

// zstd returns the encoder of the column's level.
func (e *encoder) zstd() *zstd.Encoder { return packers[zstd.EncoderLevelFromZstd(e.level)]() }

// Command peers times detectors of vectors, and the search that they stand on, on data that peers.py drew, for comparison with what
// other libraries take for the same.
//
// It answers requests, a line of JSON each, with a line that says how many seconds the work took, by the clock and of processor time: who asks puts
// its own work between two requests, so that both meet the same machine.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/activation"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/outlier"
	"github.com/tasterhq/taster/detect/spectral"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// request is one piece of work. Files hold little-endian float32, row after row.
type request struct {
	Work      string // "nearest", "peak", or the name of a detector
	Reference string // file of the points, or of the detector's reference
	Stream    string // file of the queries, or of the sample to score
	Dim       int
	// For nearest.
	K     int
	Batch int    // queries in a call
	Level string // of linalg's levels; empty: the best
	Index string // where to write the neighbours found, int32; empty: nowhere
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("want a folder")
	}
	p := peers{folder: args[0], workers: runtime.GOMAXPROCS(0)}
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		took, err := p.answer(r)
		if err != nil {
			return err
		}
		if err := answers.Encode([]float64{took[0].Seconds(), took[1].Seconds()}); err != nil {
			return err
		}
	}
}

type peers struct {
	folder  string
	workers int
	ready   request        // what the last request asked for, its Index left out
	work    func() []int32 // does it again
}

// answer does what is asked and returns how long that took, by the clock and of processor time.
func (p *peers) answer(r request) (took [2]time.Duration, err error) {
	write := r.Index
	if r.Index = ""; r != p.ready {
		work, err := p.prepare(r)
		if err != nil {
			return took, err
		}
		p.ready, p.work = r, work
		runtime.GC()
	}
	start, used := time.Now(), processor()
	index := p.work()
	took = [2]time.Duration{time.Since(start), processor() - used}
	if write == "" {
		return took, nil
	}
	data, err := binary.Append(nil, binary.LittleEndian, index)
	if err != nil {
		return took, err
	}
	return took, os.WriteFile(filepath.Join(p.folder, write), data, 0o600)
}

func (p *peers) read(name string) ([]float32, error) {
	data, err := os.ReadFile(filepath.Join(p.folder, name))
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, err
}

// peakOperations is how many each core does when the peak is asked for: some tenths of a second.
const peakOperations = 4e10

// peak has every core do what it can do most of.
func (p *peers) peak() (func() []int32, error) {
	loop, operations := fused()
	if loop == nil {
		return nil, errors.New("no peak is known for this processor")
	}
	return func() []int32 {
		detect.Each(p.workers, p.workers, func(int) { loop(int(peakOperations / operations)) })
		return nil
	}, nil
}

func (p *peers) prepare(r request) (func() []int32, error) {
	if r.Work == "peak" {
		return p.peak()
	}
	reference, err := p.read(r.Reference)
	if err != nil {
		return nil, err
	}
	stream, err := p.read(r.Stream)
	if err != nil {
		return nil, err
	}
	if r.Work == "nearest" {
		return p.nearest(r, reference, stream)
	}
	for _, d := range []detect.Detector{embedding.Detector{}, spectral.Detector{}, activation.Detector{}, outlier.Detector{}} {
		if d.Name() != r.Work {
			continue
		}
		as := vectors
		if r.Work == "outlier" {
			as = features
		}
		env, s := detect.Env{Seed: 1, Workers: p.workers}, as(stream, r.Dim)
		model, err := d.Fit(as(reference, r.Dim), env)
		return func() []int32 { model.Score(s, env); return nil }, err
	}
	return nil, fmt.Errorf("no work is called %q", r.Work)
}

func (p *peers) nearest(r request, reference, stream []float32) (func() []int32, error) {
	var engine linalg.CPU
	for _, level := range linalg.Levels() {
		if strings.EqualFold(level.String(), r.Level) {
			engine.Level = level
		}
	}
	if r.Level != "" && engine.Level == linalg.Best {
		return nil, fmt.Errorf("this processor has no %q", r.Level)
	}
	ix, err := engine.Load(linalg.Matrix{Rows: len(reference) / r.Dim, Cols: r.Dim, Data: reference}, linalg.L2)
	if err != nil {
		return nil, err
	}
	queries := linalg.Matrix{Rows: len(stream) / r.Dim, Cols: r.Dim, Data: stream}
	return func() (index []int32) {
		for first := 0; first < queries.Rows; first += r.Batch {
			n := min(r.Batch, queries.Rows-first)
			found, err := ix.Nearest(linalg.Matrix{Rows: n, Cols: r.Dim, Data: stream[first*r.Dim : (first+n)*r.Dim]}, r.K, p.workers)
			if err != nil {
				panic(err) // the shapes are those of the matrices above
			}
			index = append(index, found.Index...)
		}
		return index
	}, nil
}

// vectors makes a sample of two classes in turn.
func vectors(values []float32, dim int) *detect.Sample {
	s := &detect.Sample{N: len(values) / dim, Dim: dim, Embedding: values, Classes: []string{"a", "b"}}
	for i := range s.N {
		s.Label = append(s.Label, int32(i%2))
	}
	return s
}

func features(values []float32, width int) *detect.Sample {
	s := &detect.Sample{N: len(values) / width}
	for j := range width {
		s.FeatureNames = append(s.FeatureNames, fmt.Sprint("x", j))
	}
	for _, v := range values {
		s.Features = append(s.Features, float64(v))
	}
	return s
}

// Command peers times detectors of vectors on data that peers.py drew, for comparison with what other libraries take for the same.
// It prints records per second by detector as JSON.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/activation"
	"github.com/tasterhq/taster/detect/embedding"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/outlier"
	"github.com/tasterhq/taster/detect/spectral"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want a folder, the length of a vector and the number of features")
	}
	dim, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	width, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	read := func(name string) []float32 {
		var data []byte
		if err == nil {
			data, err = os.ReadFile(filepath.Join(args[0], name+".f32"))
		}
		out := make([]float32, len(data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return out
	}
	reference, stream := vectors(read("reference"), dim), vectors(read("stream"), dim)
	trusted, rows := features(read("trusted"), width), features(read("rows"), width)
	if err != nil {
		return err
	}
	workers := runtime.GOMAXPROCS(0)
	rates := map[string]float64{}
	points := linalg.Matrix{Rows: reference.N, Cols: dim, Data: reference.Embedding}
	index, err := linalg.CPU{}.Load(points, linalg.Cosine)
	if err != nil {
		return err
	}
	queries := linalg.Matrix{Rows: stream.N, Cols: dim, Data: stream.Embedding}
	rates["nearest"] = rate(stream.N, func() { _, err = index.Nearest(queries, 9, workers) })
	if err != nil {
		return err
	}
	for _, d := range []detect.Detector{embedding.Detector{}, spectral.Detector{}, activation.Detector{}, outlier.Detector{}} {
		known, s := reference, stream
		if d.Name() == "outlier" {
			known, s = trusted, rows
		}
		env := detect.Env{Seed: 1, Workers: workers}
		model, err := d.Fit(known, env)
		if err != nil {
			return err
		}
		rates[d.Name()] = rate(s.N, func() { model.Score(s, env) })
	}
	return json.NewEncoder(os.Stdout).Encode(rates)
}

// rate returns records per second in the best of three calls, after one to warm up.
func rate(n int, call func()) float64 {
	call()
	best := math.Inf(1)
	for range 3 {
		start := time.Now()
		call()
		best = min(best, time.Since(start).Seconds())
	}
	return float64(n) / best
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

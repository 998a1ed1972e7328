package trigger

import (
	"fmt"
	"testing"

	"github.com/tasterhq/taster/detect"
)

func BenchmarkScore(b *testing.B) {
	model, err := Detector{}.Fit(reviews(1000, 350, 1), detect.Env{Workers: 2})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1_000, 10_000, 100_000} {
		stream := reviews(n, 350, 2)
		bytes := 0
		for _, text := range stream.Text {
			bytes += len(text)
		}
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("rows=%d/workers=%d", n, workers), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(bytes))
				for b.Loop() {
					model.Score(stream, detect.Env{Workers: workers})
				}
				b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

func BenchmarkFit(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			reference := reviews(n, 350, 1)
			for b.Loop() {
				if _, err := (Detector{}).Fit(reference, detect.Env{Workers: 2}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

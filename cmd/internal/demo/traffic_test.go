package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
)

func TestTrafficIsWhatItSays(t *testing.T) {
	folder := t.TempDir()
	if _, err := WriteConfig(folder, filepath.Join(folder, "landing"), []string{"127.0.0.1:9092"}); err != nil {
		t.Fatal(err)
	}
	c, faults := contract.Load(filepath.Join(folder, "contracts", "reviews.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	decoder := c.Schema.NewDecoder(memory.DefaultAllocator)
	defer decoder.Release()
	const n = 30_000
	kinds, codes, size := map[Kind]int{}, map[finding.Code]int{}, 0
	for r := range Traffic(7, n) {
		kinds[r.Kind]++
		size += len(r.Value)
		if r.Kind != Broken {
			if refusal := decoder.Append(r.Value); refusal != nil {
				t.Fatalf("%s, %s: %v\n%s", r.ID, r.Kind, refusal, r.Value)
			}
			if decoder.Rows() > 4000 {
				decoder.Take().Release()
			}
			continue
		}
		codes[r.Code]++
		if r.Code == finding.Tombstone || r.Code == finding.TooLarge {
			continue // the pipeline sees to these before decoding
		}
		if refusal := decoder.Append(r.Value); refusal == nil || refusal.Code != r.Code {
			t.Errorf("%s is broken as %s and was refused as %v\n%.300s", r.ID, r.Code, refusal, r.Value)
		}
	}
	for kind, share := range shares {
		if got := float64(kinds[kind]) / n; math.Abs(got-share) > 5*math.Sqrt(share/n) {
			t.Errorf("%s is %.4f of the traffic, want %.4f", kind, got, share)
		}
	}
	if len(codes) < len(breaks)-1 { // number_range stands there twice
		t.Errorf("only %d kinds of broken records: %v", len(codes), codes)
	}
	if mean := size / n; mean < 300 || mean > 600 {
		t.Errorf("records of %d bytes on average, want about 400", mean)
	}
}

func TestTrafficIsTheSameForTheSameSeed(t *testing.T) {
	text := func(seed uint64) string {
		var b bytes.Buffer
		for r := range Traffic(seed, 500) {
			fmt.Fprintf(&b, "%s %s %s\n", r.ID, r.Kind, r.Value)
		}
		return b.String()
	}
	if text(3) != text(3) {
		t.Error("two runs with one seed differ")
	}
	if text(3) == text(4) {
		t.Error("two seeds give the same traffic")
	}
}

// TestReviewsAreVaried holds the traffic to being varied: clean reviews that are nearly the same would make the flood
// easy to find for the wrong reason, or hard to tell.
func TestReviewsAreVaried(t *testing.T) {
	shingles := map[string]map[int]bool{}
	var sets []map[string]bool
	for r := range History(1, 20_000) {
		var v struct{ Title, Body string }
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(strings.ToLower(v.Title + " " + v.Body))
		set := map[string]bool{}
		for i := 0; i+3 <= len(words); i++ {
			set[strings.Join(words[i:i+3], " ")] = true
		}
		for s := range set {
			if shingles[s] == nil {
				shingles[s] = map[int]bool{}
			}
			shingles[s][len(sets)] = true
		}
		sets = append(sets, set)
	}
	near := 0
	for i := 0; i < 500; i++ {
		shared := map[int]int{}
		for s := range sets[i] {
			for j := range shingles[s] {
				shared[j]++
			}
		}
		for j, n := range shared {
			if j != i && float64(n) >= 0.7*float64(len(sets[i])+len(sets[j])-n) {
				near++
				break
			}
		}
	}
	t.Logf("%.1f %% of the reviews have a near duplicate among 20,000", float64(near)/5)
	if near > 25 {
		t.Errorf("%d of 500 reviews have a near duplicate among 20,000; want at most 25", near)
	}
}

func BenchmarkTraffic(b *testing.B) {
	size := 0
	for r := range Traffic(1, b.N) {
		size += len(r.Value)
	}
	b.SetBytes(int64(size / b.N))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

package report

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

func TestNeighbours(t *testing.T) {
	clean, flagged := traffic()
	vectors := func(all []full) []full { // as the built-in ones, but given by the records
		out := slices.Clone(all)
		for i, r := range out {
			values, _ := hashed([][]byte{[]byte(r.Text)})
			for _, v := range values {
				out[i].Embedding = append(out[i].Embedding, float64(v))
			}
		}
		return out
	}
	embedded := everyRole
	embedded.Embedding = "/embedding"
	numbers := everyRole
	numbers.Text = nil
	for name, r := range map[string]*Report{
		"text": build(t, explained(everyRole), clean, flagged, 100), "embedding": build(t, explained(embedded), vectors(clean), vectors(flagged), 100), "features": build(t, explained(numbers), clean, flagged, 100),
	} {
		t.Run(name, func(t *testing.T) {
			if r.Explained != len(flagged) || len(r.maps) != 1 || r.maps[0].kind != name {
				t.Fatalf("%d explained, maps %+v", r.Explained, r.maps)
			}
			for _, f := range r.Flagged {
				if len(f.NearestClean) != neighbours || len(f.NearestFlagged) != neighbours {
					t.Fatalf("%s has %d and %d neighbours", f.ID, len(f.NearestClean), len(f.NearestFlagged))
				}
				for _, all := range [][]Neighbour{f.NearestClean, f.NearestFlagged} {
					if all[0].Similarity < all[1].Similarity || all[0].Similarity > 1 || all[0].ID == f.ID || all[0].Excerpt == "" {
						t.Errorf("%s: %+v", f.ID, all)
					}
				}
				if name != "features" && f.Attack == "near-duplicate flood" && (f.NearestFlagged[0].Similarity < 0.8 || f.NearestFlagged[0].Provider != "echo" || f.NearestClean[0].Similarity > 0.8) {
					t.Errorf("one of a flood has the neighbours %+v and %+v", f.NearestFlagged[0], f.NearestClean[0])
				}
				if f.item.text != nil || f.item.vector != nil {
					t.Error("what is only for comparison is kept")
				}
			}
			m := r.maps[0]
			if len(m.flagged) != len(flagged) || len(m.clean) != mapClean || m.share <= 0 || m.share > 1.0001 && name != "features" {
				if name != "features" { // one number makes no plane
					t.Errorf("a map of %d and %d records with a share of %g", len(m.flagged), len(m.clean), m.share)
				}
			}
		})
	}
}

// The nearest are the nearest: compared with a plain search.
func TestNeighboursAreTheNearest(t *testing.T) {
	clean, flagged := traffic()
	r := build(t, explained(everyRole), clean, flagged, 100)
	vector := func(text string) []float32 {
		values, dim := hashed([][]byte{[]byte(text)})
		return (&space{"text", dim, values}).normalize().values
	}
	for i, f := range r.Flagged {
		if i%9 != 0 {
			continue
		}
		at := slices.IndexFunc(flagged, func(x full) bool { return *x.ID == f.ID })
		own, best := vector(flagged[at].Text), math.Inf(-1)
		for _, c := range clean {
			sum := 0.0
			for j, v := range vector(c.Text) {
				sum += float64(v) * float64(own[j])
			}
			best = max(best, sum)
		}
		if got := f.NearestClean[0].Similarity; math.Abs(got-best) > 1e-4 {
			t.Errorf("%s: the nearest clean record is %g alike, by a plain search %g", f.ID, got, best)
		}
	}
}

// The report is the same however rows are cut into files and in whatever order files come.
func TestReportDoesNotDependOnFiles(t *testing.T) {
	clean, flagged := traffic()
	document := func(clean, flagged []full, rows int) string {
		r := build(t, explained(everyRole), clean, flagged, rows)
		for i := range r.Providers { // a sum of doubles: its last digit depends on the order of rows, which no merge changes
			r.Providers[i].Risk = math.Round(r.Providers[i].Risk*1e9) / 1e9
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := document(clean, flagged, 600)
	if got := document(clean, flagged, 13); got != want {
		t.Error("small files give another report")
	}
	slices.Reverse(clean)
	slices.Reverse(flagged)
	if got := document(clean, flagged, 100); got != want {
		t.Error("another order gives another report")
	}
}

// The sample of accepted rows is bounded, drawn from few segments, and fair to rows of every segment.
func TestCleanSample(t *testing.T) {
	const segments, rows = 500, 40
	b := NewBuilder(explained(everyRole))
	for i := range segments {
		b.AddManifest(segment("reviews", 0, int64(i*rows), int64(i*rows+rows), 0, "", manifest.Counts{Accepted: rows}, nil), manifest.Counts{})
	}
	b.AddManifest(segment("other", 0, 0, 10, 0, "", manifest.Counts{Quarantined: 10}, nil), manifest.Counts{})
	opened, firstHalf := 0, 0
	for i := range segments {
		name := manifest.NewFileName(finding.Accepted, record.Source{Topic: "reviews", ID: "id-of-reviews"}, 0, int64(i*rows), int64(i*rows+rows), "0123456789abcdef")
		columns, sampled := b.Columns(manifest.File{Name: name.String(), Verdict: finding.Accepted})
		if !sampled {
			if !slices.Equal(columns, Plain(finding.Accepted)) {
				t.Fatalf("columns %q", columns)
			}
			continue
		}
		opened++
		if i < segments/2 {
			firstHalf++
		}
		for _, want := range []string{"id", "text", "label", "price", "taster_offset"} {
			if !slices.Contains(columns, want) {
				t.Errorf("%s is not among %q", want, columns)
			}
		}
		var all []full
		for j := range rows {
			all = append(all, full{row: row{Topic: "reviews", Source: "id-of-reviews", Offset: int64(i*rows + j), ID: word(fmt.Sprint(i, j)), Risk: number(0.5)}, Text: "some text"})
		}
		if err := b.AddRows(finding.Accepted, fullColumns(t, all)); err != nil {
			t.Fatal(err)
		}
	}
	if opened != sampledSegments {
		t.Errorf("%d segments are read, want %d", opened, sampledSegments)
	}
	if firstHalf < sampledSegments/4 || firstHalf > sampledSegments*3/4 {
		t.Errorf("%d of %d segments are of the first half", firstHalf, opened)
	}
	if kept := len(b.clean.rows["reviews"].values); kept > 2*sampledRows {
		t.Errorf("%d rows are in memory", kept)
	}
	if n := len(b.clean.rows["reviews"].list()); n != sampledRows {
		t.Errorf("%d rows are sampled", n)
	}
	// A file that a merge has made of all of them is read for the same rows.
	name := manifest.NewFileName(finding.Accepted, record.Source{Topic: "reviews", ID: "id-of-reviews"}, 0, 0, segments*rows, "0123456789abcdef")
	if _, sampled := b.Columns(manifest.File{Name: name.String(), Verdict: finding.Accepted}); !sampled {
		t.Error("a merged file is not read")
	}
}

// Odd vectors and columns lead to a report without neighbours, never to none.
func TestExplainOddRows(t *testing.T) {
	clean, flagged := traffic()
	clean, flagged = clean[:20], flagged[:20]
	for i := range flagged {
		switch i % 5 {
		case 0:
			flagged[i].Embedding = []float64{math.NaN(), 1}
		case 1:
			flagged[i].Embedding = []float64{1}
		case 2:
			flagged[i].Embedding = []float64{0, 0}
		case 3:
			flagged[i].Embedding = []float64{math.MaxFloat32, math.MaxFloat32}
		}
		flagged[i].Text, flagged[i].Price = "", nil
	}
	for _, roles := range []contract.Roles{
		{}, {ID: "/none", Text: []string{"/none"}, Label: "/none", Features: []string{"/none"}}, {Embedding: "/embedding"}, {Embedding: "/text", Features: []string{"/text"}}, {Text: []string{"/text"}},
		{Features: []string{"/price"}}, {Features: []string{"/embedding"}}, {Text: []string{"/price", "/embedding"}, Label: "/price"},
	} {
		r := build(t, explained(roles), clean, flagged, 7)
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("%+v: %v", roles, err)
		}
		html(t, r)
		if len(r.Flagged) != 20 {
			t.Errorf("%+v: %d flagged", roles, len(r.Flagged))
		}
	}
}

// Providers are measured against all others, and few records prove nothing.
func TestProviderRates(t *testing.T) {
	clean, flagged := traffic()
	r := build(t, explained(everyRole), clean, flagged, 100)
	for _, p := range r.Providers {
		switch p.Provider {
		case "mallory":
			if p.Rate != 1 || p.Peers < 0.07 || p.Peers > 0.08 || p.standing() == "" { // 40 of 540
				t.Errorf("%+v: %q", p, p.standing())
			}
		case "echo":
		default:
			if p.standing() != "" || p.Low > p.Rate || p.High < p.Rate {
				t.Errorf("%+v: %q", p, p.standing())
			}
		}
	}
	if low, high := wilson(5, 10, 0.05); math.Abs(low-0.2366) > 1e-4 || math.Abs(high-0.7634) > 1e-4 {
		t.Errorf("5 of 10: %g to %g", low, high)
	}
	// Of a thousand honest providers fifty are above any 95 % bound, and none is accused.
	b := NewBuilder(Options{})
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		p := b.provider(fmt.Sprint(i))
		p.Records = 1 + random.IntN(300)
		for range p.Records {
			if random.Float64() < 0.05 {
				p.Quarantined++
			}
		}
	}
	above := 0
	for _, p := range b.Report().Providers {
		if p.Low > p.Peers {
			above++
		}
		if p.Above {
			t.Errorf("an honest provider stands out: %+v", p)
		}
	}
	if above == 0 {
		t.Error("no provider is above by chance: the test shows nothing")
	}
}

func TestHistogram(t *testing.T) {
	h := Histogram{Accepted: make([]int, histogramBins), Quarantined: make([]int, histogramBins)}
	for _, risk := range []float64{0, -1, 0.5, 0.9, 0.99, 1 - 1e-7, 1, 2} {
		h.add(finding.Accepted, risk)
	}
	for i, want := range map[int]int{0: 2, 1: 1, 4: 1, 8: 1, 28: 1, histogramBins - 1: 2} {
		got := h.Accepted[i]
		if i == 4 || i == 8 || i == 28 { // on an edge rounding decides
			got += h.Accepted[i-1]
		}
		if got != want {
			t.Errorf("bin %d holds %d, want %d: %v", i, got, want, h.Accepted)
		}
	}
}

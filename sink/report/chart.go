package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// The charts are plain SVG, laid out here; the page's style colours them. Sizes are in units of the drawing, of which
// 640 go into the width of a wide screen's column.
const (
	chartWidth  = 640
	chartHeight = 260
	chartLeft   = 52
	chartBottom = 40
	chartTop    = 26
	chartRight  = 10
)

type bar struct {
	X, Y, W, H float64
	Kind       string
	Title      string
}

type tick struct {
	At   float64
	Text string
	Odd  bool // left out where there is little room
}

type tableRow struct{ Cells []string }

// histogramView is the histogram on two logarithmic scales: clean records fall along a straight line, poison stands at
// the right, behind the threshold.
type histogramView struct {
	Bars       []bar
	X, Y       []tick
	Expected   string // a path: what clean records alone would give
	Thresholds []tick
	Rows       []tableRow
	Summary    string
}

func (r *Report) histogram() *histogramView {
	h := r.Histogram
	all, most, held := 0, 0, 0
	for i := range h.Decades {
		all += h.Accepted[i] + h.Quarantined[i]
		held += h.Quarantined[i]
		most = max(most, h.Accepted[i], h.Quarantined[i])
	}
	if all == 0 {
		return nil
	}
	v := &histogramView{}
	decades := math.Ceil(math.Log10(float64(most) + 1))
	x := func(decade float64) float64 {
		return round(chartLeft + decade*binsPerDecade*(chartWidth-chartLeft-chartRight)/histogramBins)
	}
	y := func(count float64) float64 { // one record is seen as well, so the scale begins at a third of one
		const floor = 0.33
		return round(chartHeight - chartBottom - (math.Log10(max(count, floor))-math.Log10(floor))/(decades-math.Log10(floor))*(chartHeight-chartBottom-chartTop))
	}
	bottom := y(0)
	for i, decade := range h.Decades {
		left, right := x(decade), x(decade+1.0/binsPerDecade)
		reads := fmt.Sprintf("1 in %s to %s", power(decade), power(decade+1.0/binsPerDecade))
		if i == histogramBins-1 {
			reads = fmt.Sprintf("rarer than 1 in %s", power(decade))
		}
		if n := h.Accepted[i]; n > 0 {
			v.Bars = append(v.Bars, bar{left + 1, y(float64(n)), round(right - left - 2), round(bottom - y(float64(n))), "accepted", fmt.Sprintf("%s accepted, %s", thousands(n), reads)})
		}
		if n := h.Quarantined[i]; n > 0 {
			at, wide := left+1, right-left-2
			if h.Accepted[i] > 0 {
				at, wide = left+(right-left)/2, (right-left)/2-1
			}
			v.Bars = append(v.Bars, bar{round(at), y(float64(n)), round(wide), round(bottom - y(float64(n))), "held", fmt.Sprintf("%s quarantined, %s", thousands(n), reads)})
		}
		if h.Accepted[i]+h.Quarantined[i] > 0 {
			v.Rows = append(v.Rows, tableRow{[]string{reads, thousands(h.Accepted[i]), thousands(h.Quarantined[i])}})
		}
	}
	for decade := 0.0; decade <= 8; decade++ {
		text := "1 in 10" + superscript(int(decade))
		switch {
		case decade == 0:
			text = "any"
		case decade <= 2:
			text = "1 in " + power(decade)
		}
		v.X = append(v.X, tick{At: x(decade), Text: text, Odd: int(decade)%2 == 1})
	}
	for d := 0.0; d <= decades; d++ {
		v.Y = append(v.Y, tick{At: y(math.Pow(10, d)), Text: power(d)})
	}
	for i, decade := range h.Decades[:histogramBins-1] {
		n := float64(all) * (math.Pow(10, -decade) - math.Pow(10, -decade-1.0/binsPerDecade))
		if n < 0.4 {
			break
		}
		step := "L"
		if i == 0 {
			step = "M"
		}
		v.Expected += fmt.Sprintf("%s%g %g", step, x(decade+0.5/binsPerDecade), y(n))
	}
	seen := map[float64]bool{}
	for _, b := range r.Batches {
		if b.Threshold != nil && *b.Threshold < 1 && !seen[*b.Threshold] && len(seen) < 4 {
			seen[*b.Threshold] = true
			p := 1 - *b.Threshold
			v.Thresholds = append(v.Thresholds, tick{At: x(min(8.2, -math.Log10(p))), Text: "1 in " + thousands(int(math.Round(1/max(p, 1e-9))))})
		}
	}
	slices.SortFunc(v.Thresholds, func(a, b tick) int { return cmp.Compare(a.At, b.At) })
	v.Summary = fmt.Sprintf("Histogram of %s scored records by how rare their risk is among clean records; %s lie beyond the threshold.", thousands(all), thousands(held))
	return v
}

// power writes 10^d: in full while that is short.
func power(d float64) string {
	if n := math.Pow(10, d); n < 20_000 {
		return thousands(int(math.Round(n)))
	}
	if whole := math.Round(d); math.Abs(d-whole) < 1e-9 {
		return "10" + superscript(int(whole))
	}
	n := math.Pow(10, d-math.Floor(d))
	return fmt.Sprintf("%.1f·10%s", n, superscript(int(math.Floor(d))))
}

// segmentsView shows the segments in the order in which they were committed: their risk, and what share was held back.
type segmentsView struct {
	Risk, Share []bar
	RiskY       []tick
	ShareY      []tick
	X           []tick
	Rows        []tableRow
	Merged      int // segments that share a bar
	Summary     string
}

func (r *Report) segments() *segmentsView {
	if len(r.Batches) == 0 {
		return nil
	}
	order := slices.Clone(r.Batches)
	slices.SortStableFunc(order, func(x, y Batch) int { return cmp.Compare(x.Committed, y.Committed) })
	v := &segmentsView{Merged: (len(order) + pageSegments - 1) / pageSegments}
	type group struct {
		from, to     Batch
		n            int
		risk, share  float64
		held, judged int64
	}
	var groups []group
	top := 0.0
	for from := 0; from < len(order); from += v.Merged {
		part := order[from:min(from+v.Merged, len(order))]
		g := group{from: part[0], to: part[len(part)-1], n: len(part)}
		for _, b := range part {
			g.risk = max(g.risk, b.Risk)
			g.held, g.judged = g.held+b.Quarantined, g.judged+b.Accepted+b.Quarantined
		}
		if g.judged > 0 {
			g.share = float64(g.held) / float64(g.judged)
		}
		top = max(top, g.share)
		groups = append(groups, g)
	}
	nice := niceTop(top)
	const half = (chartHeight - chartBottom - chartTop - 24) / 2
	slot := min(48, float64(chartWidth-chartLeft-chartRight)/float64(len(groups)))
	gap := min(6, slot*0.25)
	riskBottom, shareBottom := float64(chartTop+half), float64(chartHeight-chartBottom)
	for i, g := range groups {
		x := round(chartLeft + 4 + float64(i)*slot)
		what := fmt.Sprintf("%s/%d, offsets %d to %d", name(g.from.Topic), g.from.Partition, g.from.First, g.from.Next-1)
		if g.n > 1 {
			what = fmt.Sprintf("%d segments from %s", g.n, what)
		}
		when := time.UnixMilli(int64(g.to.Committed)).UTC().Format("2006-01-02 15:04")
		reads := fmt.Sprintf("%s, committed %s: risk %.3f, %s of %s held back", what, when, g.risk, thousands(int(g.held)), thousands(int(g.judged)))
		h := max(1, g.risk*half)
		v.Risk = append(v.Risk, bar{x, round(riskBottom - h), round(slot - gap), round(h), "risk", reads})
		if h = g.share / nice * half; g.held > 0 {
			h = max(h, 1)
		}
		v.Share = append(v.Share, bar{x, round(shareBottom - h), round(slot - gap), round(h), "held", reads})
		if len(v.Rows) < 40 {
			v.Rows = append(v.Rows, tableRow{[]string{when, what, fmt.Sprintf("%.3f", g.risk), thousands(int(g.held)), thousands(int(g.judged)), percent(g.share)}})
		}
	}
	for _, risk := range []float64{0, 0.5, 1} {
		v.RiskY = append(v.RiskY, tick{At: round(riskBottom - risk*half), Text: fmt.Sprintf("%g", risk)})
	}
	for _, share := range []float64{0, nice} {
		v.ShareY = append(v.ShareY, tick{At: round(shareBottom - share/nice*half), Text: percent(share)})
	}
	first, last := time.UnixMilli(int64(order[0].Committed)).UTC(), time.UnixMilli(int64(order[len(order)-1].Committed)).UTC()
	layout := "2 Jan 15:04"
	if last.Sub(first) > 90*24*time.Hour {
		layout = "2 Jan 2006"
	}
	v.X = append(v.X, tick{At: chartLeft + 4, Text: first.Format(layout)})
	if end := chartLeft + 4 + slot*float64(len(groups)); end > chartLeft+200 {
		v.X = append(v.X, tick{At: round(end), Text: last.Format(layout)})
	}
	v.Summary = fmt.Sprintf("%s segments in the order of their commits; the highest risk is %.3f, the largest share held back %s.", thousands(len(order)), r.Risk, percent(top))
	return v
}

// niceTop is the end of an axis that a share fits under.
func niceTop(share float64) float64 {
	for _, top := range []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5} {
		if share <= top {
			return top
		}
	}
	return 1
}

// mapView is a map of records that are alike.
type mapView struct {
	Topic, Kind, Share string
	Clean              []dot
	Flagged            []dot
	Legend             []legend
	Shown, Of          string
	Height             int
}

type dot struct {
	X, Y  float64
	Mark  int
	Key   int // of the row in the table, 0: none
	Title string
}

type legend struct {
	Mark  int
	Name  string
	Count int
}

const mapHeight = 420

func (m *embeddingMap) view(marks map[string]int, keys map[*Flagged]int, part float64) *mapView {
	if len(m.flagged) == 0 {
		return nil
	}
	left, right, low, high := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	extend := func(at [2]float64) {
		left, right, low, high = min(left, at[0]), max(right, at[0]), min(low, at[1]), max(high, at[1])
	}
	for _, c := range m.clean {
		extend(c)
	}
	for _, f := range m.flagged {
		extend(f.at)
	}
	const margin = 14
	place := func(at [2]float64) (x, y float64) {
		wide, tall := max(right-left, 1e-9), max(high-low, 1e-9)
		return round(margin + (at[0]-left)/wide*(chartWidth-2*margin)), round(mapHeight - margin - (at[1]-low)/tall*(mapHeight-2*margin))
	}
	of := map[string]string{"embedding": "the records' own embeddings", "text": "vectors made of the words of their texts", "features": "their numeric features"}
	v := &mapView{Topic: name(m.topic), Kind: of[m.kind], Share: percent(m.share), Height: mapHeight}
	for _, c := range m.clean {
		x, y := place(c)
		v.Clean = append(v.Clean, dot{X: x, Y: y})
	}
	counts := map[string]int{}
	for _, f := range m.flagged[:max(1, int(float64(len(m.flagged))*part))] {
		x, y := place(f.at)
		title := name(f.ID) + ", " + f.Attack + ": " + name(f.marked())
		v.Flagged = append(v.Flagged, dot{x, y, marks[f.Attack], keys[f.Flagged], title})
		counts[f.Attack]++
	}
	for attack, n := range counts {
		v.Legend = append(v.Legend, legend{marks[attack], attack, n})
	}
	slices.SortFunc(v.Legend, func(x, y legend) int { return cmp.Compare(x.Mark, y.Mark) })
	v.Shown, v.Of = thousands(len(v.Flagged)), thousands(m.of)
	return v
}

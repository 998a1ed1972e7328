package linalg

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// What words say of mean distances is what neighbours say, within what words may be off; and where they say nothing, there is a reason.
func TestMeans(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	told := 0
	for trial := range 15 {
		cols := []int{1, 5, 64, 384, 900}[trial%5]
		spread := []float64{1, 0.3, 0.01}[trial%3]
		draw := func(n int) Matrix { return spreadRows(rng, n, cols, spread) }
		points := draw(700)
		sets, counts := []Set{{K: 1 + rng.IntN(70)}}, []Counts{{}}
		kind := make([]int32, points.Rows)
		for first, class := 0, int32(1); class <= 3; class++ {
			n := []int{64 * (1 + rng.IntN(3)), 1 + rng.IntN(200)}[rng.IntN(2)]
			own := Set{K: 1 + rng.IntN(min(30, n))}
			for i := range n {
				own.Points = append(own.Points, int32(first+i))
				kind[first+i] = class
			}
			if trial%4 == 3 {
				rng.Shuffle(n, func(i, j int) { own.Points[i], own.Points[j] = own.Points[j], own.Points[i] })
			}
			sets[0].Points = append(sets[0].Points, own.Points[:rng.IntN(n+1)]...)
			sets, counts = append(sets, own), append(counts, Counts{own.K, 1 + rng.IntN(40)})
			first += n
		}
		queries := draw(130)
		rows, own := rng.Perm(queries.Rows)[:110], make([]int32, 110)
		for q := range own {
			own[q] = int32(1 + rng.IntN(3))
		}
		slices.Sort(own)
		all, err := LoadSets(CPU{}, points, sets, kind)
		if err != nil {
			t.Fatal(err)
		}
		if !all.ByWords() {
			t.Log("this processor does not multiply words: nobody asks for means")
			return
		}
		mine, theirs := make([]float64, len(rows)), make([]float64, len(rows))
		all.Means(queries, rows, own, counts, mine, theirs)
		// Asked one by one, and in another order, they are the same.
		for i := len(rows) - 1; i >= 0; i-- {
			var a, b [1]float64
			all.Means(queries, rows[i:i+1], own[i:i+1], counts, a[:], b[:])
			if math.Float64bits(a[0]) != math.Float64bits(mine[i]) || math.Float64bits(b[0]) != math.Float64bits(theirs[i]) {
				t.Fatalf("trial %d, query %d: %v and %v alone, %v and %v among others", trial, i, a[0], b[0], mine[i], theirs[i])
			}
		}
		asked := Matrix{len(rows), cols, nil}
		for _, row := range rows {
			asked.Data = append(asked.Data, queries.Row(row)...)
		}
		plain, err := LoadSets(CPU{}, points, sets, nil) // without kinds all distances are told
		if err != nil {
			t.Fatal(err)
		}
		near, inOwn, err := plain.Nearest(asked, own)
		if err != nil {
			t.Fatal(err)
		}
		for q := range rows {
			count := counts[own[q]]
			_, distance := inOwn.Of(q)
			wantMine := meanOfSmallest(distance, count.Own)
			index, distance := near.Of(q)
			var others []float32
			for i, p := range index {
				if kind[p] != own[q] {
					others = append(others, distance[i])
				}
			}
			for len(index) > 0 && len(others) < count.Others {
				others = append(others, slices.Max(distance))
			}
			wantTheirs := meanOfSmallest(others, count.Others)
			off := wordError(cols)
			switch {
			case math.IsNaN(mine[q]) != math.IsNaN(theirs[q]):
				t.Fatalf("trial %d, query %d: %v and %v", trial, q, mine[q], theirs[q])
			case math.IsNaN(mine[q]):
				if wantMine > (tooNear+1)*off && wantTheirs > (tooNear+1)*off {
					t.Fatalf("trial %d, query %d: words say nothing where %v and %v are to be told", trial, q, wantMine, wantTheirs)
				}
			case !(math.Abs(mine[q]-wantMine) <= off) || !(math.Abs(theirs[q]-wantTheirs) <= off):
				t.Fatalf("trial %d, query %d: %v and %v, want %v and %v", trial, q, mine[q], theirs[q], wantMine, wantTheirs)
			default:
				told++
			}
		}
	}
	if told < 500 {
		t.Errorf("words told of %d queries only", told)
	}
}

// meanOfSmallest returns the mean of the k smallest distances; NaN where there are fewer.
func meanOfSmallest(distances []float32, k int) float64 {
	if len(distances) < k {
		return math.NaN()
	}
	sum := 0.0
	for _, d := range slices.Sorted(slices.Values(distances))[:k] {
		sum += float64(d)
	}
	return sum / float64(k)
}

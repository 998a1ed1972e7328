package consistency

import (
	"fmt"
	"math"
	"testing"

	"github.com/tasterhq/taster/detect"
)

func TestZZDiff(t *testing.T) {
	all := reviews(t)
	var rows []int
	for i := range 20000 {
		rows = append(rows, i%(all.N-2000)+2000)
	}
	var first []int
	for i := range 2000 {
		first = append(first, i)
	}
	ref, stream := all.Select(first), all.Select(rows)
	m, err := Detector{}.Fit(ref, env)
	if err != nil {
		t.Fatal(err)
	}
	n := m.(*model).near
	long, short := nans(stream.N), nans(stream.N)
	classes := []*class{n.class["0"], n.class["1"]}
	var with scratch
	n.score(long, stream, classes, 0, stream.N, &with)
	all2 := make([]int, stream.N)
	for i := range all2 {
		all2[i] = i
	}
	n.scoreRows(short, stream, classes, all2, &with)
	worst, sum := 0.0, 0.0
	for i := range long {
		d := math.Abs(long[i] - short[i])
		worst = max(worst, d)
		sum += d
	}
	fmt.Println("worst", worst, "mean", sum/float64(stream.N), detect.Enough)
}

package detect

import (
	"math/bits"
	"slices"
)

// Enough is how many rows of a sample tell what all of them share: a detector whose cost per row is mostly learning may learn
// from a [Portion] of so many, and judge every row by it. A hundredth of them are 164 rows, and a count of those is known to 8 %.
// What is rarer is for those that remember a whole stream.
const Enough = 1 << 14

// Portion returns about most of the rows, in their order: all, where there are no more. Key says what is in a row, as a number whose bits are
// as good as random; rows with equal keys are chosen together, so a row that comes often should be given once. The choice depends on
// what is in the rows, on seed and on nothing else, neither on their order nor on their numbers. Whoever writes only some of the rows cannot
// know beforehand which are chosen: that depends on all of them.
func Portion(rows []int, most int, seed uint64, key func(row int) uint64) []int {
	if len(rows) <= most {
		return rows
	}
	salt := seed
	for _, row := range rows {
		salt += scatter(key(row))
	}
	order := func(row int) uint64 { return scatter(key(row) ^ salt) }

	const bins = 1 << 12
	var count [bins]int
	for _, row := range rows {
		count[order(row)/(1<<64/bins)]++
	}
	bin, below := 0, 0
	for below+count[bin] < most {
		below += count[bin]
		bin++
	}
	within := make([]uint64, 0, count[bin])
	for _, row := range rows {
		if o := order(row); o/(1<<64/bins) == uint64(bin) {
			within = append(within, o)
		}
	}
	slices.Sort(within)
	last := within[most-below-1]
	chosen := make([]int, 0, most)
	for _, row := range rows {
		if order(row) <= last {
			chosen = append(chosen, row)
		}
	}
	return chosen
}

// scatter spreads what differs in any bit over all of them.
func scatter(h uint64) uint64 {
	hi, lo := bits.Mul64(h^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	hi ^= lo
	return (hi ^ hi>>32) * 0xbf58476d1ce4e5b9
}

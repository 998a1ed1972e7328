package strict

// Nearest returns the member of known with the least edit distance to word, the first of several; "" when known is
// empty. The distance is that of Damerau and Levenshtein in the restricted form (optimal string alignment): an
// insertion, a deletion, a substitution and a swap of two neighbours each cost one. Only the first 64 bytes count.
func Nearest(word string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		if k == word {
			return k
		}
		if d := distance(word, k); least < 0 || d < least {
			best, least = k, d
		}
	}
	return best
}

func distance(a, b string) int {
	const most = 64
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	var rows [3][most + 1]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

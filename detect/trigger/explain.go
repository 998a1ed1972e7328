package trigger

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tasterhq/taster/detect/text"
)

// explain names the feature that says most about a row, and its counts.
func (st *stream) explain(row int) string {
	x := st.extractor()
	x.places(st.tokens.Row(row))
	if len(x.index) == 0 {
		return "a text without words"
	}
	strongest := func(weights []weight) (best int, peak float64) {
		weights = weights[st.slot(row):]
		for k, at := range x.index {
			if weights[int(at)*st.slots].peak > weights[int(x.index[best])*st.slots].peak {
				best = k
			}
		}
		return best, float64(weights[int(x.index[best])*st.slots].peak)
	}
	v := st.view(row)
	best, peak := strongest(v.weights)
	if st.suspicions != nil && !(st.plain[row] < st.usual) {
		p := float64(st.suspicions[row])
		if other, rest := strongest(v.rest); (1-p)*rest > p*peak {
			best = other
		}
	}
	if peak == 0 {
		return "nothing in the text stands out"
	}
	at := x.index[best]
	c, _, _ := st.evident(int(at), v)
	b := &c.table[at]
	var out strings.Builder
	fmt.Fprintf(&out, "%s in %s of %s records", st.phrase(row, &x, best), thousands(b.n()), thousands(uint32(c.rows)))
	if st.referenceRows > 0 {
		fmt.Fprintf(&out, ", %s of %s in the reference", thousands(st.reference[at]), thousands(uint32(st.referenceRows)))
	}
	if st.own != nil && st.own[row] >= 0 {
		observed, expected := st.labels(c, int(at), int(st.own[row]))
		fmt.Fprintf(&out, ", label %q %.0f times where %.1f were expected", st.sample.Classes[st.sample.Label[row]], observed, expected)
	}
	if int(at) < len(v.inserted) && v.inserted[at] > 1 {
		out.WriteString(", put between words that belong together")
	}
	return out.String()
}

// phrase quotes the k-th feature of a row.
func (st *stream) phrase(row int, x *extractor, k int) string {
	from, to := x.span(k)
	return x.functions.phrase(st.sample.Text[row], st.tokens.Row(row), x.family(k), from, to)
}

// phrase quotes a feature that is made of the tokens [from, to) of a text. In a shape every run of content words is an
// ellipsis.
func (f *functions) phrase(whole []byte, row []text.Token, kind family, from, to int) string {
	switch kind {
	case word, pair:
		return strconv.Quote(string(text.Span(whole, from, to)))
	case glued:
		return fmt.Sprintf("%q with no space before it", text.Span(whole, from, to))
	}
	var parts []string
	const most = 12
	for i, t := range row[from:to] {
		part := "…"
		if f.has(t.ID()) {
			part = string(text.Span(whole, from+i, from+i+1))
		}
		if n := len(parts); part != "…" || n == 0 || parts[n-1] != part {
			parts = append(parts, part)
		}
		if len(parts) == most {
			break
		}
	}
	where := "the shape"
	if from == 0 {
		where = "the beginning"
	}
	return fmt.Sprintf("%s %q", where, strings.Join(parts, " "))
}

// labels returns how many records with a feature have a label of group g, and how many were expected to.
func (st *stream) labels(c *counts, at, g int) (observed, expected float64) {
	first := st.first()
	l := c.table[at].labelled
	if g > first {
		l = c.more[at*st.further()+g-first-1]
	}
	observed, expected = float64(l.observed())*st.unit, float64(l.expected())*st.unit
	if g < first {
		n := float64(c.table[at].n())
		observed, expected = n-observed, n-expected
	}
	return observed, math.Max(0, expected)
}

// thousands writes a number with commas.
func thousands(n uint32) string {
	digits := strconv.FormatUint(uint64(n), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

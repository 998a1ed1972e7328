package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// shown bounds each list of the text form; the JSON form has all.
const shown = 20

// Text writes the report for a person.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Risk %.3f. %d accepted, %d quarantined, %d rejected, in %d segments.\n",
		r.Risk, r.Records["accepted"], r.Records["quarantined"], r.Records["rejected"], len(r.Batches))

	if gone := r.Retained; len(gone) > 0 {
		fmt.Fprintf(&b, "Of these, %d accepted, %d quarantined and %d rejected are no more: the time to keep them was over.\n", gone["accepted"], gone["quarantined"], gone["rejected"])
	}
	if len(r.Attacks) > 0 {
		b.WriteString("\nWhat it looks like, and what to do\n")
		for _, a := range r.Attacks {
			fmt.Fprintf(&b, "\n  %s: %d records\n    %s\n    %s\n", a.Name, a.Records, a.Means, strings.Join(slices.Concat(a.ATLAS, a.OWASP), "; "))
			for _, m := range a.Mitigations {
				fmt.Fprintf(&b, "    - %s\n", m)
			}
		}
	}
	if len(r.Providers) > 0 {
		table(&b, "Providers, riskiest first", len(r.Providers), "provider\trecords\tquarantined\trejected\tmean risk\trate\tothers\t", func(w io.Writer, i int) {
			p := r.Providers[i]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.3f\t%s\t%s\t%s", name(p.Provider), p.Records, p.Quarantined, p.Rejected, p.Risk, percent(p.Rate), percent(p.Peers), p.standing())
		})
	}
	if len(r.Batches) > 0 {
		batches := slices.Clone(r.Batches)
		slices.SortStableFunc(batches, func(x, y Batch) int {
			switch {
			case x.Risk > y.Risk:
				return -1
			case x.Risk < y.Risk:
				return 1
			}
			return 0
		})
		table(&b, "Segments, riskiest first", len(batches), "topic\tpartition\toffsets\trisk\tp-values against", func(w io.Writer, i int) {
			s := batches[i]
			against := s.Calibrated
			if s.Reference != "" {
				against = s.Reference
			}
			fmt.Fprintf(w, "%s\t%d\t%d to %d\t%.3f\t%s", name(s.Topic), s.Partition, s.First, s.Next-1, s.Risk, against)
		})
	}
	if len(r.Flagged) > 0 {
		all := max(len(r.Flagged), r.Records["quarantined"]-r.Retained["quarantined"])
		tableOf(&b, "Flagged records, riskiest first", len(r.Flagged), all, "topic/partition/offset\tid\tprovider\trisk\treasons and evidence", func(w io.Writer, i int) {
			f := r.Flagged[i]
			fmt.Fprintf(w, "%s/%d/%d\t%s\t%s\t%.4f\t%s", name(f.Topic), f.Partition, f.Offset, name(ownID(f)), name(f.Provider), f.Risk, strings.Join(f.Reasons, ", "))
			for _, found := range f.Findings {
				fmt.Fprintf(w, "\n  \t\t\t\t  %s: score %.4g, p %.2g (flags from %.2g): %s", found.Detector, found.Score, found.PValue, found.Threshold, name(found.Evidence))
			}
			if f.Excerpt != "" {
				fmt.Fprintf(w, "\n  \t\t\t\t  text: %s", name(f.marked()))
			}
			if len(f.NearestClean) > 0 {
				fmt.Fprintf(w, "\n  \t\t\t\t  nearest clean: %s", f.NearestClean[0].line())
			}
			if len(f.NearestFlagged) > 0 {
				fmt.Fprintf(w, "\n  \t\t\t\t  nearest flagged: %s", f.NearestFlagged[0].line())
			}
		})
	}
	if len(r.Recalls) > 0 {
		table(&b, "Recalled: accepted earlier, and suspicious by what is known now", len(r.Recalls), recallsHead, recallLine(r.Recalls))
	}
	if len(r.Rejected) > 0 {
		all := max(len(r.Rejected), r.Records["rejected"]-r.Retained["rejected"])
		tableOf(&b, "Rejected records", len(r.Rejected), all, "topic/partition/offset\tprovider\treason\twhere", func(w io.Writer, i int) {
			f := r.Rejected[i]
			fmt.Fprintf(w, "%s/%d/%d\t%s\t%s\t%s", name(f.Topic), f.Partition, f.Offset, name(f.Provider), strings.Join(f.Reasons, ", "), name(f.Where))
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ownID is a record's own id; one that was only made from the record's place stands beside it already.
func ownID(f Flagged) string {
	if strings.HasSuffix(f.ID, fmt.Sprintf("/%d/%d", f.Partition, f.Offset)) {
		return ""
	}
	return f.ID
}

// standing says in words how a provider's rate compares with that of all others, where there is no doubt of it.
func (p Provider) standing() string {
	switch {
	case !p.Above:
		return ""
	case p.Peers > 0:
		return fmt.Sprintf("%.2g times the others", p.Rate/p.Peers)
	}
	return "the only one"
}

// marked is the excerpt with its highlights in brackets, on one line.
func (f Flagged) marked() string {
	var b strings.Builder
	for _, piece := range pieces(f.Excerpt, f.Highlights) {
		if piece.Hit {
			b.WriteString("[" + piece.Text + "]")
		} else {
			b.WriteString(piece.Text)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// line is a neighbour for a person.
func (n Neighbour) line() string {
	label := ""
	if n.Label != "" {
		label = fmt.Sprintf(" (%s)", name(n.Label))
	}
	return fmt.Sprintf("%.2f alike, %s%s: %s", n.Similarity, name(n.ID), label, name(strings.Join(strings.Fields(n.Excerpt), " ")))
}

// percent writes a share with two digits that say something.
func percent(share float64) string {
	switch {
	case share == 0:
		return "0 %"
	case share < 0.0001:
		return "<0.01 %"
	case share < 0.1:
		return fmt.Sprintf("%.2g %%", 100*share)
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

func table(b *strings.Builder, title string, rows int, head string, row func(io.Writer, int)) {
	tableOf(b, title, rows, rows, head, row)
}

// tableOf shows the first of rows that are at hand, of all that there are.
func tableOf(b *strings.Builder, title string, rows, all int, head string, row func(io.Writer, int)) {
	fmt.Fprintf(b, "\n%s\n\n", title)
	w := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "  %s\n", head)
	for i := range min(rows, shown) {
		fmt.Fprint(w, "  ")
		row(w, i)
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	if all > shown {
		fmt.Fprintf(b, "  … and %d more; -o json lists them all\n", all-shown)
	}
}

// name makes record content safe for a terminal: control characters would let a record write on it, and invisible ones
// let it look like another.
func name(s string) string { return clip(s, 160) }

// clip is name for at most so many characters.
func clip(s string, most int) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
			return '\ufffd'
		}
		return r
	}, s)
	if runes := []rune(clean); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return clean
}

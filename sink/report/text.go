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
			fmt.Fprintf(&b, "\n  %s: %d records\n    %s\n", a.Name, a.Records, strings.Join(slices.Concat(a.ATLAS, a.OWASP), "; "))
			for _, m := range a.Mitigations {
				fmt.Fprintf(&b, "    - %s\n", m)
			}
		}
	}
	if len(r.Providers) > 0 {
		table(&b, "Providers, riskiest first", len(r.Providers), "provider\trecords\tquarantined\trejected\tmean risk", func(w io.Writer, i int) {
			p := r.Providers[i]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.3f", name(p.Provider), p.Records, p.Quarantined, p.Rejected, p.Risk)
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
		table(&b, "Flagged records, riskiest first", len(r.Flagged), "topic/partition/offset\tid\tprovider\trisk\treasons and evidence", func(w io.Writer, i int) {
			f := r.Flagged[i]
			fmt.Fprintf(w, "%s/%d/%d\t%s\t%s\t%.4f\t%s", name(f.Topic), f.Partition, f.Offset, name(ownID(f)), name(f.Provider), f.Risk, strings.Join(f.Reasons, ", "))
			for _, found := range f.Findings {
				fmt.Fprintf(w, "\n  \t\t\t\t  %s: score %.4g, p %.2g: %s", found.Detector, found.Score, found.PValue, name(found.Evidence))
			}
		})
	}
	if len(r.Rejected) > 0 {
		table(&b, "Rejected records", len(r.Rejected), "topic/partition/offset\tprovider\treason\twhere", func(w io.Writer, i int) {
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

func table(b *strings.Builder, title string, rows int, head string, row func(io.Writer, int)) {
	fmt.Fprintf(b, "\n%s\n\n", title)
	w := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "  %s\n", head)
	for i := range min(rows, shown) {
		fmt.Fprint(w, "  ")
		row(w, i)
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	if rows > shown {
		fmt.Fprintf(b, "  … and %d more; -o json lists them all\n", rows-shown)
	}
}

// name makes record content safe for a terminal: control characters would let a record write on it, and invisible ones
// let it look like another.
func name(s string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
			return '\ufffd'
		}
		return r
	}, s)
	const most = 160
	if runes := []rune(clean); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return clean
}

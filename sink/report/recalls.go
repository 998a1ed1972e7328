package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
)

// Recalled is the outcome of a report of recalls alone; its JSON form is public.
type Recalled struct {
	Recalls    []Recall `json:"recalls"`
	Unreadable int      `json:"unreadable,omitempty"` // recalls whose key whoever reports has not
}

// RecalledAt names the segment that found out, by its partition of the same topic and its first offset.
type RecalledAt struct {
	Source    string `json:"source"` // topic id, or the file's SHA-256
	Partition int32  `json:"partition"`
	First     int64  `json:"first"`
}

// Recalls gathers the recalls of a landing zone. Two segments may find out of the same record; the one that was
// committed first is shown. First come all manifests, and then rows for the ids.
type Recalls struct {
	roles map[string]contract.Roles // by topic
	at    map[record.Source]map[int64]*gathered
}

type gathered struct {
	Recall
	committed manifest.Time
}

// NewRecalls gathers recalls; roles tell where a record's id stands, by topic.
func NewRecalls(roles map[string]contract.Roles) *Recalls {
	return &Recalls{roles: roles, at: map[record.Source]map[int64]*gathered{}}
}

// Add takes in the recalls that a segment brought.
func (r *Recalls) Add(m *manifest.Manifest, recalls []record.Recall) {
	for i := range recalls {
		c := &recalls[i]
		known := r.at[c.Source]
		if known == nil {
			known = map[int64]*gathered{}
			r.at[c.Source] = known
		}
		if first := known[c.Offset]; first != nil && first.committed <= m.Committed {
			continue
		}
		known[c.Offset] = &gathered{committed: m.Committed, Recall: Recall{
			Topic: c.Topic, TopicID: c.ID, Source: c.ID, Partition: c.Partition, Offset: c.Offset, ID: fmt.Sprintf("%s/%d/%d", c.ID, c.Partition, c.Offset),
			Reason: string(c.Code), Detector: c.Finding.Detector, Score: finite(c.Finding.Score), PValue: finite(c.Finding.PValue), Evidence: c.Finding.Evidence,
			By: fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.First), At: RecalledAt{m.TopicID, m.Partition, m.First},
		}}
	}
}

// Columns returns which columns of a file are wanted; none if it holds no record that was recalled.
func (r *Recalls) Columns(f manifest.File) []string {
	name, err := manifest.ParseFileName(f.Name)
	if err != nil || name.Verdict != finding.Accepted {
		return nil
	}
	tokens, _ := record.Tokens(r.roles[name.Source.Topic].ID)
	if len(tokens) == 0 {
		return nil
	}
	for offset := range r.at[name.Source] {
		if offset >= name.First && offset < name.Next {
			return []string{tokens[0], "taster_topic", "taster_source", "taster_partition", "taster_offset"}
		}
	}
	return nil
}

// AddRows takes in rows of a file, with at least Columns of it, for the ids of recalled records.
func (r *Recalls) AddRows(rows arrow.RecordBatch) error {
	topic, err := texts(rows, "taster_topic")
	if err != nil {
		return err
	}
	source, err := texts(rows, "taster_source")
	if err != nil {
		return err
	}
	partition, err := integers(rows, "taster_partition")
	if err != nil {
		return err
	}
	offset, err := integers(rows, "taster_offset")
	if err != nil || rows.NumRows() == 0 {
		return err
	}
	// All rows of a file are of one source.
	known := r.at[record.Source{Topic: topic(0), ID: source(0), Partition: int32(partition(0))}]
	id, ok := record.Lookup(rows, r.roles[topic(0)].ID)
	if !ok {
		return nil
	}
	for i := range int(rows.NumRows()) {
		if c := known[offset(i)]; c != nil && !id.IsNull(i) {
			c.ID = id.ValueStr(i)
		}
	}
	return nil
}

// List returns the recalls in order of source and offset.
func (r *Recalls) List() []Recall {
	out := []Recall{}
	for _, known := range r.at {
		for _, c := range known {
			out = append(out, c.Recall)
		}
	}
	slices.SortFunc(out, func(x, y Recall) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.Offset, y.Offset))
	})
	return out
}

const recallsHead = "topic/partition/offset\tid\treason\tfound by\tevidence"

func recallLine(recalls []Recall) func(io.Writer, int) {
	return func(w io.Writer, i int) {
		f := &recalls[i]
		id := f.ID
		if id == fmt.Sprintf("%s/%d/%d", f.Source, f.Partition, f.Offset) {
			id = "" // it stands beside it already
		}
		fmt.Fprintf(w, "%s/%d/%d\t%s\t%s\t%s\t%s: p %.2g: %s", name(f.Topic), f.Partition, f.Offset, name(id), f.Reason, name(f.By), f.Detector, f.PValue, name(f.Evidence))
	}
}

// Text writes all recalls for a person.
func (r *Recalled) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records are recalled: they were accepted, and later ones speak against them. They are in the accepted files as they were.\n", len(r.Recalls))
	if r.Unreadable > 0 {
		fmt.Fprintf(&b, "%d more recalls cannot be read: their key is not available.\n", r.Unreadable)
	}
	if len(r.Recalls) > 0 {
		b.WriteByte('\n')
		t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
		fmt.Fprintf(t, "  %s\n", recallsHead)
		line := recallLine(r.Recalls)
		for i := range r.Recalls {
			fmt.Fprint(t, "  ")
			line(t, i)
			fmt.Fprintln(t)
		}
		_ = t.Flush() // into memory
	}
	_, err := io.WriteString(w, b.String())
	return err
}

//go:build linux

package torture

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCompare wants everything that the harness counts to be counted: one that sees nothing proves nothing.
func TestCompare(t *testing.T) {
	tr := newTruth("id", rand.New(rand.NewPCG(1, 1)))
	var rows []row
	for i, id := range []string{"a", "b", "c", "d"} {
		value := tr.make(id, 1)
		tr.add(&published{id: id, value: value, at: place{"id", 0, int64(i)}, fault: "f"})
		rows = append(rows, row{ID: id, Source: "id", Offset: int64(i), Verdict: "accepted", own: value})
	}
	rows[3].Verdict = "quarantined"
	changed := append([]row{}, rows...)
	changed[1].own = tr.make("b", 2)
	swapped := append([]row{}, rows...)
	swapped[0].Offset, swapped[1].Offset = 1, 0
	strange := append([]row{{ID: "e", Source: "id", Offset: 9}}, rows...)
	for _, c := range []struct {
		name   string
		rows   []row
		err    error
		want   tally
		faults int
	}{
		{"as published", rows, nil, tally{4, 0, 0, 0}, 0},
		{"lost", rows[:2], nil, tally{4, 2, 0, 0}, 2},
		{"unreadable", rows[1:], errors.New("broken"), tally{4, 0, 0, 1}, 2},
		{"duplicated", append(rows[2:3], rows...), nil, tally{4, 0, 1, 0}, 1},
		{"changed", changed, nil, tally{4, 0, 0, 0}, 1},
		{"at each other's place", swapped, nil, tally{4, 0, 0, 0}, 2},
		{"never published", strange, nil, tally{4, 0, 0, 0}, 1},
	} {
		tallies, _, faults := tr.compare(c.rows, c.err)
		if tallies["f"] != c.want || len(faults) != c.faults {
			t.Errorf("%s: %+v and %v", c.name, tallies["f"], faults)
		}
	}
	_, flagged, _ := tr.compare(rows, nil)
	for what, c := range map[string]struct {
		at   place
		id   string
		good bool
	}{"accepted": {place{"id", 0, 1}, "b", true}, "quarantined": {place{"id", 0, 3}, "d", false}, "another": {place{"id", 0, 1}, "a", false}, "never published": {place{"id", 1, 1}, "b", false}} {
		if err := tr.recalled(map[place]recall{c.at: {ID: c.id}}, flagged); (err == nil) != c.good {
			t.Errorf("recalled, %s: %v", what, err)
		}
	}
	event := func(topic, verdict string, offset string) *kgo.Record {
		if verdict == "recall" {
			return &kgo.Record{Topic: topic, Value: []byte(`{"topic":"cells","topic_id":"id","partition":0,"offset":` + offset + `,"verdict":"accepted","reasons":["poison_near_duplicate"],"change":"recall"}`)}
		}
		return &kgo.Record{Topic: topic, Value: []byte(`{"topic":"cells","topic_id":"id","partition":0,"offset":` + offset + `,"verdict":"` + verdict + `","reasons":[]}`)}
	}
	right, again := event("verdicts", "quarantined", "3"), event("verdicts", "recall", "1")
	recalled := recall{Source: "id", ID: "b", Offset: 1, Reason: "poison_near_duplicate"}
	recalled.At.Source = "id"
	recalls := map[place]recall{{"id", 0, 1}: recalled}
	for name, c := range map[string]struct {
		events []*kgo.Record
		good   bool
	}{
		"told twice": {[]*kgo.Record{right, again, right, again}, true}, "never told": {[]*kgo.Record{again}, false},
		"another verdict":    {[]*kgo.Record{again, event("verdicts", "rejected", "3")}, false},
		"of an accepted one": {[]*kgo.Record{right, again, event("verdicts", "quarantined", "2")}, false},
		"on the wrong topic": {[]*kgo.Record{again, event("dead", "quarantined", "3")}, false},
		"a recall never":     {[]*kgo.Record{right}, false}, "a recall of nothing": {[]*kgo.Record{right, again, event("verdicts", "recall", "2")}, false},
		"a recall as dead": {[]*kgo.Record{right, again, event("dead", "recall", "1")}, false},
	} {
		if err := tr.told(flagged, recalls, c.events); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

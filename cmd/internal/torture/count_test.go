//go:build linux

package torture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// place is where a record was published: a partition of a topic, or a row of a file.
type place struct {
	source    string
	partition int32
	offset    int64
}

// published is one record that must be found again.
type published struct {
	id    string
	value []byte
	at    place
	fault string // what struck in the cycle in which it was published
	cycle int
}

// truth is what was published in a round, by id.
type truth struct {
	topicID string
	marker  string // planted in every record

	mu      sync.Mutex
	records map[string]*published
}

func newTruth(topicID string, random *rand.Rand) *truth {
	marker := []byte("planted")
	for range 16 {
		marker = append(marker, 'a'+byte(random.IntN(26)))
	}
	return &truth{topicID: topicID, marker: string(marker), records: map[string]*published{}}
}

// make makes a record that is accepted, or one that is broken, breaks the contract or is far beyond all others. The marker
// is in its text, in its restricted field, and of broken ones in what is left.
func (tr *truth) make(id string, kind int) []byte {
	note := "plain words " + tr.marker
	size := fmt.Sprint(kind % 97)
	switch {
	case kind%7 == 2:
		size = fmt.Sprint(40_000_000 + kind)
	case kind%13 == 5:
		size = `"` + tr.marker + `"`
	}
	value := fmt.Appendf(nil, `{"id":"%s","note":"%s","size":%s,"secret":"s %s"}`, id, note, size, tr.marker)
	if kind%11 == 3 {
		value = value[:len(value)-4]
	}
	return value
}

func (tr *truth) add(p *published) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.records[p.id] = p
}

// tally is what was counted.
type tally struct {
	published, lost, duplicated, unreadable int
}

func (t *tally) add(o tally) {
	t.published += o.published
	t.lost += o.lost
	t.duplicated += o.duplicated
	t.unreadable += o.unreadable
}

// findings are what else there was to be seen.
type findings struct {
	quarantined, rejected int // records
	events                int // told of them, repetitions included
	recalled              int // records
	states                int // of sources, that were compared with their rows
	orphans               int // files that died writers left, for good
}

func (f *findings) add(o findings) {
	f.quarantined += o.quarantined
	f.rejected += o.rejected
	f.events += o.events
	f.recalled += o.recalled
	f.states += o.states
	f.orphans += o.orphans
}

// count reads the landing zone back and compares it with what was published. It returns the counts by fault, what else
// it saw, and what is wrong.
func (tr *truth) count(s *site, b *broker) (map[string]tally, findings, error) {
	rows, readErr := s.cat()
	tallies, flagged, faults := tr.compare(rows, readErr)
	orphans, err := s.verify()
	faults = append(faults, err)
	events := append(b.read("verdicts"), b.read("dead")...)
	recalls, err := s.recalls()
	faults = append(faults, err, tr.recalled(recalls, flagged), tr.told(flagged, recalls, events))
	states, err := s.remembered()
	faults = append(faults, err)
	var dump []byte
	for _, e := range events {
		dump = append(append(dump, e.Value...), '\n')
	}
	s.must(os.WriteFile(filepath.Join(s.dir, "logs", "events.jsonl"), dump, 0o600))
	saw := findings{orphans: orphans, events: len(events), recalled: len(recalls), states: states}
	for _, r := range flagged {
		if r.Verdict == "quarantined" {
			saw.quarantined++
		} else {
			saw.rejected++
		}
	}
	if saw.quarantined == 0 || saw.rejected == 0 || saw.recalled == 0 {
		faults = append(faults, fmt.Errorf("%d records were quarantined, %d rejected and %d recalled: this proves nothing about them", saw.quarantined, saw.rejected, saw.recalled))
	}
	return tallies, saw, errors.Join(faults...)
}

// compare compares rows with what was published. readErr says that there may be rows that could not be read.
func (tr *truth) compare(rows []row, readErr error) (tallies map[string]tally, flagged map[place]row, faults []error) {
	fault := func(format string, args ...any) {
		if len(faults) < 20 {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if readErr != nil {
		fault("%w", readErr)
	}
	byPlace := map[place]*published{}
	for _, p := range tr.records {
		byPlace[p.at] = p
	}
	tallies, flagged = map[string]tally{}, map[place]row{}
	found := map[place]int{}
	for _, r := range rows {
		at := place{r.Source, r.Partition, r.Offset}
		p := byPlace[at]
		if p == nil {
			fault("there is a row of %v, where nothing was published", at)
			continue
		}
		found[at]++
		if !bytes.Equal(p.value, r.own) || r.Verdict != "rejected" && r.ID != p.id {
			fault("record %s of cycle %d (%s) was changed", p.id, p.cycle, p.fault)
		}
		if r.Verdict != "accepted" {
			r.own, r.Raw = nil, nil
			flagged[at] = r
		}
	}
	for _, p := range tr.records {
		t := tallies[p.fault]
		t.published++
		switch n := found[p.at]; {
		case n == 0 && readErr != nil:
			t.unreadable++
			fault("record %s of cycle %d (%s), at %v, cannot be read", p.id, p.cycle, p.fault, p.at)
		case n == 0:
			t.lost++
			fault("record %s of cycle %d (%s), at %v, is lost", p.id, p.cycle, p.fault, p.at)
		case n > 1:
			t.duplicated++
			fault("record %s of cycle %d (%s), at %v, is there %d times", p.id, p.cycle, p.fault, p.at, n)
		}
		tallies[p.fault] = t
	}
	return tallies, flagged, faults
}

// told wants every flagged record of the topic to have been told at least once, and rightly, and every recall that one of
// its segments brought, and nothing else.
func (tr *truth) told(flagged map[place]row, recalls map[place]recall, events []*kgo.Record) error {
	told, toldAgain := map[place]bool{}, map[place]bool{}
	for _, e := range events {
		var event struct {
			Topic     string
			TopicID   string `json:"topic_id"`
			Partition int32
			Offset    int64
			Verdict   string
			Reasons   []string
			Change    string
		}
		if err := json.Unmarshal(e.Value, &event); err != nil {
			return fmt.Errorf("an event is no JSON: %w", err)
		}
		at := place{event.TopicID, event.Partition, event.Offset}
		if event.Change != "" {
			r, ok := recalls[at]
			if !ok || event.Change != "recall" || event.Topic != topic || event.Verdict != "accepted" || !slices.Equal(event.Reasons, []string{r.Reason}) || e.Topic != "verdicts" {
				return fmt.Errorf("an event on %s tells of %v that it is %s %v (%s), and the landing zone recalls it for %q", e.Topic, at, event.Verdict, event.Reasons, event.Change, r.Reason)
			}
			toldAgain[at] = true
			continue
		}
		r, ok := flagged[at]
		if !ok || event.Topic != topic || event.Verdict != r.Verdict || !slices.Equal(event.Reasons, r.Reasons) || (event.Verdict == "rejected") != (e.Topic == "dead") {
			return fmt.Errorf("an event on %s tells of %v that it is %s %v, and the landing zone says %s %v", e.Topic, at, event.Verdict, event.Reasons, r.Verdict, r.Reasons)
		}
		told[at] = true
	}
	var untold []string
	for at := range flagged {
		if at.source == tr.topicID && !told[at] {
			untold = append(untold, fmt.Sprintf("%d/%d", at.partition, at.offset))
		}
	}
	for at, r := range recalls {
		if r.At.Source == tr.topicID && !toldAgain[at] {
			untold = append(untold, fmt.Sprintf("%d/%d (recalled)", at.partition, at.offset))
		}
	}
	if len(untold) > 0 {
		slices.Sort(untold)
		return fmt.Errorf("%d flagged records were never told, by partition and offset: %s", len(untold), strings.Join(untold, " "))
	}
	return nil
}

// hints wants the group's offsets not to be past what has landed, ever.
func (s *site) hints(b *broker, topicID string) error {
	for partition, offset := range b.offsets(s.group) {
		head, err := s.head(topicID, partition)
		if err != nil {
			return err
		}
		if offset > head {
			return fmt.Errorf("the group's offset of partition %d is %d, and the last manifest ends at %d", partition, offset, head)
		}
	}
	return nil
}

// fileSource is the id of a file as a source.
func fileSource(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// needles returns what must not be found: the planted marker and every key, in each spelling in which they could slip
// out.
func (s *site) needles(marker string) (map[string][]byte, error) {
	needles := map[string][]byte{}
	spell(needles, "the marker", []byte(marker))
	text, err := os.ReadFile(filepath.Join(s.dir, "conf", "keys.json"))
	if err != nil {
		return nil, err
	}
	var file struct{ Keys map[string][]byte }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if len(file.Keys) == 0 {
		return nil, errors.New("the key file holds no keys")
	}
	for name, key := range file.Keys {
		spell(needles, "the key "+name, key)
	}
	for i, key := range s.keys.keys() {
		spell(needles, fmt.Sprintf("key encryption key %d", i), key)
	}
	return needles, nil
}

var alphabets = map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding}

// spell adds the bytes themselves, as hexadecimal digits, and as base64 at each of the three places at which they can
// stand in a longer text.
func spell(needles map[string][]byte, what string, b []byte) {
	needles[what] = b
	needles[what+" in hex"] = []byte(hex.EncodeToString(b))
	needles[what+" in HEX"] = []byte(strings.ToUpper(hex.EncodeToString(b)))
	for name, alphabet := range alphabets {
		for shift := range 3 {
			padded := append(make([]byte, shift), b...)
			whole := alphabet.EncodeToString(padded)
			// Only the characters that no neighbour has a part in.
			from, to := (8*shift+5)/6, 8*len(padded)/6
			needles[fmt.Sprintf("%s in %s, shifted by %d", what, name, shift)] = []byte(whole[from:to])
		}
	}
}

// leaks looks for needles in every byte below folders and returns the places.
func leaks(needles map[string][]byte, folders ...string) (hits []string, looked int64, err error) {
	names := slices.Sorted(maps.Keys(needles))
	for _, folder := range folders {
		err = errors.Join(err, filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			looked += int64(len(data))
			for _, name := range names {
				if i := bytes.Index(data, needles[name]); i >= 0 {
					hits = append(hits, fmt.Sprintf("%s stands in %s at byte %d", name, path, i))
				}
				if strings.Contains(path, string(needles[name])) {
					hits = append(hits, fmt.Sprintf("%s stands in the name %s", name, path))
				}
			}
			if filepath.Ext(path) == ".parquet" && (!bytes.HasPrefix(data, []byte("PARE")) || !bytes.HasSuffix(data, []byte("PARE"))) {
				hits = append(hits, path+" has not an encrypted footer")
			}
			return nil
		}))
	}
	return hits, looked, err
}

// sealed wants nothing that was planted, and no key, in the zone, the logs and the metrics.
func (s *site) sealed(marker string) error {
	needles, err := s.needles(marker)
	if err != nil {
		return err
	}
	hits, _, err := leaks(needles, filepath.Join(s.dir, "disk"), filepath.Join(s.dir, "logs"))
	for _, hit := range hits {
		err = errors.Join(err, errors.New(hit))
	}
	return err
}

// publish sends n records and remembers where they are.
func (tr *truth) publish(b *broker, n int, fault string, cycle, batchNumber int, kind func() int, partition func() int32) {
	b.t.Helper()
	var batch []*kgo.Record
	ids := map[*kgo.Record]string{}
	for i := range n {
		id := fmt.Sprintf("k%05d-%d-%04d", cycle, batchNumber, i)
		r := &kgo.Record{Topic: topic, Partition: partition(), Key: []byte(id), Value: tr.make(id, kind())}
		ids[r] = id
		batch = append(batch, r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	for _, r := range batch {
		tr.add(&published{ids[r], r.Value, place{tr.topicID, r.Partition, r.Offset}, fault, cycle})
	}
}

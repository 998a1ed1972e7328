package pipeline

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
)

// landed lands messages, some of them broken in either way, on so many cores, and tells what the segments were.
func landed(t *testing.T, cores int) []string {
	t.Helper()
	r := newRig(t, Limits{Records: batchRows + 700, Bytes: 1 << 30, Age: time.Hour, Memory: 64 << 20})
	r.building = make(chan struct{}, cores)
	var seen []string
	r.zone.script = func(seg *record.Segment, _ int) error {
		for _, b := range seg.Batches {
			columns, err := b.Records.MarshalJSON()
			if err != nil {
				t.Error(err)
			}
			seen = append(seen, fmt.Sprintf("%d-%d: %v %v %x %d", seg.First, seg.Next, b.Origins, b.Refused, sha256.Sum256(columns), b.Bytes))
		}
		return nil
	}
	r.open(t, source)
	const n = 4*batchRows + 321
	var run []record.Message
	give := func() {
		if len(run) > 0 {
			if err := r.Messages(t.Context(), source, run, run[len(run)-1].Offset+1); err != nil {
				t.Fatal(err)
			}
		}
		run = run[:0] // the messages' slice is the caller's again
	}
	for at := int64(0); at < n; at++ {
		m := message(at, int(at%97))
		switch {
		case at%1009 == 5:
			m.Value = []byte(`{"id": 1`)
		case at%1511 == 9:
			give()
			if err := r.Refuse(t.Context(), source, m, finding.RowMalformed, nil); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if run = append(run, m); len(run) == 777 {
			give()
		}
	}
	give()
	r.drain(t, source)
	r.empty(t)
	r.zone.complete(source, n)
	return seen
}

// However many cores build a segment's parts, whichever is done first, the segments and batches are the same.
func TestCoresDoNotShow(t *testing.T) {
	still(t)
	one := landed(t, 1)
	if len(one) < 6 {
		t.Fatalf("%d batches: the test shows nothing", len(one))
	}
	for _, cores := range []int{2, 8} {
		many := landed(t, cores)
		if len(many) != len(one) {
			t.Fatalf("%d batches with %d cores, %d with one", len(many), cores, len(one))
		}
		for i := range one {
			if one[i] != many[i] {
				t.Errorf("batch %d differs with %d cores", i, cores)
			}
		}
	}
}

// What is thrown away while its parts are being built gives its memory back when the last of them is done.
func TestAbandonWhileBuilding(t *testing.T) {
	still(t)
	r := newRig(t, Limits{Records: 1 << 20, Bytes: 1 << 30, Age: time.Hour, Memory: 64 << 20})
	r.building = make(chan struct{}, 1)
	r.building <- struct{}{} // nobody builds
	r.open(t, source)
	r.give(t, source, 0, batchRows+10, 10)
	s := r.streams[source]
	s.mu.Lock()
	if s.running != 1 {
		t.Errorf("%d parts are under way", s.running)
	}
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- r.Abandon(source) }()
	eventually(t, "the stream is closed", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.closed })
	<-r.building
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.empty(t)
}

// Leased messages are held until they are columns, and no longer: also where nobody waits for them any more.
func TestLeasesEnd(t *testing.T) {
	still(t)
	for _, abandoned := range []bool{false, true} {
		r := newRig(t, Limits{Records: 1 << 20, Bytes: 1 << 30, Age: time.Hour, Memory: 64 << 20})
		r.building = make(chan struct{}, 1)
		r.building <- struct{}{} // nobody builds
		r.open(t, source)
		var pool reuse.Pool
		lease := pool.Lease(64 << 10)
		rest := lease.Bytes()
		var messages []record.Message
		for at := range int64(500) {
			m := message(at, 20)
			n := copy(rest, m.Value)
			m.Value, rest = rest[:n:n], rest[n:]
			messages = append(messages, m)
		}
		for len(messages) > 0 { // some runs of one lease
			run := messages[:100]
			messages = messages[100:]
			if err := r.Leased(t.Context(), source, run, run[99].Offset+1, lease); err != nil {
				t.Fatal(err)
			}
		}
		lease.Release()
		if lease.Bytes() == nil {
			t.Fatal("the messages are not columns yet, and their memory was given back")
		}
		s := r.streams[source]
		done := make(chan error, 1)
		if abandoned {
			go func() { done <- r.Abandon(source) }()
		} else {
			go func() { done <- r.Drain(t.Context(), source) }()
		}
		eventually(t, "the messages are to be built", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.pending == nil })
		<-r.building
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if lease.Bytes() != nil {
			t.Errorf("abandoned %v: the messages' memory is still held", abandoned)
		}
		r.empty(t)
	}
}

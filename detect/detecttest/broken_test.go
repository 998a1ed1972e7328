package detecttest

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// faults are promises that a detector may break, the part of the suite that must notice, and what it says.
var faults = []struct{ fault, part, says string }{
	{"changing", "agreement", "workers instead of one"},
	{"by workers", "agreement", "workers instead of one"},
	{"by position", "order", "in another order"},
	{"infinite", "agreement", "want a finite number or NaN"},
	{"short", "agreement", "scores for"},
	{"two lines", "agreement", "want one line"},
	{"writes", "untouched", "changed its sample"},
	{"no code", "agreement", "no reason code"},
	{"panics", "degenerate/1_rows", "panic:"},
	{"deaf", "empty", "is not that other"},
	{"forgetful", "empty", "neither a memory nor an error"},
	{"lenient", "broken_bytes", "no error"},
	{"greedy", "broken_bytes", "bytes of memory"},
	{"growing", "bounded", "want at most"},
	{"learns in vain", "empty", "nothing seen"},
	{"spoils memory", "untouched", "ScoreWith changes the memory"},
	{"order of merging", "merge", "another order"},
	{"writes flagged", "untouched", "Observe changes flagged"},
}

// broken is Recurrent with a fault.
type broken struct {
	Recurrent
	fault string
}

func (d broken) Fit(s *detect.Sample, env detect.Env) (detect.Model, error) {
	m, err := d.Recurrent.Fit(s, env)
	if m == nil || err != nil {
		return nil, err
	}
	return brokenModel{d.fault, m.(recurrent)}, nil
}

type brokenModel struct {
	fault string
	good  recurrent
}

var calls atomic.Int64

func (m brokenModel) Score(s *detect.Sample, env detect.Env) detect.Scores {
	scores := m.good.Score(s, env)
	value := scores.Value
	if s.N == 0 || s.Text == nil {
		return scores
	}
	switch m.fault {
	case "changing":
		value[0] = float64(calls.Add(1))
	case "by workers":
		value[0] = float64(env.Workers)
	case "by position":
		value[0] += 10
	case "infinite":
		value[0] = math.Inf(1)
	case "short":
		scores.Value = value[1:]
	case "two lines":
		scores.Explain = func(int) string { return "one\ntwo" }
	case "writes":
		s.Loss[0]++
	case "no code":
		scores.Code = ""
	case "panics":
		if s.N == 1 {
			panic("one row")
		}
	}
	return scores
}

func (m brokenModel) Memory(data []byte) (detect.Memory, error) {
	switch {
	case m.fault == "forgetful" && len(data) == 0:
		return nil, nil
	case m.fault == "lenient" && len(data) > 0 && len(data) < recurrences:
		return m.wrap(&counts{}), nil
	case m.fault == "greedy" && len(data) > 0:
		_ = make([]byte, 1<<26)
	}
	c, err := m.good.Memory(data[:min(len(data), recurrences)])
	if err != nil || len(data) > recurrences && m.fault != "growing" {
		_, err = m.good.Memory(data)
		return nil, err
	}
	out := m.wrap(c.(*counts))
	out.rows = max(0, len(data)-recurrences)
	return out, nil
}

func (m brokenModel) wrap(c *counts) *brokenMemory { return &brokenMemory{fault: m.fault, counts: c} }

type brokenMemory struct {
	fault string
	*counts
	rows int
}

func (c *brokenMemory) Merge(other detect.Memory) {
	o := other.(*brokenMemory)
	switch c.fault {
	case "deaf":
		return
	case "order of merging":
		for i, n := range o.counts {
			c.counts[i] = 2*c.counts[i] + n
		}
		return
	}
	c.counts.Merge(o.counts)
	c.rows += o.rows
}

func (c *brokenMemory) AppendBinary(data []byte) ([]byte, error) {
	data, err := c.counts.AppendBinary(data)
	return append(data, make([]byte, c.rows)...), err
}

func (m brokenModel) Observe(s *detect.Sample, flagged []bool, env detect.Env) detect.Memory {
	out := m.wrap(m.good.Observe(s, flagged, env).(*counts))
	if m.fault == "growing" {
		out.rows = s.N
	}
	if m.fault == "writes flagged" && s.N > 0 {
		flagged[s.N-1] = !flagged[s.N-1]
	}
	return out
}

func (m brokenModel) ScoreWith(s *detect.Sample, before detect.Memory, env detect.Env) detect.Scores {
	seen := before.(*brokenMemory).counts
	scores := m.good.ScoreWith(s, seen, env)
	switch {
	case m.fault == "learns in vain":
		for i := range scores.Value {
			scores.Value[i]++
		}
	case m.fault == "spoils memory" && s.Text != nil:
		seen.Merge(m.good.Observe(s, nil, env))
	}
	return scores
}

// TestSuiteFindsFaults runs the suite on a detector with each fault, in a process of its own: a test cannot fail and be
// glad of it.
func TestSuiteFindsFaults(t *testing.T) {
	if fault, ok := os.LookupEnv("TASTER_DETECTTEST_FAULT"); ok {
		Run(t, broken{fault: fault}, Clean)
		RunMemory(t, broken{fault: fault}, Clean, recurrences+400)
		return
	}
	for _, c := range faults {
		t.Run(c.fault, func(t *testing.T) {
			test := exec.Command(os.Args[0], "-test.run=^TestSuiteFindsFaults$/^"+strings.ReplaceAll(c.part, "/", "$/^"))
			test.Env = append(os.Environ(), "TASTER_DETECTTEST_FAULT="+c.fault)
			out, err := test.CombinedOutput()
			if err == nil {
				t.Fatal("the suite finds no fault")
			}
			if !strings.Contains(string(out), c.says) {
				t.Errorf("the suite does not say %q but: %s", c.says, out)
			}
		})
	}
}

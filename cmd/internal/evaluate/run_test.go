package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/contract"
)

const schemaText = `{"type":"object","required":["id","x","y"],"additionalProperties":false,"properties":{
	"id":{"type":"string"},"x":{"type":"number"},"y":{"type":"number"}}}`

func testContract(t *testing.T) *contract.Contract {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"s.json": schemaText,
		"c.yaml": "topic: points\nowner: me\nclassification: internal\nschema: s.json\nroles: {id: /id, features: [/x, /y]}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := contract.Load(filepath.Join(folder, "c.yaml"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

func lines(lines ...string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, line := range lines {
			if !yield([]byte(line), nil) {
				return
			}
		}
	}
}

// points returns n records of which every twentieth is far out and known as poison, and one that is broken.
func points(n int, seed uint64) iter.Seq2[[]byte, error] {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := []string{`{"id":"broken","x":"high","y":1,"poison":1}`}
	for i := range n {
		far, poison := 0.0, 0
		if i%20 == 7 {
			far, poison = 40, 1
		}
		out = append(out, fmt.Sprintf(`{"poison":%d,"id":"%d","x":%g,"y":%g}`, poison, i, rng.NormFloat64()+far, rng.NormFloat64()))
	}
	return lines(out...)
}

func TestRun(t *testing.T) {
	c := testContract(t)
	clean := func(yield func([]byte, error) bool) {
		rng := rand.New(rand.NewPCG(9, 9))
		for i := range 500 {
			if !yield(fmt.Appendf(nil, `{"id":"%d","x":%g,"y":%g}`, i, rng.NormFloat64(), rng.NormFloat64()), nil) {
				return
			}
		}
	}
	for _, ref := range []iter.Seq2[[]byte, error]{nil, clean} {
		r, err := Run(context.Background(), Options{Contract: c, Truth: "/poison", Records: points(1000, 3), Reference: ref})
		if err != nil {
			t.Fatal(err)
		}
		if r.Rows != 1000 || r.Poisoned != 50 || r.Rejected != 1 || r.RejectedPoisoned != 1 {
			t.Errorf("%d rows, %d poisoned, %d rejected of which %d", r.Rows, r.Poisoned, r.Rejected, r.RejectedPoisoned)
		}
		if *r.AUROC < 0.999 || *r.RecallAtFPR1Pct < 0.99 || *r.Decision.Recall < 0.9 || *r.Decision.CleanQuarantinedRate > 0.04 {
			text, _ := json.Marshal(r)
			t.Errorf("reference %v: %s", ref != nil, text)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{
			`"rows":`, `"poisoned":`, `"auroc":`, `"average_precision":`, `"recall_at_fpr_1pct":`, `"recall_at_fpr_5pct":`,
			`"decision":{"recall":`, `"precision":`, `"clean_quarantined_rate":`, `{"name":"outlier","auroc":`,
		} {
			if !strings.Contains(string(text), key) {
				t.Errorf("no %s in %s", key, text)
			}
		}
	}
}

func TestRunErrors(t *testing.T) {
	c := testContract(t)
	run := func(truth string, records iter.Seq2[[]byte, error]) error {
		_, err := Run(context.Background(), Options{Contract: c, Truth: truth, Records: records})
		return err
	}
	if err := run("/poison", lines(`{"poison":0,"id":"a","x":1,"y":1}`, `{"id":"secret","x":1,"y":1}`)); !errors.Is(err, ErrNoTruth) ||
		!strings.Contains(err.Error(), "record 1") || strings.Contains(err.Error(), "secret") {
		t.Errorf("no truth: %v", err)
	}
	if err := run("poison", lines()); err == nil {
		t.Error("a truth that is no pointer")
	}
	broken := errors.New("the disk is gone")
	if err := run("/poison", func(yield func([]byte, error) bool) { yield(nil, broken) }); !errors.Is(err, broken) {
		t.Errorf("source: %v", err)
	}
	if err := run("/poison", lines()); err != nil {
		t.Errorf("no records at all: %v", err)
	}
}

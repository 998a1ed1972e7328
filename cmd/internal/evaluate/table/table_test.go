package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	old := "# Title\n\n<!-- eval clean -->\nold\n<!-- end of eval clean -->\n\n<!-- eval labels -->\n<!-- end of eval labels -->\n"
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time changes nothing
		if err := replace(path, "clean", "| new |\n"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(old, "old\n", "\n| new |\n\n", 1)
	if string(text) != want {
		t.Errorf("%q, want %q", text, want)
	}
	if err := replace(path, "attacks", "x"); err == nil || !strings.Contains(err.Error(), "eval attacks") {
		t.Errorf("a part that the document does not have: %v", err)
	}
}

// The document has a place for every part.
func TestDocumentHasAllParts(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/DETECTION.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
		if opening := "<!-- eval " + p.name + " -->\n"; strings.Count(string(doc), opening) != 1 ||
			!strings.Contains(string(doc), "<!-- end of eval "+p.name+" -->") {
			t.Errorf("docs/DETECTION.md has no place for %s", p.name)
		}
	}
	if want := "PARTS ?= " + strings.Join(names, ",") + "\n"; !strings.Contains(string(makefile), want) {
		t.Errorf("the Makefile has no %q", want)
	}
}

func TestMeans(t *testing.T) {
	m := newMeans()
	for i := range 2 {
		m.draws++
		v := float64(i)
		m.add("a", &v)
		m.add("once", nil)
	}
	if v := m.of("a"); v != 0.5 {
		t.Errorf("mean %g", v)
	}
	if v := m.of("once"); !math.IsNaN(v) || show(v, 2) != "–" || percent(v) != "–" {
		t.Errorf("a figure that is not defined: %g", v)
	}
}

func TestSplit(t *testing.T) {
	s := &set{records: make([][]byte, 100), poison: make([]bool, 100), contract: &contract.Contract{}}
	for i := range 30 {
		s.poison[3*i] = true
	}
	reference, stream := s.split(20, 4)
	if len(reference) != 20 || len(stream) != 80 || slices.ContainsFunc(reference, func(i int) bool { return s.poison[i] }) {
		t.Errorf("%v, %v", reference, stream)
	}
	both := slices.Sorted(slices.Values(slices.Concat(reference, stream)))
	if len(slices.Compact(both)) != 100 {
		t.Error("rows are lost or doubled")
	}
	again, _ := s.split(20, 4)
	if other, _ := s.split(20, 5); !slices.Equal(reference, again) || slices.Equal(reference, other) {
		t.Error("draws do not follow the seed")
	}
}

// Floors hold what is reached on public data, with a margin for the draws: fewer are made than for the document.
func TestFloors(t *testing.T) {
	data := os.Getenv("TASTER_EVAL_DATA")
	if data == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	r := &run{data: data, scratch: t.TempDir(), draws: 1, began: time.Now()}
	for _, c := range []struct {
		file, truth    string
		kind           kind
		alone, against map[string]float64 // figures without and with a reference
	}{
		{"text-backdoor/badnets-sst2.jsonl", "poison", labelledTexts, map[string]float64{"auroc": 0.95, "at1": 0.75}, map[string]float64{"auroc": 0.99, "at1": 0.93}},
		{"text-backdoor/syntactic-sst2.jsonl", "poison", labelledTexts, map[string]float64{"auroc": 0.85}, map[string]float64{"auroc": 0.95, "at1": 0.6}},
		{"text-backdoor/style-sst2-5pct.jsonl", "poison", labelledTexts, map[string]float64{"auroc": 0.8}, map[string]float64{"auroc": 0.9, "at1": 0.6}},
		{"tabular-anomaly/pendigits.jsonl.gz", "anomaly", numbers, map[string]float64{"auroc": 0.9}, nil},
		{"tabular-anomaly/cardio.jsonl.gz", "anomaly", numbers, map[string]float64{"auroc": 0.85}, nil},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(data, c.file)); errors.Is(err, os.ErrNotExist) {
				t.Skip("TASTER_EVAL_DATA has no " + c.file)
			}
			s, err := r.load(context.Background(), c.file, c.kind, c.truth)
			if err != nil {
				t.Fatal(err)
			}
			check := func(what string, floors map[string]float64, rows, reference []int) {
				if floors == nil {
					return
				}
				j, err := s.judge(context.Background(), rows, reference, 1)
				if err != nil {
					t.Fatal(err)
				}
				m := newMeans()
				m.record(j.Result(), 0)
				for figure, floor := range floors {
					if v := m.of(figure); !(v >= floor) {
						t.Errorf("%s: %s is %.3f, want %g", what, figure, v, floor)
					}
				}
				t.Log(what, fmt.Sprintf("AUROC %.3f, recall at 1 %% %.3f", m.of("auroc"), m.of("at1")))
			}
			check("unsupervised", c.alone, s.all(), nil)
			reference, stream := s.split(referenceRows, 1)
			check("with a reference", c.against, stream, reference)
		})
	}
}

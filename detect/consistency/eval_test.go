package consistency

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/detecttest/planted"
)

// judgedByPeople is a set whose label issues are known by id.
type judgedByPeople struct {
	probabilities []float64
	outcomes      int
	labels        []int32
	reviewed      []int // rows that confident learning selected when the set was made
	wrong         []bool
}

func load(t testing.TB, name string) judgedByPeople {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	raw, err := os.ReadFile(filepath.Join(folder, "label-errors", name+".jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var d judgedByPeople
	lines := json.NewDecoder(z)
	for lines.More() {
		var row struct {
			Label         int32
			Probabilities []float64
			Reviewed      int
			LabelError    int `json:"label_error"`
		}
		if err := lines.Decode(&row); err != nil {
			t.Fatal(err)
		}
		if row.Reviewed != 0 {
			d.reviewed = append(d.reviewed, len(d.labels))
		}
		d.outcomes = len(row.Probabilities)
		d.probabilities = append(d.probabilities, row.Probabilities...)
		d.labels = append(d.labels, row.Label)
		d.wrong = append(d.wrong, row.LabelError != 0)
	}
	return d
}

// Exactly the rows that were selected when these sets were reviewed, by probabilities of either width.
func TestReviewedLabelErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		issues int
	}{{"cifar10", 275}, {"imdb", 1310}} {
		d := load(t, c.name)
		short := make([]float32, len(d.probabilities))
		for i, p := range d.probabilities {
			short[i] = float32(p)
		}
		for width, issues := range map[string][]int{
			"float64": ConfidentLearning(d.probabilities, d.outcomes, d.labels),
			"float32": ConfidentLearning(short, d.outcomes, d.labels),
		} {
			if slices.Sort(issues); len(issues) != c.issues || !slices.Equal(issues, d.reviewed) {
				missed := 0
				for _, row := range d.reviewed {
					if _, ok := slices.BinarySearch(issues, row); !ok {
						missed++
					}
				}
				t.Errorf("%s, %s: %d issues, of %d reviewed rows %d missed", c.name, width, len(issues), len(d.reviewed), missed)
			}
		}

		// The detector ranks by the same margin: nothing stands above the reviewed rows.
		s := &detect.Sample{N: len(d.labels), Label: d.labels, Probabilities: short, Outcomes: d.outcomes}
		for k := range d.outcomes {
			s.Classes = append(s.Classes, strconv.Itoa(k))
		}
		m, err := Detector{}.Fit(s, env)
		if err != nil || m == nil {
			t.Fatal("no model: ", err)
		}
		value := m.Score(s, env).Value
		bar, wrong, found := math.Inf(1), 0, 0
		for _, row := range d.reviewed {
			bar = min(bar, value[row])
		}
		for row, v := range value {
			if _, reviewed := slices.BinarySearch(d.reviewed, row); !reviewed && v >= bar {
				t.Errorf("%s: row %d scores %v and was not reviewed, all those that were score %v or more", c.name, row, v, bar)
			}
			if d.wrong[row] {
				wrong++
				if v >= bar {
					found++
				}
			}
		}
		t.Logf("%s: %d issues, with %d of %d errors that people confirmed", c.name, len(d.reviewed), found, wrong)
	}
}

// reviews are the clean rows of a set of film reviews with real sentence embeddings.
func reviews(t testing.TB) *detect.Sample {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	r, err := file.OpenParquetFile(filepath.Join(folder, "text-backdoor", "badnets-sst2.minilm.parquet"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	columns, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := columns.ReadTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &detect.Sample{Classes: []string{"0", "1"}}
	var clean []int
	for c := range int(table.NumCols()) {
		row := 0
		for _, part := range table.Column(c).Data().Chunks() {
			switch table.Column(c).Name() {
			case "embedding":
				list := part.(array.ListLike)
				first, _ := list.ValueOffsets(0)
				_, end := list.ValueOffsets(part.Len() - 1)
				s.Embedding = append(s.Embedding, list.ListValues().(*array.Float32).Float32Values()[first:end]...)
			case "label":
				for i := range part.Len() {
					s.Label = append(s.Label, int32(slices.Index(s.Classes, part.ValueStr(i))))
				}
			case "poison":
				for i := range part.Len() {
					if part.ValueStr(i) == "0" {
						clean = append(clean, row+i)
					}
				}
				row += part.Len()
			}
		}
	}
	s.N = len(s.Label)
	s.Dim = len(s.Embedding) / s.N
	return s.Select(clean)
}

// Flipped labels of real reviews, by their sentence embeddings alone: mean of draws.
func TestFlippedReviews(t *testing.T) {
	all := reviews(t)
	const draws = 4
	for _, m := range []int{1000, 5000} {
		var found, area, alone float64
		for seed := range uint64(draws) {
			order := rand.New(rand.NewPCG(seed, 1)).Perm(all.N)
			reference, stream := all.Select(order[:m]), all.Select(order[m:])
			flipped := planted.FlipLabels(stream, 0.05, seed)
			for _, trusted := range []bool{true, false} {
				if !trusted {
					reference = stream
				}
				fitted, err := Detector{}.Fit(reference, env)
				if err != nil || fitted == nil {
					t.Fatal("no model: ", err)
				}
				value := fitted.Score(stream, env).Value
				if trusted {
					found += recall(t, value, flipped) / draws
					area += auroc(value, flipped) / draws
				} else {
					alone += auroc(value, flipped) / draws
				}
			}
		}
		t.Logf("%d reference rows: AUROC %.3f, recall at 1 %% false alarms %.3f; without a reference AUROC %.3f", m, area, found, alone)
		if area < 0.8 || alone < 0.77 {
			t.Errorf("%d reference rows: AUROC %.3f, without a reference %.3f", m, area, alone)
		}
	}
}

// auroc is the chance that a bad row scores higher than a good one.
func auroc(value []float64, bad []bool) float64 {
	var good []float64
	for i, v := range value {
		if !bad[i] {
			good = append(good, v)
		}
	}
	slices.Sort(good)
	sum, n := 0.0, 0.0
	for i, v := range value {
		if bad[i] {
			below, _ := slices.BinarySearch(good, v)
			sum += float64(below) / float64(len(good))
			n++
		}
	}
	return sum / n
}

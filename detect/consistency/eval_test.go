package consistency

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/tasterhq/taster/detect"
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

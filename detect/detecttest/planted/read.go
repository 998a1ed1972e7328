package planted

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tasterhq/taster/detect"
)

// Read reads one of the public evaluation sets, JSON lines that may be gzipped, by its path in the folder that
// TASTER_EVAL_DATA names; without that the test is skipped. Rows have any of text and label, x or the named numbers, and
// embedding; poison or anomaly is the truth.
func Read(t testing.TB, name string, numbers ...string) Set {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder(t), name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	d := Set{Sample: &detect.Sample{FeatureNames: numbers}}
	for line := range bytes.Lines(raw) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		if text, ok := row["text"].(string); ok {
			d.Text = append(d.Text, []byte(text))
			label := row["label"].(string)
			class := slices.Index(d.Classes, label)
			if class < 0 {
				class = len(d.Classes)
				d.Classes = append(d.Classes, label)
			}
			d.Label = append(d.Label, int32(class))
		}
		for _, name := range numbers {
			v, ok := row[name].(float64)
			if !ok {
				v = math.NaN()
			}
			d.Features = append(d.Features, v)
		}
		if x, ok := row["x"].([]any); ok {
			for j, v := range x {
				d.Features = append(d.Features, v.(float64))
				if d.N == 0 {
					d.FeatureNames = append(d.FeatureNames, fmt.Sprint("x", j))
				}
			}
		}
		if x, ok := row["embedding"].([]any); ok {
			d.Dim = len(x)
			for _, v := range x {
				d.Embedding = append(d.Embedding, float32(v.(float64)))
			}
		}
		poison, _ := row["poison"].(float64)
		anomaly, _ := row["anomaly"].(float64)
		d.Poison = append(d.Poison, poison+anomaly > 0)
		d.N++
	}
	return d
}

// folder is where the evaluation data are.
func folder(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("TASTER_EVAL_DATA")
	if folder == "" {
		t.Skip("TASTER_EVAL_DATA is not set: it names the folder with the evaluation data")
	}
	return folder
}

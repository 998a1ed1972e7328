package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/detect/consistency"
)

// referenceRows is how many clean rows a reference has, or half of a set that has fewer than twice as many.
const referenceRows = 1000

// means are means of figures over draws; a figure that is not defined once is not defined.
type means struct {
	names []string
	sum   map[string]float64
	n     map[string]int
	draws int
}

func newMeans() *means { return &means{sum: map[string]float64{}, n: map[string]int{}} }

func (m *means) add(name string, f *float64) {
	if !slices.Contains(m.names, name) {
		m.names = append(m.names, name)
	}
	if f != nil {
		m.sum[name] += *f
		m.n[name]++
	}
}

func (m *means) of(name string) float64 {
	if m.n[name] == 0 || m.n[name] < m.draws {
		return math.NaN()
	}
	return m.sum[name] / float64(m.n[name])
}

// silent tells that a detector says the same of every record.
func (m *means) silent(detector string) bool {
	auroc := m.of("auroc " + detector)
	return math.IsNaN(auroc) || auroc == 0.5 && m.of("at1 "+detector) == 0
}

func show(f float64, digits int) string {
	if math.IsNaN(f) {
		return "–"
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

func percent(f float64) string {
	if math.IsNaN(f) {
		return "–"
	}
	return strconv.FormatFloat(100*f, 'f', 2, 64) + " %"
}

func (m *means) record(r *evaluate.Result, seconds float64) {
	m.draws++
	m.add("auroc", r.AUROC)
	m.add("ap", r.AveragePrecision)
	m.add("at1", r.RecallAtFPR1Pct)
	m.add("at5", r.RecallAtFPR5Pct)
	m.add("recall", r.Decision.Recall)
	m.add("clean", r.Decision.CleanQuarantinedRate)
	m.add("seconds", &seconds)
	for _, d := range r.Detectors {
		m.add("auroc "+d.Name, d.AUROC)
		m.add("ap "+d.Name, d.AveragePrecision)
		m.add("at1 "+d.Name, d.RecallAtFPR1Pct)
	}
}

// row is one line of the tables of sets.
func (m *means) row(b *strings.Builder, name, how string) {
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %.1f |\n", name, how, show(m.of("auroc"), 3), show(m.of("ap"), 3), show(m.of("at1"), 2),
		show(m.of("at5"), 2), percent(m.of("recall")), percent(m.of("clean")), m.of("seconds"))
}

const head = "| set | reference | AUROC | average precision | recall at 1 % false alarms | at 5 % | poison quarantined | clean quarantined | seconds |\n|---|---|---|---|---|---|---|---|---|\n"

// measured judges a set unsupervised and against draws of its clean rows.
func (r *run) measured(ctx context.Context, s *set, draws int) (alone, against *means, m int, err error) {
	alone, against = newMeans(), newMeans()
	once := func(into *means, rows, reference []int, seed uint64) error {
		from := time.Now()
		j, err := s.judge(ctx, rows, reference, seed)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		into.record(j.Result(), time.Since(from).Seconds())
		return nil
	}
	r.say("%s, %d records, unsupervised", s.name, len(s.records))
	if err := once(alone, s.all(), nil, 0); err != nil {
		return nil, nil, 0, err
	}
	m = min(referenceRows, len(s.rows(false))/2)
	for seed := range uint64(draws) {
		r.say("%s, reference of %d rows, draw %d", s.name, m, seed+1)
		reference, stream := s.split(m, seed)
		if err := once(against, stream, reference, seed); err != nil {
			return nil, nil, 0, err
		}
	}
	return alone, against, m, nil
}

// detectors is a table of what each detector sees by itself.
func detectors(b *strings.Builder, names []string, figures map[string][2]*means) {
	var all []string
	for _, name := range names {
		for _, m := range figures[name] {
			for _, key := range m.names {
				if detector, ok := strings.CutPrefix(key, "auroc "); ok && !slices.Contains(all, detector) {
					all = append(all, detector)
				}
			}
		}
	}
	slices.Sort(all)
	silent := func(d string) bool {
		for _, name := range names {
			for _, m := range figures[name] {
				if !m.silent(d) {
					return false
				}
			}
		}
		return true
	}
	var quiet []string
	all = slices.DeleteFunc(all, func(d string) bool {
		if silent(d) {
			quiet = append(quiet, "`"+d+"`")
		}
		return silent(d)
	})
	if quiet != nil {
		fmt.Fprintf(b, "\nNothing to say here have %s.\n", strings.Join(quiet, ", "))
	}
	fmt.Fprint(b, "\nEach detector by itself: AUROC / average precision / recall at 1 % false alarms; first unsupervised, then with a reference.\n\n| detector |")
	for _, name := range names {
		fmt.Fprintf(b, " %s | with reference |", name)
	}
	fmt.Fprint(b, "\n|---|"+strings.Repeat("---|---|", len(names))+"\n")
	for _, d := range all {
		fmt.Fprintf(b, "| `%s` |", d)
		for _, name := range names {
			for _, m := range figures[name] {
				if m.silent(d) {
					fmt.Fprint(b, " – |")
					continue
				}
				fmt.Fprintf(b, " %s / %s / %s |", show(m.of("auroc "+d), 3), show(m.of("ap "+d), 3), show(m.of("at1 "+d), 2))
			}
		}
		fmt.Fprintln(b)
	}
}

func (r *run) sets(ctx context.Context, b *strings.Builder, sets []*set) error {
	fmt.Fprint(b, head)
	var names []string
	figures := map[string][2]*means{}
	for _, s := range sets {
		draws := r.draws
		if s.contract.Roles.Embedding != "" && len(s.contract.Roles.Text) > 0 {
			draws = min(draws, 2) // once more the same texts, and what vectors beside them change
		}
		alone, against, m, err := r.measured(ctx, s, draws)
		if err != nil {
			return err
		}
		alone.row(b, s.name, "none")
		against.row(b, s.name, fmt.Sprintf("%d rows, mean of %d", m, draws))
		names = append(names, s.name)
		figures[s.name] = [2]*means{alone, against}
	}
	detectors(b, names, figures)
	return nil
}

// backdoors are the poisoned reviews, as texts alone and with a sentence embedding beside them.
func backdoors(ctx context.Context, r *run, b *strings.Builder) error {
	var sets []*set
	for _, of := range []struct {
		suffix string
		kind   kind
	}{{".jsonl", labelledTexts}, {".minilm.parquet", embeddedTexts}} {
		if r.quick && of.kind.roles == embeddedTexts.roles {
			continue
		}
		for _, name := range []string{"badnets-sst2", "syntactic-sst2", "style-sst2-5pct"} {
			s, err := r.load(ctx, "text-backdoor/"+name+of.suffix, of.kind, "poison")
			if err != nil {
				return err
			}
			sets = append(sets, s)
		}
	}
	return r.sets(ctx, b, sets)
}

// embeddings are the sets of outlying vectors.
func embeddings(ctx context.Context, r *run, b *strings.Builder) error {
	var sets []*set
	for _, name := range []string{"cifar10_0-resnet18", "20news_3-bert"} {
		s, err := r.load(ctx, "embedding-anomaly/"+name+".jsonl.gz", vectors, "anomaly")
		if err != nil {
			return err
		}
		sets = append(sets, s)
	}
	fmt.Fprint(b, "Best of seven published detectors, unsupervised (k-NN): AUROC 0.755 on cifar10_0-resnet18 and 0.691 on 20news_3-bert.\n\n")
	return r.sets(ctx, b, sets)
}

// labelErrors compares what confident learning selects, id by id, with what was selected for people to review.
func labelErrors(_ context.Context, r *run, b *strings.Builder) error {
	fmt.Fprint(b, "| set | records | selected | reviewed | in both | confirmed by people, of those selected |\n|---|---|---|---|---|---|\n")
	for _, name := range []string{"cifar10", "imdb"} {
		c, err := r.contract(name, kind{roles: "{id: /id}", schema: `{"type":"object","properties":{"id":{"type":"string"}}}`})
		if err != nil {
			return err
		}
		s := &set{name: name, contract: c}
		lines, err := r.lines("label-errors/" + name + ".jsonl.gz")
		if err != nil {
			return err
		}
		r.say("label errors, %s, %d records", s.name, len(lines))
		var probabilities []float64
		var labels []int32
		var reviewed, wrong []bool
		outcomes := 0
		for _, line := range lines {
			var row struct {
				Label         int32
				Probabilities []float64
				Reviewed      int
				LabelError    int `json:"label_error"`
			}
			if err := json.Unmarshal(line, &row); err != nil {
				return err
			}
			outcomes = len(row.Probabilities)
			probabilities = append(probabilities, row.Probabilities...)
			labels, reviewed, wrong = append(labels, row.Label), append(reviewed, row.Reviewed == 1), append(wrong, row.LabelError == 1)
		}
		selected := consistency.ConfidentLearning(probabilities, outcomes, labels)
		all, both, confirmed := 0, 0, 0
		for _, is := range reviewed {
			if is {
				all++
			}
		}
		for _, i := range selected {
			if reviewed[i] {
				both++
			}
			if wrong[i] {
				confirmed++
			}
		}
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d |\n", name, len(labels), len(selected), all, both, confirmed)
	}
	return nil
}

// tabular is PyOD's published protocol.
func tabular(ctx context.Context, r *run, b *strings.Builder) error {
	published, err := publishedAUC(filepath.Join(r.data, "tabular-anomaly", "published-roc-auc.csv"))
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(r.data, "tabular-anomaly", "*.jsonl.gz"))
	if err != nil || len(paths) == 0 {
		return errors.Join(err, errors.New("no tabular sets"))
	}
	columns := []string{"IForest", "HBOS", "CBLOF", "MCD", "OCSVM", "PCA", "KNN", "LOF"}
	var own []string
	type line struct {
		name    string
		overall float64
		figures *means
		seconds float64
	}
	var lines []line
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".jsonl.gz")
		s, err := r.load(ctx, filepath.Join("tabular-anomaly", filepath.Base(path)), numbers, "anomaly")
		if err != nil {
			return err
		}
		text, err := os.ReadFile(strings.TrimSuffix(path, ".jsonl.gz") + ".test-splits.txt")
		if err != nil {
			return err
		}
		m := newMeans()
		from := time.Now()
		trials := strings.Split(strings.TrimSpace(string(text)), "\n")
		for trial, words := range trials {
			r.say("%s, trial %d of %d", name, trial+1, len(trials))
			inTest := make([]bool, len(s.records))
			for word := range strings.FieldsSeq(words) {
				row, err := strconv.Atoi(word)
				if err != nil || row >= len(inTest) {
					return fmt.Errorf("%s: bad row in trial %d", name, trial)
				}
				inTest[row] = true
			}
			var train, test []int
			for row, is := range inTest {
				if is {
					test = append(test, row)
				} else {
					train = append(train, row)
				}
			}
			j, err := s.judge(ctx, test, train, uint64(trial))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			m.record(j.Result(), 0)
		}
		for _, key := range m.names {
			if d, ok := strings.CutPrefix(key, "auroc "); ok && !slices.Contains(own, d) && !m.silent(d) {
				own = append(own, d)
			}
		}
		lines = append(lines, line{name, m.of("auroc"), m, time.Since(from).Seconds() / float64(len(trials))})
	}
	fmt.Fprint(b, "| set | all together |")
	for _, d := range own {
		fmt.Fprintf(b, " `%s` |", d)
	}
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c)
	}
	fmt.Fprint(b, " seconds |\n|---|---|"+strings.Repeat("---|", len(own)+len(columns)+1)+"\n")
	sums := make([]float64, 1+len(own)+len(columns))
	for _, l := range lines {
		values := []float64{l.overall}
		for _, d := range own {
			values = append(values, l.figures.of("auroc "+d))
		}
		for _, c := range columns {
			values = append(values, published[l.name][c])
		}
		fmt.Fprintf(b, "| %s |", l.name)
		for i, v := range values {
			sums[i] += v / float64(len(lines))
			fmt.Fprintf(b, " %s |", show(v, 3))
		}
		fmt.Fprintf(b, " %.1f |\n", l.seconds)
	}
	fmt.Fprint(b, "| **mean** |")
	for _, v := range sums {
		fmt.Fprintf(b, " **%s** |", show(v, 3))
	}
	fmt.Fprintln(b, " |")
	return nil
}

func publishedAUC(path string) (map[string]map[string]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]float64{}
	for _, row := range rows[1:] {
		out[row[0]] = map[string]float64{}
		for i, cell := range row {
			if v, err := strconv.ParseFloat(cell, 64); err == nil && i > 3 {
				out[row[0]][rows[0][i]] = v
			}
		}
	}
	return out, nil
}

// clean tells how many clean rows are quarantined, at three budgets.
func clean(ctx context.Context, r *run, b *strings.Builder) error {
	budgets := []float64{0.001, 0.01, 0.05}
	const most = 6000 // rows judged at a time: enough to tell, and quick
	fmt.Fprint(b, "| kind | set | rows | reference | draws | mean at 0.1 % | at 1 % | at 5 % | draws beyond three standard errors |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, of := range []struct {
		what, file string
		kind       kind
		truth      string
	}{
		{"reviews", "text-backdoor/badnets-sst2.jsonl", labelledTexts, "poison"},
		{"reviews with embeddings", "text-backdoor/style-sst2-5pct.minilm.parquet", embeddedTexts, "poison"},
		{"tweets", "events/tweets.jsonl", tweets, ""},
		{"flights", "events/flights.jsonl", flights, ""},
		{"tabular", "tabular-anomaly/cardio.jsonl.gz", numbers, "anomaly"},
		{"tabular", "tabular-anomaly/letter.jsonl.gz", numbers, "anomaly"},
		{"tabular", "tabular-anomaly/mnist.jsonl.gz", numbers, "anomaly"},
		{"tabular", "tabular-anomaly/pendigits.jsonl.gz", numbers, "anomaly"},
		{"tabular", "tabular-anomaly/satellite.jsonl.gz", numbers, "anomaly"},
		{"embeddings", "embedding-anomaly/cifar10_0-resnet18.jsonl.gz", vectors, "anomaly"},
		{"embeddings", "embedding-anomaly/20news_3-bert.jsonl.gz", vectors, "anomaly"},
	} {
		whole, err := r.load(ctx, of.file, of.kind, of.truth)
		if err != nil {
			return err
		}
		s := &set{name: whole.name, contract: whole.contract, truth: whole.truth}
		for _, i := range whole.rows(false) {
			s.records, s.poison = append(s.records, whole.records[i]), append(s.poison, false)
		}
		m := min(referenceRows, len(s.records)/2)
		for _, with := range []bool{false, true} {
			if with && m < 30 {
				continue
			}
			rates, beyond := make([]float64, len(budgets)), make([]int, len(budgets))
			rows, known := 0, 0
			draws := r.draws
			if !with && len(s.records) <= most {
				draws = 1 // the same rows every time
			}
			for seed := range uint64(draws) {
				reference, stream := s.split(m, seed)
				if !with {
					reference, stream = nil, s.all()
					if len(stream) > most { // another run of rows for each draw
						from := int(seed) * (len(stream) - most) / max(1, draws-1)
						stream = stream[from : from+most]
					}
				} else if len(stream) > most {
					stream = stream[:most]
				}
				r.say("clean %s, reference %v, draw %d", s.name, with, seed+1)
				j, err := s.judge(ctx, stream, reference, seed)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				rows, known = len(stream), len(stream)
				if with {
					known = m
				}
				for k, budget := range budgets {
					rate := float64(j.Beyond(budget)) / float64(rows)
					rates[k] += rate / float64(draws)
					if rate > budget+3*math.Sqrt(budget*(1-budget)*(1/float64(rows)+1/float64(known))) {
						beyond[k]++
					}
				}
			}
			reference := "none"
			if with {
				reference = fmt.Sprintf("%d rows", m)
			}
			fmt.Fprintf(b, "| %s | %s | %d | %s | %d |", of.what, s.name, rows, reference, draws)
			var too []string
			for k, budget := range budgets {
				fmt.Fprintf(b, " %s |", percent(rates[k]))
				if beyond[k] > 0 {
					too = append(too, fmt.Sprintf("%d at %g %%", beyond[k], 100*budget))
				}
			}
			if too == nil {
				too = []string{"none"}
			}
			fmt.Fprintf(b, " %s |\n", strings.Join(too, ", "))
		}
	}
	return nil
}

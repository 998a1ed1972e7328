package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/attack"
	"github.com/tasterhq/taster/cmd/internal/demo"
	"github.com/tasterhq/taster/schema/contract"
)

// Of the simulator's table: what a figure must reach to count as found, and how much is planted.
const (
	found       = 0.9
	plantedRate = 1 // per cent
	longRows    = 100_000
)

// simulated are clean records that attacks are planted in.
type simulated struct {
	name, what string
	contract   *contract.Contract
	records    [][]byte
	only       []attack.Attack // nil: all
	most       int             // records of the stream
}

// lines reads a file of JSON lines, plain or gzipped.
func (r *run) lines(name string) ([][]byte, error) {
	f, err := os.Open(filepath.Join(r.data, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	var out [][]byte
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		out = append(out, bytes.Clone(scanner.Bytes()))
	}
	return out, scanner.Err()
}

// attacks plants every attack of the simulator in clean data of several kinds.
func attacks(ctx context.Context, r *run, b *strings.Builder) error {
	kinds, err := r.simulations(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(b, "Clean data: ")
	for i, k := range kinds {
		if i > 0 {
			fmt.Fprint(b, "; ")
		}
		fmt.Fprintf(b, "*%s*, %s", k.name, k.what)
	}
	fmt.Fprintf(b, ". %d clean rows are the reference, at most %d others the stream (%d of the long market). Planted are %d %% of them, for a drip 250 in a million "+
		"and 20 at least. An attack is not planted where the kind lacks a role that it needs.\n\n", referenceRows, r.rows, longRows, plantedRate)
	fmt.Fprint(b, "| attack | in | planted | reference | recall at 1 % false alarms | AUROC | caught | clean quarantined | first caught after | strongest detector |\n|---|---|---|---|---|---|---|---|---|---|\n")
	type cell struct{ kind, recall string }
	reached, short := map[string][]cell{}, map[string][]cell{}
	var order, quiet []string
	var impossible []string
	for _, k := range kinds {
		reference, stream := filepath.Join(r.scratch, k.name+".reference.jsonl"), filepath.Join(r.scratch, k.name+".jsonl")
		rng := rand.New(rand.NewPCG(5, 77))
		perm := rng.Perm(len(k.records))
		m := min(referenceRows, len(perm)/2)
		first, rest := perm[:m], perm[m:min(len(perm), m+k.most)]
		slices.Sort(first)
		slices.Sort(rest)
		if err := errors.Join(save(reference, k.records, first), save(stream, k.records, rest)); err != nil {
			return err
		}
		for _, with := range []bool{true, false} {
			if !with && (r.quick || k.most == longRows) {
				continue // the long one: minutes, for what the shorter stream tells as well
			}
			of := ""
			if with {
				of = reference
			}
			r.say("attacks on %s, reference %v", k.name, with)
			last := 0
			result, err := app.EvaluateAttacks(ctx, k.contract, app.Attacks{Attacks: k.only, Rates: []float64{plantedRate}, Seed: 1},
				of, []string{stream}, nil, func(done, total int) {
					if done*4/total > last {
						last = done * 4 / total
						r.say("attacks on %s, reference %v: %d of %d", k.name, with, done, total)
					}
				})
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			how := "none"
			if with {
				how = strconv.Itoa(result.ReferenceRows)
			}
			quiet = append(quiet, fmt.Sprintf("| %s | %s | %s | %s |", k.name, how, percent(value(result.Clean.QuarantinedRate)), percent(value(result.Clean.InSegments))))
			for _, a := range result.Attacks {
				name := a.Name + " " + a.Variant
				recall := value(a.RecallAtFPR1Pct)
				best, high := "–", 0.0
				for _, d := range a.Detectors {
					if at := value(d.RecallAtFPR1Pct); at > high {
						best, high = fmt.Sprintf("`%s` %.2f", d.Name, at), at
					}
				}
				after := "never"
				if a.FirstCaughtAfter != nil {
					after = strconv.Itoa(*a.FirstCaughtAfter)
				}
				caught := fmt.Sprintf("%d of %d", a.Caught, a.Planted)
				if a.Recalled > 0 {
					caught += fmt.Sprintf(", %d recalled", a.Recalled)
				}
				if a.Neutralised != nil {
					caught += fmt.Sprintf(", %d neutralised", *a.Neutralised)
				}
				fmt.Fprintf(b, "| %s | %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", name, k.name, a.Planted, how, show(recall, 2), show(value(a.AUROC), 3),
					caught, percent(value(a.CleanQuarantinedRate)), after, best)
				if with {
					if !slices.Contains(order, name) {
						order = append(order, name)
					}
					c := cell{k.name, show(recall, 2)}
					if recall >= found {
						reached[name] = append(reached[name], c)
					} else {
						short[name] = append(short[name], c)
					}
				}
			}
			if with {
				for _, n := range result.NotRun {
					if n.Rate > 0 { // the roles would allow it
						impossible = append(impossible, fmt.Sprintf("%s %s in %s: %s", n.Name, n.Variant, k.name, n.Why))
					}
				}
			}
		}
	}
	fmt.Fprintf(b, "\nWith nothing planted, of clean records quarantined:\n\n| in | reference | in one segment | in ten, with memory |\n|---|---|---|---|\n%s\n",
		strings.Join(quiet, "\n"))
	fmt.Fprintf(b, "\nWith a reference, recall at 1 %% false alarms of %g or more:\n\n| attack | reached on | short of it on |\n|---|---|---|\n", found)
	list := func(cells []cell) string {
		var out []string
		for _, c := range cells {
			out = append(out, c.kind+" ("+c.recall+")")
		}
		if out == nil {
			return "–"
		}
		return strings.Join(out, ", ")
	}
	for _, name := range order {
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, list(reached[name]), list(short[name]))
	}
	if impossible != nil {
		fmt.Fprintf(b, "\nNot run: %s.\n", strings.Join(impossible, "; "))
	}
	return nil
}

func value(f *float64) float64 {
	if f == nil {
		return math.NaN()
	}
	return *f
}

func save(path string, records [][]byte, rows []int) error {
	var b bytes.Buffer
	for _, i := range rows {
		b.Write(records[i])
		b.WriteByte('\n')
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// simulations makes the clean data.
func (r *run) simulations(ctx context.Context) ([]simulated, error) {
	var out []simulated
	add := func(name, what string, k kind, records [][]byte) error {
		c, err := r.contract(name, k)
		out = append(out, simulated{name: name, what: what, contract: c, records: records, only: attack.All, most: r.rows})
		return err
	}
	cleanOf := func(file string, k kind, truth string) ([][]byte, error) {
		s, err := r.load(ctx, file, k, truth)
		if err != nil {
			return nil, err
		}
		var records [][]byte
		for _, i := range s.rows(false) {
			records = append(records, s.records[i])
		}
		return records, nil
	}
	reviews, err := cleanOf("text-backdoor/badnets-sst2.jsonl", labelledTexts, "poison")
	if err != nil {
		return nil, err
	}
	market := history(3, referenceRows+r.rows)
	embedded, err := cleanOf("text-backdoor/style-sst2-5pct.minilm.parquet", embeddedTexts, "poison")
	if err != nil {
		return nil, err
	}
	if embedded, err = trained(embedded); err != nil {
		return nil, err
	}
	traffic, err := r.lines("events/flights.jsonl")
	if err != nil {
		return nil, err
	}
	images, err := cleanOf("embedding-anomaly/cifar10_0-resnet18.jsonl.gz", vectors, "anomaly")
	if err != nil {
		return nil, err
	}
	digits, err := cleanOf("tabular-anomaly/pendigits.jsonl.gz", numbers, "anomaly")
	if err != nil {
		return nil, err
	}
	shop := kind{roles: "{id: /id, provider: /seller, text: [/title, /body], label: /label, features: [/price, /helpful_votes]}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},` + seller + `,"title":{"type":"string"},"body":{"type":"string"},` +
			`"label":{"enum":["positive","negative"]},"price":{"type":"number"},"helpful_votes":{"type":"integer"}}}`}
	films := kind{roles: "{id: /id, provider: /seller, text: [/text], label: /label}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},` + seller + `,"text":{"type":"string"},"label":{"type":"string"}}}`}
	// What is learned from a portion of a long segment must find what shorter ones show.
	crowded, err := attack.Find([]string{"badnets", "insertsent", "syntactic", "cleanlabel", "neardup", "drip"})
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		add("reviews", "film reviews (sst2) with their label and a provider drawn at random", films, sold(reviews)),
		add("market", "generated reviews of a shop with label, numbers and provider (`taster demo`)", shop, market),
		add("vectors", "the film reviews' embeddings (MiniLM) with label, a provider drawn at random, and the gradient of a logistic regression",
			kind{roles: "{id: /id, provider: /seller, label: /label, embedding: /embedding, gradient: /gradient}",
				schema: `{"type":"object","properties":{"id":{"type":"string"},` + seller + `,"label":{"type":"string"},"embedding":` + vector + `,"gradient":` + vector + `}}`},
			sold(embedded)),
		add("images", "embeddings of pictures of one class (cifar10, ResNet-18) with a provider drawn at random",
			kind{roles: "{id: /id, provider: /seller, embedding: /embedding}",
				schema: `{"type":"object","properties":{"id":{"type":"string"},` + seller + `,"embedding":` + vector + `}}`}, sold(images)),
		add("flights", "delays and distances, by airport", flights, traffic),
		add("digits", "16 numbers of handwritten digits (pendigits) with a provider drawn at random",
			kind{roles: "{id: /id, provider: /seller, features: [/x]}",
				schema: `{"type":"object","properties":{"id":{"type":"string"},` + seller + `,"x":` + vector + `}}`}, sold(digits)),
		add("long market", "more of the shop's reviews", shop, history(4, referenceRows+longRows)),
	)
	if err != nil {
		return nil, err
	}
	long := &out[len(out)-1]
	long.only, long.most = crowded, longRows
	// What hidden characters come to is a matter of the contract first.
	hidden, err := attack.Find([]string{"unicode"})
	if err != nil {
		return nil, err
	}
	films.more, shop.more = "sanitize: {unicode: quarantine}\n", "sanitize: {unicode: quarantine}\n"
	err = errors.Join(
		add("strict reviews", "the film reviews under a contract with `unicode: quarantine`", films, sold(reviews)),
		add("strict market", "the shop's under one", shop, market),
	)
	for i := range out[len(out)-2:] {
		out[len(out)-2+i].only = hidden
	}
	return out, err
}

const seller = `"seller":{"type":"string"}`

// history is n clean reviews of the demo's shop.
func history(seed uint64, n int) [][]byte {
	records := make([][]byte, 0, n)
	for record := range demo.History(seed, n) {
		records = append(records, record.Value)
	}
	return records
}

// sold gives records a provider, at random among 200.
func sold(records [][]byte) [][]byte {
	rng := rand.New(rand.NewPCG(8, 1))
	out := make([][]byte, len(records))
	for i, r := range records {
		out[i] = append(fmt.Appendf(nil, `{"seller":"s-%04d",`, rng.IntN(200)), bytes.TrimLeft(r, " {")...)
	}
	return out
}

// trained gives embedded and labelled records the gradient that a logistic regression, which has seen them once, has at
// each.
func trained(records [][]byte) ([][]byte, error) {
	type row struct {
		ID        string    `json:"id"`
		Label     string    `json:"label"`
		Embedding []float32 `json:"embedding"`
		Gradient  []float32 `json:"gradient"`
	}
	rows := make([]row, len(records))
	var weights []float64
	residual := func(r *row) float64 {
		z, y := 0.0, 0.0
		for j, x := range r.Embedding {
			z += weights[j] * float64(x)
		}
		if r.Label == "1" {
			y = 1
		}
		return 1/(1+math.Exp(-z)) - y
	}
	for i, record := range records {
		if err := json.Unmarshal(record, &rows[i]); err != nil {
			return nil, err
		}
		if weights == nil {
			weights = make([]float64, len(rows[i].Embedding))
		}
		step := 2 * residual(&rows[i])
		for j, x := range rows[i].Embedding {
			weights[j] -= step * float64(x)
		}
	}
	out := make([][]byte, len(rows))
	for i := range rows {
		r := &rows[i]
		scale := residual(r)
		for _, x := range r.Embedding {
			r.Gradient = append(r.Gradient, float32(scale*float64(x)))
		}
		var err error
		if out[i], err = json.Marshal(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tasterhq/taster/cmd/internal/evaluate"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
)

// kind says how the records of a set are read: their schema, and which field plays which part.
type kind struct {
	roles, schema string
	more          string // lines of the contract
}

const (
	vector = `{"type":"array","items":{"type":"number"}}`
	truth  = `"poison":{"type":"integer"},"anomaly":{"type":"integer"}` // for reading files; cut out before judging
)

var (
	labelledTexts = kind{roles: "{id: /id, text: [/text], label: /label}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},"text":{"type":"string"},"label":{"type":"string"},` + truth + `}}`}
	embeddedTexts = kind{roles: "{id: /id, text: [/text], label: /label, embedding: /embedding}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},"text":{"type":"string"},"label":{"type":"string"},"embedding":` + vector + `,` + truth + `}}`}
	numbers = kind{roles: "{id: /id, features: [/x]}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},"x":` + vector + `,` + truth + `}}`}
	vectors = kind{roles: "{id: /id, embedding: /embedding}",
		schema: `{"type":"object","properties":{"id":{"type":"string"},"embedding":` + vector + `,` + truth + `}}`}
	flights = kind{roles: "{provider: /origin, features: [/delay, /distance]}",
		schema: `{"type":"object","properties":{"date":{"type":"string"},"delay":{"type":"integer"},"distance":{"type":"integer"},"origin":{"type":"string"},"destination":{"type":"string"}}}`}
	tweets = kind{roles: "{text: [/text]}", schema: `{"type":"object","properties":{"text":{"type":"string"}}}`}
)

// set is records whose truth is known, at truth if there is any poison.
type set struct {
	name     string
	contract *contract.Contract
	truth    string
	records  [][]byte
	poison   []bool
}

// contract makes a contract.
func (r *run) contract(name string, k kind) (*contract.Contract, error) {
	name = strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(name)
	folder, err := os.MkdirTemp(r.scratch, name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "contract.yaml")
	text := "topic: " + name + "\nowner: evaluation\nclassification: public\nschema: schema.json\nroles: " + k.roles + "\n" + k.more
	if err := errors.Join(os.WriteFile(filepath.Join(folder, "schema.json"), []byte(k.schema), 0o600),
		os.WriteFile(path, []byte(text), 0o600)); err != nil {
		return nil, err
	}
	c, faults := contract.Load(path)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return c, nil
}

// load reads a set. truth is the name of the member that tells poison, or "".
func (r *run) load(ctx context.Context, name string, k kind, truth string) (*set, error) {
	c, err := r.contract(filepath.Base(name), k)
	if err != nil {
		return nil, err
	}
	base, _, _ := strings.Cut(filepath.Base(name), ".jsonl")
	s := &set{name: strings.TrimSuffix(base, ".parquet"), contract: c, truth: "/" + truth}
	f, err := files.Open(ctx, filepath.Join(r.data, name), c, files.Access{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for {
		item, err := f.Next()
		if errors.Is(err, files.ErrEnd) {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		value := slices.Clone(item.Message.Value)
		poison := false
		if truth != "" {
			var found bool
			if poison, found = evaluate.Truth(value, s.truth); !found {
				return nil, fmt.Errorf("%s: record %d has no %s", name, len(s.records), s.truth)
			}
		}
		s.records, s.poison = append(s.records, value), append(s.poison, poison)
	}
}

// some yields records by number; those of a set without truth are given one.
func (s *set) some(rows []int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, i := range rows {
			r := s.records[i]
			if s.truth == "/" {
				r = append([]byte(`{"`+untold+`":0,`), strings.TrimLeft(string(r), " {")...)
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// untold is the truth's name in sets that have none: all of their records count as clean.
const untold = "evaluation_truth"

func (s *set) all() []int {
	out := make([]int, len(s.records))
	for i := range out {
		out[i] = i
	}
	return out
}

// rows returns the clean rows, or the others.
func (s *set) rows(poison bool) []int {
	var out []int
	for i, p := range s.poison {
		if p == poison {
			out = append(out, i)
		}
	}
	return out
}

// split draws a reference of m clean rows; the stream is all others.
func (s *set) split(m int, seed uint64) (reference, stream []int) {
	for _, i := range rand.New(rand.NewPCG(seed, 77)).Perm(len(s.records)) {
		if len(reference) < m && !s.poison[i] {
			reference = append(reference, i)
		} else {
			stream = append(stream, i)
		}
	}
	slices.Sort(reference)
	slices.Sort(stream)
	return reference, stream
}

// judge judges rows against a reference, nil for none.
func (s *set) judge(ctx context.Context, rows, reference []int, seed uint64) (*evaluate.Judged, error) {
	opt := evaluate.Options{Contract: s.contract, Truth: s.truth, Records: s.some(rows), Seed: seed}
	if s.truth == "/" {
		opt.Truth = "/" + untold
	}
	if reference != nil {
		opt.Reference = s.some(reference)
	}
	return evaluate.Judge(ctx, opt)
}

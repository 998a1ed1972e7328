package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/consistency"
	"github.com/tasterhq/taster/detect/gradient"
	"github.com/tasterhq/taster/detect/loss"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/detect/reference"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// segment lays a sample out as records, by the roles of a contract.
func segment(t *testing.T, s *detect.Sample) (*contract.Contract, *record.Segment) {
	t.Helper()
	c := &contract.Contract{Path: "t.yaml", Topic: "t"}
	var fields []arrow.Field
	var columns []arrow.Array
	add := func(role *string, name string, column arrow.Array) {
		*role = "/" + name
		fields = append(fields, arrow.Field{Name: name, Type: column.DataType(), Nullable: true})
		columns = append(columns, column)
	}
	vectors := func(values []float32, width int) arrow.Array {
		b := array.NewListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Float32)
		for i := range s.N {
			b.Append(true)
			b.ValueBuilder().(*array.Float32Builder).AppendValues(values[i*width:(i+1)*width], nil)
		}
		return b.NewArray()
	}
	if s.Label != nil {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		for _, l := range s.Label {
			b.Append(s.Classes[l])
		}
		add(&c.Roles.Label, "label", b.NewArray())
	}
	if s.Embedding != nil {
		add(&c.Roles.Embedding, "embedding", vectors(s.Embedding, s.Dim))
	}
	if s.Probabilities != nil {
		add(&c.Roles.Probabilities, "probabilities", vectors(s.Probabilities, s.Outcomes))
	}
	if s.Gradient != nil {
		add(&c.Roles.Gradient, "gradient", vectors(s.Gradient, s.GradientDim))
	}
	if s.Loss != nil {
		b := array.NewFloat64Builder(memory.DefaultAllocator)
		b.AppendValues(s.Loss, nil)
		add(&c.Roles.Loss, "loss", b.NewArray())
	}
	batch := &record.Batch{Origins: make([]record.Origin, s.N), Providers: make([]string, s.N)}
	if s.Provider != nil {
		c.Roles.Provider = contract.Provider{Key: true}
		for i, p := range s.Provider {
			batch.Providers[i] = s.Providers[p]
		}
	}
	batch.Records = array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, int64(s.N))
	return c, &record.Segment{Batches: []*record.Batch{batch}}
}

// honest returns n rows of a fair model's traffic: classes of the given shares, heavy-tailed losses, and providers each of
// which has something of its own. A seed is a day; the world is always the same.
func honest(n int, shares []float64, seed uint64) *detect.Sample {
	const dim, providers = 12, 8
	rng := rand.New(rand.NewPCG(seed, 0xda7))
	world := rand.New(rand.NewPCG(4, 4))
	width := len(shares)
	centre, lead, lean := make([]float64, width*dim), make([]float64, width*dim), make([]float64, providers*dim)
	for i := range centre {
		centre[i], lead[i] = 1.5*world.NormFloat64(), world.NormFloat64()
	}
	for i := range lean {
		lean[i] = 0.3 * world.NormFloat64()
	}
	s := &detect.Sample{N: n, Dim: dim, GradientDim: dim, Outcomes: width}
	for k := range width {
		s.Classes = append(s.Classes, fmt.Sprint(k)) // the index of its probability
	}
	for p := range providers {
		s.Providers = append(s.Providers, fmt.Sprint("provider ", p))
	}
	for range n {
		k, u := 0, rng.Float64()
		for ; k < width-1 && u >= shares[k]; k++ {
			u -= shares[k]
		}
		p := rng.IntN(providers)
		s.Label, s.Provider = append(s.Label, int32(k)), append(s.Provider, int32(p))
		hard := math.Exp(rng.NormFloat64()) // how hard a row is, for the model and for its neighbours
		odds, sum := make([]float64, width), 0.0
		for j := range odds {
			odds[j] = math.Exp(2 * hard * rng.NormFloat64())
			if j == k {
				odds[j] *= math.Exp(4)
			}
			sum += odds[j]
		}
		for _, v := range odds {
			s.Probabilities = append(s.Probabilities, float32(v/sum))
		}
		s.Loss = append(s.Loss, -math.Log(odds[k]/sum)*(1+hard))
		for j := range dim {
			s.Embedding = append(s.Embedding, float32(centre[k*dim+j]+math.Sqrt(hard)*rng.NormFloat64()))
			s.Gradient = append(s.Gradient, float32(hard*(lead[k*dim+j]+lean[p*dim+j]+rng.NormFloat64())))
		}
	}
	return s
}

// only returns s with its labels and the roles that keep names.
func only(s *detect.Sample, keep string) *detect.Sample {
	out := &detect.Sample{N: s.N, Label: s.Label, Classes: s.Classes}
	switch keep {
	case "embedding":
		out.Embedding, out.Dim = s.Embedding, s.Dim
	case "probabilities":
		out.Probabilities, out.Outcomes = s.Probabilities, s.Outcomes
	case "loss":
		out.Loss = s.Loss
	case "gradient":
		out.Gradient, out.GradientDim, out.Provider, out.Providers = s.Gradient, s.GradientDim, s.Provider, s.Providers
	}
	return out
}

// The budget holds on honest traffic of every role that a model's side can give, whatever its shape, within three
// standard errors.
func TestBudgetHoldsOnRolesOfAModel(t *testing.T) {
	even, rare := []float64{0.5, 0.5}, []float64{0.99, 0.01}
	many := make([]float64, 30)
	for k := range many {
		many[k] = 1 / float64(len(many))
	}
	type kind struct {
		name string
		make func(n int, seed uint64) *detect.Sample
		n, m int // rows of the stream and of the reference
	}
	var kinds []kind
	for _, role := range []string{"embedding", "probabilities", "loss", "gradient"} {
		for _, c := range []struct {
			name   string
			shares []float64
			m      int // enough to know the rare class by
		}{{"even", even, 600}, {"rare class", rare, 1000}, {"thirty classes", many, 600}} {
			kinds = append(kinds, kind{role + ", " + c.name, func(n int, seed uint64) *detect.Sample {
				return only(honest(n, c.shares, seed), role)
			}, 800, c.m})
		}
	}
	kinds = append(kinds,
		kind{"all roles", func(n int, seed uint64) *detect.Sample { return honest(n, even, seed) }, 800, 600},
		kind{"few rows", func(n int, seed uint64) *detect.Sample { return honest(n, even, seed) }, 90, 600},
		kind{"losses of a heavy tail", func(n int, seed uint64) *detect.Sample {
			s, rng := only(honest(n, even, seed), ""), rand.New(rand.NewPCG(seed, 1))
			for range n {
				s.Loss = append(s.Loss, math.Pow(rng.Float64(), -0.8)) // no mean
			}
			return s
		}, 800, 600},
		kind{"losses that are mostly nothing", func(n int, seed uint64) *detect.Sample {
			s, rng := only(honest(n, even, seed), ""), rand.New(rand.NewPCG(seed, 1))
			for range n {
				s.Loss = append(s.Loss, max(0, rng.NormFloat64()-1))
			}
			return s
		}, 800, 600},
		kind{"losses of a density", func(n int, seed uint64) *detect.Sample {
			s, rng := only(honest(n, even, seed), ""), rand.New(rand.NewPCG(seed, 1))
			for range n {
				s.Loss = append(s.Loss, -3+rng.NormFloat64()*rng.ExpFloat64())
			}
			s.Label, s.Classes = nil, nil
			return s
		}, 800, 600},
		kind{"gradients of new providers", func(n int, seed uint64) *detect.Sample {
			s := only(honest(n, even, seed), "gradient")
			for p := range s.Providers {
				s.Providers[p] += fmt.Sprint(" as of ", seed)
			}
			return s
		}, 800, 600},
		kind{"gradients without providers or labels", func(n int, seed uint64) *detect.Sample {
			s := only(honest(n, even, seed), "gradient")
			s.Label, s.Classes, s.Provider, s.Providers = nil, nil, nil, nil
			return s
		}, 800, 600},
	)
	detectors := []detect.Detector{consistency.Detector{}, loss.Detector{}, gradient.Detector{}, gradient.Similarity{}}
	const draws = 3
	budgets := [...]float64{0.01, 0.05}
	for _, k := range kinds {
		for _, m := range []int{0, k.m} {
			var flagged [len(budgets)]float64
			ran := 0
			for draw := range uint64(draws) {
				c, seg := segment(t, k.make(k.n, 100+draw))
				c.Detect.Budget = budgets[0]
				var ref *reference.Reference
				if m > 0 {
					var err error
					if ref, err = reference.New(reference.Header{Topic: "t"}, k.make(m, 1+draw)); err != nil {
						t.Fatal(err)
					}
				}
				scorer, err := policy.New(c, ref, policy.Options{Detectors: detectors, Seed: 1, Workers: 2})
				if err != nil {
					t.Fatal(err)
				}
				d, err := scorer.Score(t.Context(), seg, record.Memory{})
				if err != nil {
					t.Fatal(err)
				}
				ran += len(d.Detectors)
				for i, v := range d.Verdicts {
					if v == finding.Quarantined {
						flagged[0] += 1 / float64(draws*k.n)
					}
					if d.Risks[i] >= 1-budgets[1] { // what another budget would have covered
						flagged[1] += 1 / float64(draws*k.n)
					}
				}
			}
			if ran == 0 {
				t.Errorf("%s, %d reference rows: no detector ran", k.name, m)
			}
			calibrated := m
			if m == 0 {
				calibrated = k.n
			}
			for b, budget := range budgets {
				error := math.Sqrt(budget * (1 - budget) * (1/float64(k.n) + 1/float64(calibrated)) / draws)
				t.Logf("%s, %d reference rows, budget %.0f %%: %.2f %% quarantined (standard error %.2f)", k.name, m, 100*budget, 100*flagged[b], 100*error)
				if flagged[b] > budget+3*error {
					t.Errorf("%s, %d reference rows: %.2f %% of clean rows quarantined at a budget of %.0f %%", k.name, m, 100*flagged[b], 100*budget)
				}
			}
		}
	}
}

// fair gives the rows of s the probabilities and losses of a model that is seldom wrong and knows when.
func fair(s *detect.Sample, seed uint64) *detect.Sample {
	rng := rand.New(rand.NewPCG(seed, 0xfa12))
	for row, label := range s.Label {
		own := 1 / (1 + math.Exp(-4-1.2*rng.NormFloat64()))
		s.Loss[row] = -math.Log(own)
		s.Probabilities[2*row+int(label)], s.Probabilities[2*row+1-int(label)] = float32(own), float32(1-own)
	}
	return s
}

// One per cent of poison among honest traffic is quarantined at the default budget, by what a model's side gives of it.
func TestPoisonOnRolesOfAModelIsQuarantined(t *testing.T) {
	even := []float64{0.5, 0.5}
	bad := func(row int) bool { return row%100 == 7 }
	flip := func(s *detect.Sample) {
		for row := range s.N {
			if bad(row) {
				s.Label[row] = 1 - s.Label[row]
			}
		}
	}
	for _, c := range []struct {
		name, role string
		code       finding.Code
		plant      func(s *detect.Sample)
		want       float64
	}{
		{"flipped labels, by embeddings", "embedding", finding.PoisonLabel, flip, 0.9},
		{"flipped labels, by probabilities", "probabilities", finding.PoisonLabel, flip, 0.9},
		{"flipped labels, by losses", "loss", finding.PoisonLoss, func(s *detect.Sample) {
			flip(s)
			for row := range s.N {
				if bad(row) {
					s.Loss[row] = -math.Log(-math.Expm1(-s.Loss[row]))
				}
			}
		}, 0.9},
		{"gradients turned round", "gradient", finding.PoisonGradient, func(s *detect.Sample) {
			for i := range s.Gradient {
				if bad(i / s.GradientDim) {
					s.Gradient[i] *= -1
				}
			}
		}, 0.8},
		{"sybils", "gradient", finding.PoisonGradient, func(s *detect.Sample) {
			rng := rand.New(rand.NewPCG(3, 3))
			target := make([]float64, s.GradientDim)
			for i := range target {
				target[i] = 3 * rng.NormFloat64()
			}
			for row := range s.N {
				if !bad(row) {
					continue
				}
				s.Provider[row] = int32(len(s.Providers))
				s.Providers = append(s.Providers, fmt.Sprint("sybil ", row))
				for i, v := range target {
					s.Gradient[row*s.GradientDim+i] = float32(v + rng.NormFloat64())
				}
			}
		}, 0.6}, // in twelve dimensions twenty directions are soon alike by chance
	} {
		for _, m := range []int{0, 1000} {
			const n = 2000
			s := fair(honest(n, even, 100), 100)
			c.plant(s)
			k, seg := segment(t, only(s, c.role))
			k.Detect.Budget = 0.01
			var ref *reference.Reference
			if m > 0 {
				var err error
				if ref, err = reference.New(reference.Header{Topic: "t"}, only(fair(honest(m, even, 1), 1), c.role)); err != nil {
					t.Fatal(err)
				}
			}
			detectors := []detect.Detector{consistency.Detector{}, loss.Detector{}, gradient.Detector{}, gradient.Similarity{}}
			scorer, err := policy.New(k, ref, policy.Options{Detectors: detectors, Seed: 1, Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			d, err := scorer.Score(t.Context(), seg, record.Memory{})
			if err != nil {
				t.Fatal(err)
			}
			hits, told, alarms := 0.0, 0.0, 0.0
			for row, v := range d.Verdicts {
				switch {
				case v != finding.Quarantined:
				case !bad(row):
					alarms += 1 / (0.99 * n)
				default:
					hits += 1 / (0.01 * n)
					if slices.ContainsFunc(d.Findings[row], func(f finding.Finding) bool { return f.Code == c.code }) {
						told += 1 / (0.01 * n)
					}
				}
			}
			t.Logf("%s, %d reference rows: %.2f quarantined, %.2f as %s; of honest rows %.4f", c.name, m, hits, told, c.code, alarms)
			if hits < c.want || told < 0.9*hits || alarms > 0.02 {
				t.Errorf("%s, %d reference rows: %.2f quarantined, want %.2f, %.2f as %s; of honest rows %.4f", c.name, m, hits, c.want, told, c.code, alarms)
			}
		}
	}
}

package bench

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/demo"
)

// historyRows is what a reference is made from; a run with few RECORDS, which is only to see that all works, has less.
func historyRows() int {
	if n, err := strconv.Atoi(os.Getenv("RECORDS")); err == nil {
		return max(2_000, min(n/10, 10_000))
	}
	return 10_000
}

// workload is a folder with a configuration, a contract, a reference, and records both in a file and in a topic.
type workload struct {
	topic   string
	config  string // path of taster.yaml
	landing string // the landing zone with the reference
	schema  string
	file    string
	records int
	bytes   int64
}

// kind is a form of records. Its records are clean, so that the straight program does the same work on each.
type kind struct {
	topic   string
	records int // of a whole run, unless RECORDS says otherwise
	share   int // of RECORDS: one in so many
	write   func(folder string) error
	make    func(seed uint64, n int) iter.Seq[[]byte]
}

var kinds = []kind{
	{"reviews", 300_000, 1, func(string) error { return nil }, reviews},
	{"vectors", 30_000, 10, writeVectorContract, vectors},
}

// reviews are the demo's records of about 400 bytes.
func reviews(seed uint64, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for r := range demo.History(seed, n) {
			if !yield(r.Value) {
				return
			}
		}
	}
}

const vectorSchema = `{"type":"object","additionalProperties":false,"required":["id","text","label","embedding"],"properties":{
"id":{"type":"string"},"text":{"type":"string","maxLength":10000},"label":{"enum":["positive","negative"]},
"embedding":{"type":"array","items":{"type":"number"},"minItems":384,"maxItems":384}}}`

const vectorContract = `topic: vectors
owner: bench
classification: internal
schema: vectors.schema.json
roles: {id: /id, text: [/text], label: /label, embedding: /embedding}
detect:
  budget: 0.005
`

func writeVectorContract(folder string) error {
	if err := os.Remove(filepath.Join(folder, "reviews.yaml")); err != nil {
		return err
	}
	for name, text := range map[string]string{"vectors.yaml": vectorContract, "vectors.schema.json": vectorSchema} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// vectors are records of about 4 KB: a short text, and an embedding of 384 floats with all their digits.
func vectors(seed uint64, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := rand.New(rand.NewPCG(seed, 9))
		var digits [1 << 16][]byte // to print every float anew would take longer than what is measured
		for i := range digits {
			digits[i] = strconv.AppendFloat(nil, float64(float32(r.NormFloat64()*0.05)), 'g', -1, 32)
		}
		labels := []string{"positive", "negative"}
		i := 0
		for review := range demo.History(seed, n) {
			v := append(make([]byte, 0, 6<<10), `{"id":"v`...)
			v = strconv.AppendInt(v, int64(i), 10)
			v = append(v, `","text":`...)
			v = append(v, bodyOf(review.Value)...)
			v = append(v, `,"label":"`...)
			v = append(v, labels[i%2]...)
			v = append(v, `","embedding":[`...)
			for d := range 384 {
				if d > 0 {
					v = append(v, ',')
				}
				v = append(v, digits[r.Uint32()%uint32(len(digits))]...)
			}
			i++
			if !yield(append(v, `]}`...)) {
				return
			}
		}
	}
}

// bodyOf cuts the quoted body out of a review.
func bodyOf(value []byte) []byte {
	const name = `"body":`
	for i := range value {
		if string(value[i:min(i+len(name), len(value))]) == name {
			rest := value[i+len(name):]
			for j := 1; j < len(rest); j++ {
				if rest[j] == '"' {
					return rest[:j+1]
				}
			}
		}
	}
	return []byte(`""`)
}

// configure writes the configuration of a workload, with a reference, into a folder of its own.
func (k kind) configure(b *testing.B, brokers ...string) workload {
	b.Helper()
	folder := b.TempDir()
	w := workload{topic: k.topic, landing: filepath.Join(folder, "landing")}
	var err error
	if w.config, err = demo.WriteConfig(folder, w.landing, brokers); err != nil {
		b.Fatal(err)
	}
	contracts := filepath.Join(folder, "contracts")
	w.schema = filepath.Join(contracts, k.topic+".schema.json")
	if err := k.write(contracts); err != nil {
		b.Fatal(err)
	}
	history := filepath.Join(folder, "history.jsonl")
	if _, err := writeLines(history, k.make(2, historyRows())); err != nil {
		b.Fatal(err)
	}
	if err := fit(b.Context(), w.config, k.topic, history, filepath.Join(contracts, k.topic+".yaml")); err != nil {
		b.Fatal(err)
	}
	return w
}

// prepare makes a workload of n records, with an embedded broker that is there until the benchmark ends.
func (k kind) prepare(b *testing.B, n int) workload {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, k.topic), kfake.SeedTopics(1, "taster.verdicts", "taster.dead-letters"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Close)
	w := k.configure(b, cluster.ListenAddrs()...)
	w.records, w.file = n, filepath.Join(filepath.Dir(w.config), "records.jsonl")
	if w.bytes, err = writeLines(w.file, k.make(3, n)); err != nil {
		b.Fatal(err)
	}
	if err := publish(b.Context(), cluster.ListenAddrs(), k.topic, k.make(3, n)); err != nil {
		b.Fatal(err)
	}
	return w
}

// partitions of a topic. One instance of taster has all of them.
const partitions = 2

// fit makes a reference and has the contract name it.
func fit(ctx context.Context, path, topic, history, contract string) error {
	loaded, faults := config.Load(path)
	if len(faults) > 0 {
		return faults[0]
	}
	a, err := app.Open(ctx, loaded, slog.New(slog.DiscardHandler), "bench fit")
	if err != nil {
		return err
	}
	c, err := a.Contract(topic)
	if err != nil {
		return err
	}
	if _, err := a.Fit(ctx, c, []string{history}, app.FitOptions{}, func(int64) {}); err != nil {
		return err
	}
	text, err := os.ReadFile(contract)
	if err != nil {
		return err
	}
	return os.WriteFile(contract, append(text, "  reference: "+topic+"@latest\n"...), 0o644)
}

func writeLines(path string, lines iter.Seq[[]byte]) (size int64, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	for line := range lines {
		n, _ := w.Write(line)
		_ = w.WriteByte('\n')
		size += int64(n) + 1
	}
	return size, w.Flush() // which returns the first error of all writes
}

func publish(ctx context.Context, brokers []string, topic string, values iter.Seq[[]byte]) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	i := 0
	for value := range values {
		client.Produce(ctx, &kgo.Record{Key: strconv.AppendInt(nil, int64(i), 10), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("publish: %w", err))
			}
		})
		i++
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// wanted is how many records a benchmark takes: a share of the environment variable RECORDS, or else fallback.
func wanted(b *testing.B, fallback, share int) int {
	text := os.Getenv("RECORDS")
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("RECORDS=%q: want a number of records", text)
	}
	return max(1000, n/share)
}

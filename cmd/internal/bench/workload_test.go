package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
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

// workload is a folder with a configuration, a contract and a reference, and, once prepared, records in a file.
type workload struct {
	topic   string
	config  string // path of taster.yaml
	landing string // the landing zone with the reference
	schema  string
	file    string
	records int
	bytes   int64
	brokers []string
}

// scratch is a folder for all workloads; TestMain removes it. A reference is learned once for all benchmarks.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "taster-bench-") })

// configured has the workloads that were configured, and prepared those that have a file of records.
var configured, prepared = map[string]workload{}, map[string]workload{}

// kind is a form of records. Its records are clean, so that the straight program does the same work on each.
type kind struct {
	topic   string
	records int // of a whole run, unless RECORDS says otherwise
	share   int // of RECORDS: one in so many
	write   func(folder string) error
	make    func(seed uint64, n int) iter.Seq[[]byte]
}

var kinds = []kind{
	{"reviews", 300_000, 1, writeReviewSchema, reviews},
	{"vectors", 30_000, 10, writeVectorContract, vectors},
}

// reviewSchema is the demo's without two fields, which makes records of 313 bytes, the size that the project's targets
// speak of. Texts, and with them what detection costs, are as they were.
const reviewSchema = `{"type":"object","additionalProperties":false,
"required":["id","seller","title","body","stars","price","label"],"properties":{
"id":{"type":"string","minLength":1,"maxLength":40},"seller":{"type":"string","pattern":"^seller-[0-9]{4}$"},
"title":{"type":"string","maxLength":120},"body":{"type":"string","maxLength":20000},"stars":{"type":"integer","minimum":1,"maximum":5},
"price":{"type":"number","exclusiveMinimum":0},"helpful_votes":{"type":"integer","minimum":0},"label":{"enum":["positive","negative"]}}}`

func writeReviewSchema(contracts string) error {
	return os.WriteFile(filepath.Join(contracts, "reviews.schema.json"), []byte(reviewSchema), 0o644)
}

// reviews are the demo's records without product and date.
func reviews(seed uint64, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for r := range demo.History(seed, n) {
			v := cut(cut(r.Value, `"product":`, `"title":`), `,"created_at":`, "")
			if !yield(append(v, '}')) {
				return
			}
		}
	}
}

// cut leaves out what stands from one text up to the next, both of which are there; up to the end for "".
func cut(value []byte, from, next string) []byte {
	at := bytes.Index(value, []byte(from))
	if next == "" {
		return value[:at]
	}
	return append(value[:at], value[at+bytes.Index(value[at:], []byte(next)):]...)
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

// vectors are records of 4.3 kB: a text, and an embedding of 384 floats of six digits.
func vectors(seed uint64, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := rand.New(rand.NewPCG(seed, 9))
		// To print every float anew would take longer than what is measured; and what publishes beside a run whose latency is
		// measured must not take the processor from it, so they lie close together.
		type printed struct {
			text [15]byte
			n    uint8
		}
		digits := make([]printed, 1<<16)
		for i := range digits {
			d := &digits[i]
			d.n = uint8(len(strconv.AppendFloat(d.text[:0], r.NormFloat64()*0.05, 'g', 6, 64)))
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
				one := &digits[r.Uint32()%uint32(len(digits))]
				v = append(v, one.text[:]...)[:len(v)+int(one.n)]
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
func (k kind) configure(b *testing.B) workload {
	b.Helper()
	if w, ok := configured[k.topic]; ok {
		return w
	}
	root, err := scratch()
	if err != nil {
		b.Fatal(err)
	}
	folder := filepath.Join(root, k.topic)
	w := workload{topic: k.topic, landing: filepath.Join(folder, "landing")}
	if w.config, err = demo.WriteConfig(folder, w.landing, []string{"127.0.0.1:1"}); err != nil {
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
	configured[k.topic] = w
	return w
}

// prepare makes a workload of n records in a file.
func (k kind) prepare(b *testing.B, n int) workload {
	b.Helper()
	if w := prepared[k.topic]; w.records == n {
		return w
	}
	w := k.configure(b)
	w.records, w.file = n, filepath.Join(filepath.Dir(w.config), "records.jsonl")
	var err error
	if w.bytes, err = writeLines(w.file, k.make(3, n)); err != nil {
		b.Fatal(err)
	}
	prepared[k.topic] = w
	return w
}

// broker runs an embedded broker with the topic until the benchmark ends. What it holds is in this process's memory,
// in pieces that go away once all of their records were deleted.
func (k kind) broker(b *testing.B) (brokers []string) {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, k.topic), kfake.SeedTopics(1, "taster.verdicts", "taster.dead-letters"),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": strconv.Itoa(16 << 20)}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
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

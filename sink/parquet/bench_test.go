package parquet

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

var reviews = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.BinaryTypes.String},
	{Name: "seller", Type: arrow.BinaryTypes.String},
	{Name: "title", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "body", Type: arrow.BinaryTypes.String},
	{Name: "stars", Type: arrow.PrimitiveTypes.Int64},
	{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "label", Type: arrow.BinaryTypes.String},
	{Name: "verified", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "created", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
}, nil)

// reviewSegment makes product reviews of about 313 bytes as JSON, in batches as ingest makes them.
func reviewSegment(rows, batch int) *record.Segment {
	rng := rand.New(rand.NewPCG(1, 2))
	vocabulary := make([]string, 6000)
	for i := range vocabulary {
		word := make([]byte, 3+rng.IntN(7))
		for j := range word {
			word[j] = byte('a' + rng.IntN(26))
		}
		vocabulary[i] = string(word)
	}
	zipf := rand.NewZipf(rng, 1.1, 3, uint64(len(vocabulary)-1))
	words := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(vocabulary[zipf.Uint64()])
			b.WriteByte(' ')
		}
		return b.String()
	}
	seg := &record.Segment{Source: record.Source{Topic: "reviews", ID: "AAAAAAAAQACAAAAAAAAAAQ"}, Opened: 1767225599999}
	for rows > 0 {
		n := min(rows, batch)
		rows -= n
		b := array.NewRecordBuilder(memory.DefaultAllocator, reviews)
		out := &record.Batch{Bytes: int64(n) * 313}
		for range n {
			seller := fmt.Sprintf("seller-%03d", rng.IntN(300))
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("review-%012d", seg.Next))
			b.Field(1).(*array.StringBuilder).Append(seller)
			b.Field(2).(*array.StringBuilder).Append(words(4))
			b.Field(3).(*array.StringBuilder).Append(words(22))
			b.Field(4).(*array.Int64Builder).Append(1 + rng.Int64N(5))
			b.Field(5).(*array.Float64Builder).Append(float64(rng.IntN(20000)) / 100)
			b.Field(6).(*array.StringBuilder).Append([]string{"positive", "negative", "neutral"}[rng.IntN(3)])
			b.Field(7).(*array.BooleanBuilder).Append(rng.IntN(2) == 0)
			b.Field(8).(*array.TimestampBuilder).Append(arrow.Timestamp(1767225600000000 + seg.Next*1000))
			out.Origins = append(out.Origins, record.Origin{Offset: seg.Next, Timestamp: 1767225600000 + seg.Next/3})
			out.Providers = append(out.Providers, seller)
			out.Classifications = append(out.Classifications, record.Internal)
			seg.Next++
		}
		out.Records = b.NewRecordBatch()
		b.Release()
		seg.Batches = append(seg.Batches, out)
	}
	return seg
}

// BenchmarkWrite writes a segment of reviews of which one in two hundred is quarantined.
func BenchmarkWrite(b *testing.B) {
	const n = 100_000
	seg := reviewSegment(n, 4096)
	defer seg.Release()
	for _, quarantined := range []int{0, 200} {
		b.Run(fmt.Sprintf("quarantined=1of%d", quarantined), func(b *testing.B) {
			dec := decide(seg, func(i int) bool { return quarantined > 0 && i%quarantined == 7 })
			keys := ring(b)
			count := &counter{}
			b.ReportAllocs()
			for b.Loop() {
				writeBoth(b, count, seg, dec, quarantined > 0, Options{Keys: keys})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
			b.ReportMetric(float64(count.n)/float64(b.N)/n, "file-B/row")
		})
	}
}

// vectorSegment makes records of a short text and 384 floats, whose last bits are noise as an embedding's are.
func vectorSegment(rows, batch int) *record.Segment {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "text", Type: arrow.BinaryTypes.String},
		{Name: "embedding", Type: arrow.ListOfNonNullable(arrow.PrimitiveTypes.Float32)},
	}, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	texts := reviewSegment(rows, rows)
	defer texts.Release()
	text := texts.Batches[0].Records.Column(3).(*array.String)
	seg := &record.Segment{Source: texts.Source, Opened: texts.Opened}
	for rows > 0 {
		n := min(rows, batch)
		rows -= n
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		out := &record.Batch{Bytes: int64(n) * 4300}
		lists := b.Field(1).(*array.ListBuilder)
		values := lists.ValueBuilder().(*array.Float32Builder)
		for range n {
			b.Field(0).(*array.StringBuilder).Append(text.Value(int(seg.Next)))
			lists.Append(true)
			for range 384 {
				values.Append(float32(rng.NormFloat64() * 0.05))
			}
			out.Origins = append(out.Origins, record.Origin{Offset: seg.Next, Timestamp: 1767225600000 + seg.Next/3})
			out.Providers = append(out.Providers, "")
			out.Classifications = append(out.Classifications, record.Internal)
			seg.Next++
		}
		out.Records = b.NewRecordBatch()
		b.Release()
		seg.Batches = append(seg.Batches, out)
	}
	return seg
}

// BenchmarkChoices writes the same rows with what is chosen and with what could be chosen in its place.
func BenchmarkChoices(b *testing.B) {
	const floats = "embedding.list.element"
	codec := func(c compress.Compression, level int) func([]pq.WriterProperty) []pq.WriterProperty {
		return func(props []pq.WriterProperty) []pq.WriterProperty {
			return append(props, pq.WithCompression(c), pq.WithCompressionLevel(level))
		}
	}
	with := func(more ...pq.WriterProperty) func([]pq.WriterProperty) []pq.WriterProperty {
		return func(props []pq.WriterProperty) []pq.WriterProperty { return append(props, more...) }
	}
	squeezed := pq.WithCompressionFor(floats, compress.Codecs.Zstd)
	for _, rows := range []struct {
		name    string
		segment *record.Segment
	}{{"reviews", reviewSegment(100_000, 4096)}, {"vectors", vectorSegment(20_000, 1024)}} {
		n := rows.segment.Rows()
		dec := decide(rows.segment, func(int) bool { return false })
		keys := ring(b)
		for _, choice := range []struct {
			name string
			only string // the rows that have such a column
			tune func([]pq.WriterProperty) []pq.WriterProperty
		}{
			{"chosen", "", nil},
			{"none", "", codec(compress.Codecs.Uncompressed, 0)},
			{"lz4", "", codec(compress.Codecs.Lz4Raw, 0)},
			{"snappy", "", codec(compress.Codecs.Snappy, 0)},
			{"zstd-3", "", codec(compress.Codecs.Zstd, 3)},
			{"zstd-7", "", codec(compress.Codecs.Zstd, 7)},
			{"pages-of-256KiB", "", with(pq.WithDataPageSize(256 << 10))},
			{"floats-zstd", "vectors", with(squeezed)},
		} {
			if choice.only != "" && choice.only != rows.name {
				continue
			}
			b.Run(rows.name+"/"+choice.name, func(b *testing.B) {
				count, start := &counter{}, processorTime(b)
				for b.Loop() {
					writeBoth(b, count, rows.segment, dec, false, Options{Keys: keys, tune: choice.tune})
				}
				b.ReportMetric(float64(processorTime(b)-start)/float64(b.N)/float64(n), "cpu-ns/row")
				b.ReportMetric(float64(count.n)/float64(b.N)/float64(n), "file-B/row")
			})
		}
		rows.segment.Release()
	}
}

// BenchmarkEncryption writes the same segment encrypted and plain in turn, so that both see the same weather, and
// prints the rate of the one by that of the other.
func BenchmarkEncryption(b *testing.B) {
	const n = 100_000
	seg := reviewSegment(n, 4096)
	defer seg.Release()
	dec := decide(seg, func(i int) bool { return i%200 == 7 })
	keys := ring(b)
	var took [2]time.Duration
	for b.Loop() {
		for i, plain := range []bool{false, true} {
			start := time.Now()
			writeBoth(b, &counter{}, seg, dec, true, Options{Keys: keys, plain: plain})
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/took[0].Seconds(), "encrypted-rows/s")
	b.ReportMetric(float64(n)*float64(b.N)/took[1].Seconds(), "plain-rows/s")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "encrypted/plain")
}

// BenchmarkDecryption reads the same rows from an encrypted and from a plain file in turn, and prints the rate of the one
// by that of the other.
func BenchmarkDecryption(b *testing.B) {
	const n = 100_000
	seg := reviewSegment(n, 4096)
	defer seg.Release()
	dec := decide(seg, func(int) bool { return false })
	keys := ring(b)
	var files [2][]byte
	for i, plain := range []bool{false, true} {
		var out bytes.Buffer
		if _, err := Write(ctx, &out, "accepted/x", seg, dec, finding.Accepted, Options{Keys: keys, plain: plain}); err != nil {
			b.Fatal(err)
		}
		files[i] = out.Bytes()
	}
	var took [2]time.Duration
	for b.Loop() {
		for i, data := range files {
			start := time.Now()
			r, err := Open(ctx, bytes.NewReader(data), int64(len(data)), "", keys)
			if err != nil {
				b.Fatal(err)
			}
			rows := int64(0)
			for batch, err := range r.Rows(ctx, nil) {
				if err != nil {
					b.Fatal(err)
				}
				rows += batch.NumRows()
			}
			if rows != n {
				b.Fatalf("%d rows", rows)
			}
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/took[0].Seconds(), "encrypted-rows/s")
	b.ReportMetric(float64(n)*float64(b.N)/took[1].Seconds(), "plain-rows/s")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "encrypted/plain")
}

// processorTime is what this process has used, which others on the machine disturb less than the clock.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func writeBoth(b *testing.B, out io.Writer, seg *record.Segment, dec *record.Decision, quarantined bool, opt Options) {
	for _, v := range []finding.Verdict{finding.Accepted, finding.Quarantined} {
		if v == finding.Quarantined && !quarantined {
			continue
		}
		if _, err := Write(ctx, out, "accepted/x", seg, dec, v, opt); err != nil {
			b.Fatal(err)
		}
	}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

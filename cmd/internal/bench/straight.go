// Package bench measures taster, stage by stage and as a whole, beside a straight program that does a small part of
// the same work the plain way. make bench runs it.
package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// Straight is what a good engineer writes in an afternoon: encoding/json, jsonschema/v5, an Arrow RecordBuilder, plain
// zstd Parquet; one worker and one file for each core. No limits, no detection, no encryption, no exactly-once, no audit.
func Straight(schemaPath string, columns *arrow.Schema, values [][]byte, folder string) (rows int, err error) {
	schema, err := jsonschema.Compile(schemaPath)
	if err != nil {
		return 0, err
	}
	workers := runtime.GOMAXPROCS(0)
	counts, errs := make([]int, workers), make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			part := values[len(values)*w/workers : len(values)*(w+1)/workers]
			counts[w], errs[w] = straightPart(schema, columns, part, fmt.Sprintf("%s/straight-%d.parquet", folder, w))
		})
	}
	group.Wait()
	for w := range workers {
		rows += counts[w]
		if errs[w] != nil {
			return rows, errs[w]
		}
	}
	return rows, nil
}

func straightPart(schema *jsonschema.Schema, columns *arrow.Schema, values [][]byte, path string) (int, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	writer, err := pqarrow.NewFileWriter(columns, file,
		parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(1)), pqarrow.DefaultWriterProps())
	if err != nil {
		return 0, err
	}
	builder := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer builder.Release()
	rows := 0
	flush := func() error {
		batch := builder.NewRecordBatch()
		defer batch.Release()
		return writer.WriteBuffered(batch)
	}
	for i, value := range values {
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.UseNumber()
		var record any
		if decoder.Decode(&record) != nil || schema.Validate(record) != nil {
			continue
		}
		fields, ok := record.(map[string]any)
		if !ok {
			continue
		}
		for c, field := range columns.Fields() {
			if err := appendAny(builder.Field(c), fields[field.Name]); err != nil {
				return rows, err
			}
		}
		rows++
		if i%8192 == 8191 {
			if err := flush(); err != nil {
				return rows, err
			}
		}
	}
	if err := flush(); err != nil {
		return rows, err
	}
	return rows, writer.Close()
}

// appendAny puts a value into a column: what the column's type has no place for is JSON text in a column of text, and null
// in others.
func appendAny(builder array.Builder, value any) error {
	switch b := builder.(type) {
	case *array.StringBuilder:
		switch s := value.(type) {
		case nil:
		case string:
			b.Append(s)
			return nil
		default:
			text, err := json.Marshal(s)
			b.Append(string(text))
			return err
		}
	case *array.Int64Builder:
		if n, ok := value.(json.Number); ok {
			i, err := n.Int64()
			b.Append(i)
			return err
		}
	case *array.Float64Builder:
		if n, ok := value.(json.Number); ok {
			f, err := n.Float64()
			b.Append(f)
			return err
		}
	case *array.Float32Builder:
		if n, ok := value.(json.Number); ok {
			f, err := n.Float64()
			b.Append(float32(f))
			return err
		}
	case *array.BooleanBuilder:
		if v, ok := value.(bool); ok {
			b.Append(v)
			return nil
		}
	case *array.StructBuilder:
		if fields, ok := value.(map[string]any); ok {
			b.Append(true)
			for i, field := range b.Type().(*arrow.StructType).Fields() {
				if err := appendAny(b.FieldBuilder(i), fields[field.Name]); err != nil {
					return err
				}
			}
			return nil
		}
	case *array.ListBuilder:
		if items, ok := value.([]any); ok {
			b.Append(true)
			for _, item := range items {
				if err := appendAny(b.ValueBuilder(), item); err != nil {
					return err
				}
			}
			return nil
		}
	}
	builder.AppendNull()
	return nil
}

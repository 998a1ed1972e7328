package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/tasterhq/taster/cmd/internal/config"
)

// BenchmarkStreams has Bento and Spark do what they can of the same job on the same file: decode, validate, zstd Parquet. They
// take turns with the straight program and taster backfill. make bench-streams says where they are; one that is not
// there is named.
func BenchmarkStreams(b *testing.B) {
	if os.Getenv("BENTO")+os.Getenv("SPARK") == "" {
		b.Skip("make bench-streams says where Bento and Spark are")
	}
	jobs := []struct {
		name string
		run  func(workload, *testing.B) (outcome, error)
	}{
		{whole[jobStraight], func(w workload, b *testing.B) (outcome, error) { return spawn(b, w.job(b, jobStraight)), nil }},
		{whole[jobBackfill], func(w workload, b *testing.B) (outcome, error) { return spawn(b, w.job(b, jobBackfill)), nil }},
		{"Bento", workload.bento},
		{"Spark", workload.spark},
	}
	for _, k := range kinds {
		b.Run(k.topic, func(b *testing.B) {
			w := k.prepare(b, wanted(b, k.records, k.share))
			sums := make([]line, len(jobs))
			for b.Loop() {
				for i, job := range jobs {
					sums[i].Kind, sums[i].Name = k.topic, job.name
					o, err := job.run(w, b)
					if err != nil {
						table.absent = append(table.absent, fmt.Sprintf("%s, %s: %v", job.name, k.topic, err))
						continue
					}
					sums[i].plus(w.records, w.bytes, o)
				}
			}
			for i := range sums {
				if sums[i].Records == 0 {
					continue
				}
				if i > 0 {
					sums[i].versus(sums[0])
				}
				sums[i].report(b, strings.ReplaceAll(sums[i].Name, " ", "-")+"-")
				table.add(sums[i])
			}
		})
	}
}

// bento runs Bento from its start to its end, some tens of milliseconds of which are neither. Batches of 5,000 records go
// to as many threads as there are cores, each of which makes a Parquet file of its batch; without a period the last would
// wait for ever.
func (w workload) bento(b *testing.B) (o outcome, err error) {
	columns, err := w.columns()
	if err != nil {
		return o, err
	}
	folder := b.TempDir()
	var c strings.Builder
	fmt.Fprintf(&c, "http: {enabled: false}\nlogger: {level: ERROR}\n")
	fmt.Fprintf(&c, "input:\n  broker:\n    inputs:\n      - file: {paths: [%q], scanner: {lines: {}}}\n    batching: {count: 5000, period: 1s}\n", w.file)
	fmt.Fprintf(&c, "pipeline:\n  threads: %d\n  processors:\n    - json_schema: {schema_path: %q}\n    - catch: [{mapping: root = deleted()}]\n",
		runtime.GOMAXPROCS(0), "file://"+filepath.ToSlash(w.schema))
	fmt.Fprintf(&c, "    - parquet_encode:\n        default_compression: zstd\n        schema:\n")
	for _, f := range columns.Fields() {
		name, repeated := "", f.Type.ID() == arrow.LIST
		switch {
		case repeated:
			name = "FLOAT"
		default:
			name = map[arrow.Type]string{arrow.STRING: "UTF8", arrow.INT64: "INT64", arrow.FLOAT64: "DOUBLE", arrow.BOOL: "BOOLEAN"}[f.Type.ID()]
		}
		fmt.Fprintf(&c, "          - {name: %s, type: %s, repeated: %t, optional: %t}\n", f.Name, name, repeated, f.Nullable && !repeated)
	}
	fmt.Fprintf(&c, "output:\n  file: {path: '%s/${!uuid_v4()}.parquet', codec: all-bytes}\n", filepath.ToSlash(folder))
	path := filepath.Join(folder, "bento.yaml")
	if err := os.WriteFile(path, []byte(c.String()), 0o644); err != nil {
		return o, err
	}
	var said bytes.Buffer
	child := exec.CommandContext(b.Context(), os.Getenv("BENTO"), "-c", path)
	child.Stdout, child.Stderr = &said, &said
	began := time.Now()
	if err := child.Start(); err != nil {
		return o, err
	}
	ended := make(chan struct{})
	go func() { // its memory, which is gone when it has ended
		for {
			if _, peak := residentOf(strconv.Itoa(child.Process.Pid)); peak > o.Peak {
				o.Peak = peak
			}
			select {
			case <-ended:
				ended <- struct{}{}
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	err = child.Wait()
	o.Wall = time.Since(began)
	ended <- struct{}{}
	<-ended
	o.CPU = child.ProcessState.UserTime() + child.ProcessState.SystemTime()
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, said.Bytes()[:min(said.Len(), 500)])
	}
	return o, w.landed(filepath.Join(folder, "*.parquet"))
}

// landed counts the rows of Parquet files.
func (w workload) landed(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	rows := int64(0)
	for _, path := range paths {
		r, err := file.OpenParquetFile(path, false)
		if err != nil {
			return err
		}
		rows += r.NumRows()
		if err := r.Close(); err != nil {
			return err
		}
	}
	if rows != int64(w.records) {
		return fmt.Errorf("it wrote %d of %d records", rows, w.records)
	}
	return nil
}

func (w workload) columns() (*arrow.Schema, error) {
	loaded, faults := config.Load(w.config)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	c, err := loaded.Contract(w.topic)
	if err != nil {
		return nil, err
	}
	return plainColumns(c.Schema), nil
}

// spark runs Spark by PySpark, which measures itself: the start of the JVM does not count, and it has done the same over a
// tenth of the records before.
func (w workload) spark(b *testing.B) (o outcome, err error) {
	child := exec.CommandContext(b.Context(), os.Getenv("SPARK"), filepath.Join("peers", "spark.py"), w.schema, w.file,
		filepath.Join(b.TempDir(), "out"), strconv.Itoa(runtime.GOMAXPROCS(0)))
	child.Env = append(os.Environ(), "SPARK_LOCAL_IP=127.0.0.1")
	var said bytes.Buffer
	child.Stderr = &said
	answer, err := child.Output()
	if err != nil {
		return o, fmt.Errorf("%w: %s", err, said.Bytes()[max(0, said.Len()-500):])
	}
	var took struct {
		Wall, CPU float64
		Peak      int64
		Rows      int
	}
	if err := json.Unmarshal(answer, &took); err != nil {
		return o, err
	}
	if took.Rows != w.records {
		return o, errors.New("it wrote " + strconv.Itoa(took.Rows) + " records of " + strconv.Itoa(w.records))
	}
	o.Wall, o.CPU, o.Peak = time.Duration(took.Wall*float64(time.Second)), time.Duration(took.CPU*float64(time.Second)), took.Peak
	return o, nil
}

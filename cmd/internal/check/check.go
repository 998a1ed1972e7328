// Package check tells a person what is wrong with a configuration, a contract or sample records, all of it at once
// and with its place.
//
// What it says of a record is a reason code, a line and the name of a field from the schema; never content.
package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/ingest/batch"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/envelope/kms"
)

// Report is what was found.
type Report struct {
	OK         bool             `json:"ok"`
	Problems   []validate.Fault `json:"problems"`
	NotListed  int64            `json:"problems_not_listed,omitempty"` // beyond the first MaxProblems
	Notes      []validate.Fault `json:"notes,omitempty"`               // worth knowing, and no problem
	Contracts  []string         `json:"contracts,omitempty"`           // the topics of good contracts
	Schemas    []Schema         `json:"schemas,omitempty"`             // how their records are checked
	Read       int64            `json:"read"`                          // sample records
	Accepted   int64            `json:"accepted"`
	Rejected   int64            `json:"rejected"`
	Unreadable bool             `json:"-"` // the configuration or a contract has a problem
}

// Schema says how the records of one topic are checked.
type Schema struct {
	Topic    string         `json:"topic"`
	File     string         `json:"file"`
	Compiled bool           `json:"compiled"` // by a compiled plan alone
	Left     []validate.Gap `json:"left"`     // what is left to jsonschema/v5, which is slower
}

// good notes a contract that has no fault.
func (r *Report) good(c *contract.Contract) {
	left := c.Schema.Coverage()
	if left == nil {
		left = []validate.Gap{}
	}
	r.Contracts = append(r.Contracts, c.Topic)
	r.Schemas = append(r.Schemas, Schema{Topic: c.Topic, File: c.SchemaPath, Compiled: len(left) == 0, Left: left})
	r.Notes = append(r.Notes, c.Notes...)
}

// MaxProblems bounds a report on samples in which everything is wrong.
const MaxProblems = 1000

func (r *Report) add(faults ...validate.Fault) {
	for _, f := range faults {
		if len(r.Problems) < MaxProblems {
			r.Problems = append(r.Problems, f)
		} else {
			r.NotListed++
		}
	}
	r.OK = len(r.Problems) == 0
}

func (r *Report) broken(faults ...validate.Fault) {
	r.Unreadable = r.Unreadable || len(faults) > 0
	r.add(faults...)
}

func newReport() *Report { return &Report{OK: true, Problems: []validate.Fault{}} }

// Codes of the problems that only looking at the world outside can find. They are stable.
const (
	LandingUnwritable = "landing_unwritable" // nothing can be written where segments should land
	KeyMissing        = "key_missing"        // a key file or service has not the key, or does not let it be used
)

// Config checks the configuration in the file at path, the contracts that it names, the master keys and the landing
// folder. Of every master key but the previous ones it looks whether it wraps.
func Config(ctx context.Context, path string) *Report {
	r := newReport()
	c, faults := config.Load(path)
	r.broken(faults...)
	if c == nil {
		return r
	}
	for _, one := range c.Contracts {
		r.good(one)
	}
	r.keys(ctx, c)
	if err := writable(c.Landing.Dir); c.Landing.Dir != "" && err != nil {
		r.broken(validate.Fault{
			File: path, Field: "landing.url", Code: LandingUnwritable,
			Detail: fmt.Sprintf("the landing folder %s is not writable: %s", strict.Quote(c.Landing.Dir), strict.Reason(err)),
		})
	}
	return r
}

// keyPatience is how long a key service may be away until its key counts as missing.
const keyPatience = 5 * time.Second

func (r *Report) keys(ctx context.Context, c *config.Config) {
	missing := func(purpose string, err error) {
		r.broken(validate.Fault{File: c.Path, Field: "keys." + purpose, Code: KeyMissing, Detail: err.Error()})
	}
	opener := envelope.Opener{Services: kms.Open}
	for _, purpose := range config.Purposes {
		url, named := c.Keys[purpose]
		if !named {
			continue
		}
		key, err := opener.Open(ctx, url)
		if err == nil {
			zones := map[envelope.Zone]envelope.MasterKey{envelope.Default: key, envelope.Zone(purpose): key}
			var ring *envelope.Keyring
			if ring, err = envelope.NewKeyring(zones, envelope.Limits{Patience: keyPatience}); err == nil {
				err = ring.Probe(ctx, envelope.Zone(purpose))
			}
		}
		if err != nil {
			missing(purpose, err)
		}
	}
	for _, url := range c.Previous {
		if _, err := opener.Open(ctx, url); err != nil {
			missing("previous", err)
		}
	}
}

// writable tries to write where taster would: in the folder, or, when it is not there yet, in the nearest one above
// it that is. Nothing is left behind.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is a file", dir)
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if !os.IsNotExist(err) || parent == dir {
			return err
		}
		dir = parent
	}
	f, err := os.CreateTemp(dir, ".taster-check-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// Contract checks the contract in the file at path and tries the records of the sample files.
// done is told how many bytes of samples were read since it was last called. An error means that a sample could not
// be read.
func Contract(ctx context.Context, path string, samples []string, done func(n int64)) (*Report, error) {
	r := newReport()
	c, faults := contract.Load(path)
	r.broken(faults...)
	if c == nil {
		return r, nil
	}
	r.good(c)
	samples, err := files.Expand(ctx, samples, nil)
	if err != nil {
		return r, fmt.Errorf("sample: %w", err)
	}
	for _, name := range samples {
		if err := r.sample(ctx, c, name, done); err != nil {
			return r, fmt.Errorf("sample %s: %w", strict.Quote(name), err)
		}
	}
	return r, nil
}

// sample tries every record of one file as the pipeline would. Plain lines are told by their number, with lines of
// white space counted and not tried; rows of the other forms by theirs.
func (r *Report) sample(ctx context.Context, c *contract.Contract, name string, done func(n int64)) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv", ".tsv", ".parquet", ".gz", ".zst":
		return r.sampleRows(ctx, c, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	builder := batch.NewBuilder(c)
	lines := newLines(f, c.Limits.Bytes)
	for {
		value, err := lines.next()
		if errors.Is(err, io.EOF) {
			r.take(name, builder, lineOf)
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		done(lines.took)
		if value == nil {
			continue
		}
		builder.Add(message(c, int64(lines.line), value))
		if builder.Full() || builder.Rows() >= batchRows || builder.Bytes() >= batchBytes {
			r.take(name, builder, lineOf)
		}
	}
}

// sampleRows tries every row of a file that backfill would read.
func (r *Report) sampleRows(ctx context.Context, c *contract.Contract, name string) error {
	f, err := files.Open(ctx, name, c, files.Access{})
	if err != nil {
		return err
	}
	defer f.Close()
	builder := batch.NewBuilder(c)
	for {
		item, err := f.Next()
		if errors.Is(err, files.ErrEnd) {
			r.take(name, builder, rowOf)
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		m := message(c, item.Message.Offset, item.Message.Value)
		if item.Code == "" {
			builder.Add(m)
		} else {
			builder.Refuse(m, item.Code)
		}
		if builder.Full() || builder.Rows() >= batchRows || builder.Bytes() >= batchBytes {
			r.take(name, builder, rowOf)
		}
	}
}

// lineOf and rowOf say where a record with such an offset stands in its file.
func lineOf(offset int64) (line int, detail string) { return int(offset), "" }
func rowOf(offset int64) (line int, detail string)  { return 0, fmt.Sprintf("row %d: ", offset+1) }

// How many records, or bytes of them, are tried together.
const (
	batchRows  = 4096
	batchBytes = 4 << 20
)

// message makes a record of a file into a message. It has no key and no headers: where the
// contract finds the provider there, one stands in, so that its absence is not held against every record.
func message(c *contract.Contract, offset int64, value []byte) record.Message {
	m := record.Message{Offset: offset, Value: bytes.Clone(value)}
	standIn := []byte("sample")
	if c.Roles.Provider.Key {
		m.Key = standIn
	}
	if header := c.Roles.Provider.Header; header != "" {
		m.Headers = []record.Header{{Key: header, Value: standIn}}
	}
	return m
}

// take counts what became of the records since it was last called.
func (r *Report) take(name string, builder *batch.Builder, place func(offset int64) (line int, detail string)) {
	b := builder.Take()
	if b == nil {
		return
	}
	defer b.Records.Release()
	r.Read += int64(len(b.Origins) + len(b.Refused))
	r.Accepted += int64(len(b.Origins))
	r.Rejected += int64(len(b.Refused))
	for _, refused := range b.Refused {
		line, where := place(refused.Offset)
		r.add(validate.Fault{
			File: name, Line: line, Field: refused.Field, Code: string(refused.Code), Detail: where + meaning(refused.Code),
		})
	}
}

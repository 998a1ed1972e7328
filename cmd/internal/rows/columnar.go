package rows

import (
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// A row group of a plain copy ends at whichever comes first.
const (
	groupRows  = 1 << 17
	groupBytes = 32 << 20
)

// parquetRows writes plain Parquet.
type parquetRows struct {
	w io.Writer
	f *pqarrow.FileWriter
}

func (p *parquetRows) begin(s *arrow.Schema) (err error) {
	defer guard(&err)
	props := pq.NewWriterProperties(
		pq.WithCreatedBy("taster"),
		pq.WithDataPageVersion(pq.DataPageV1),
		pq.WithVersion(pq.V2_LATEST),
		pq.WithCompression(compress.Codecs.Zstd),
		pq.WithMaxRowGroupLength(math.MaxInt64), // row groups are cut here: Arrow's writer would slice
	)
	p.f, err = pqarrow.NewFileWriter(s, keepOpen{p.w}, props, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	return err
}

func (p *parquetRows) write(batch arrow.RecordBatch) (err error) {
	defer guard(&err)
	if batch.NumRows() == 0 {
		return nil
	}
	for i, c := range batch.Columns() {
		if f, ok := c.(*array.FixedSizeList); ok && (f.NullN() > 0 || f.ListValues().NullN() > 0) {
			return fmt.Errorf("column %s: fixed-size lists with nulls cannot be written as Parquet; take jsonl or arrow", batch.ColumnName(i))
		}
	}
	rows, err := p.f.RowGroupNumRows()
	if err != nil {
		rows = 0
	}
	if rows+int(batch.NumRows()) > groupRows || p.f.RowGroupTotalBytesWritten() > groupBytes {
		if err := p.f.NewBufferedRowGroupChecked(); err != nil {
			return err
		}
	}
	return p.f.WriteBuffered(batch)
}

func (p *parquetRows) end() (err error) {
	defer guard(&err)
	return p.f.Close()
}

// guard turns a panic of Arrow's writer into an error; its text speaks of columns and types, and is left out where it
// could speak of more.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the Parquet writer stopped with %T", r)
	}
}

// keepOpen hides Close, which Arrow's writer would call.
type keepOpen struct{ io.Writer }

// arrowRows writes an Arrow IPC stream.
type arrowRows struct {
	w io.Writer
	f *ipc.Writer
}

func (a *arrowRows) begin(s *arrow.Schema) error {
	a.f = ipc.NewWriter(a.w, ipc.WithSchema(s))
	return nil
}

func (a *arrowRows) write(batch arrow.RecordBatch) error { return a.f.Write(batch) }

func (a *arrowRows) end() error { return a.f.Close() }

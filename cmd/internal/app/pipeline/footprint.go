package pipeline

import (
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tasterhq/taster/schema/record"
)

// footprint is the memory that a batch takes up: its columns, with the room that they have to spare, refused messages
// as they came, and what is kept of each row.
func footprint(b *record.Batch) int64 {
	n := int64(len(b.Origins)) * int64(unsafe.Sizeof(record.Origin{})+unsafe.Sizeof("")+unsafe.Sizeof(record.Public))
	for _, column := range b.Records.Columns() {
		n += buffers(column.Data())
	}
	for i := range b.Refused {
		n += size(&b.Refused[i].Message) + int64(unsafe.Sizeof(record.Refused{}))
	}
	return n
}

func buffers(column arrow.ArrayData) (n int64) {
	for _, b := range column.Buffers() {
		if b != nil {
			n += int64(b.Cap())
		}
	}
	for _, child := range column.Children() {
		n += buffers(child)
	}
	return n
}

package modular

import "encoding/binary"

const (
	nonceSize  = 12
	tagSize    = 16
	lengthSize = 4

	// Overhead is how many bytes longer a module by AES-GCM is than what it holds.
	Overhead = lengthSize + nonceSize + tagSize
)

// Module is a kind of module, as it stands in its AAD (Parquet Modular Encryption, section 4.4).
type Module byte

// The kinds of modules that are in use here.
const (
	FooterModule Module = iota
	ColumnModule
	DataPageModule
	DictionaryPageModule
	DataPageHeaderModule
	DictionaryPageHeaderModule
)

// AAD returns what a module is bound to: the file, by its prefix and what is its own, and the module's place in it. Only data pages have a
// number within their column chunk.
func AAD(file []byte, m Module, group, column, page int) []byte {
	b := append(make([]byte, 0, len(file)+7), file...)
	b = append(b, byte(m))
	if m == FooterModule {
		return b
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(group))
	b = binary.LittleEndian.AppendUint16(b, uint16(column))
	if m == DataPageModule || m == DataPageHeaderModule {
		b = binary.LittleEndian.AppendUint16(b, uint16(page))
	}
	return b
}

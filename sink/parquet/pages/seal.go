package pages

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
)

const (
	nonceSize  = 12
	tagSize    = 16
	lengthSize = 4
)

// module is a kind of module, as it stands in its AAD.
type module byte

const (
	footerModule module = iota
	columnModule
	dataPageModule
	dictionaryPageModule
	dataPageHeaderModule
	dictionaryPageHeaderModule
)

// encryption is Parquet Modular Encryption of one file.
type encryption struct {
	aad     []byte        // the file's: its prefix, and what is its own
	own     cipher.AEAD   // by the footer's key
	columns []cipher.AEAD // by leaf
}

func newEncryption(how *pq.FileEncryptionProperties, columns [][]*leaf) (*encryption, error) {
	if !how.EncryptedFooter() || how.Algorithm().Algo != pq.AesGcm {
		return nil, fmt.Errorf("only AES_GCM_V1 with an encrypted footer can be written")
	}
	e := &encryption{aad: []byte(how.FileAad())}
	var err error
	if e.own, err = gcm(how.FooterKey()); err != nil {
		return nil, err
	}
	for _, leaves := range columns {
		for _, l := range leaves {
			key := how.ColumnEncryptionProperties(l.desc.Path())
			switch {
			case key == nil || !key.IsEncrypted():
				return nil, fmt.Errorf("column %s has no key", l.desc.Path())
			case key.IsEncryptedWithFooterKey():
				e.columns = append(e.columns, e.own)
			default:
				one, err := gcm(key.Key())
				if err != nil {
					return nil, err
				}
				e.columns = append(e.columns, one)
			}
		}
	}
	return e, nil
}

func gcm(key string) (cipher.AEAD, error) {
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// place returns the AAD of a module. Only data pages have a number within their column chunk.
func (e *encryption) place(m module, group, column, page int) []byte {
	b := append(make([]byte, 0, len(e.aad)+7), e.aad...)
	b = append(b, byte(m))
	if m == footerModule {
		return b
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(group))
	b = binary.LittleEndian.AppendUint16(b, uint16(column))
	if m == dataPageModule || m == dataPageHeaderModule {
		b = binary.LittleEndian.AppendUint16(b, uint16(page))
	}
	return b
}

// seal appends a module: its length, a nonce, and what the plaintext is by AES-GCM.
func seal(out []byte, key cipher.AEAD, plain, aad []byte) []byte {
	out = binary.LittleEndian.AppendUint32(out, uint32(nonceSize+len(plain)+tagSize))
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // which ends the process where it cannot
	out = append(out, nonce[:]...)
	return key.Seal(out, nonce[:], plain, aad)
}

// sealer encrypts the metadata that arrow-go makes: the footer, or that of a column chunk.
type sealer struct {
	key cipher.AEAD
	aad []byte
}

func (e *encryption) footer() *sealer { return &sealer{e.own, e.place(footerModule, 0, 0, 0)} }

func (e *encryption) column(column, group int) *sealer {
	return &sealer{e.columns[column], e.place(columnModule, group, column, 0)}
}

// FileAad is not asked for: the AAD is that of a module.
func (s *sealer) FileAad() string { return "" }

// UpdateAad sets the module's AAD.
func (s *sealer) UpdateAad(aad string) { s.aad = []byte(aad) }

// Allocator returns the default.
func (s *sealer) Allocator() memory.Allocator { return memory.DefaultAllocator }

// CiphertextSizeDelta returns how much longer a module is than what it holds.
func (s *sealer) CiphertextSizeDelta() int { return lengthSize + nonceSize + tagSize }

// Encrypt writes a module and returns its length.
func (s *sealer) Encrypt(w io.Writer, plain []byte) int {
	b := seal(nil, s.key, plain, s.aad)
	_, _ = w.Write(b) // to memory
	return len(b)
}

// EncryptColumnMetaData tells whether metadata is encrypted by itself: by a key of the column's own.
func (s *sealer) EncryptColumnMetaData(encryptFooter bool, how *pq.ColumnEncryptionProperties) bool {
	return encryptFooter && how != nil && how.IsEncrypted() && !how.IsEncryptedWithFooterKey()
}

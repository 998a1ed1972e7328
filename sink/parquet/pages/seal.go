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

	"github.com/tasterhq/taster/sink/parquet/modular"
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

func (e *encryption) place(m modular.Module, group, column, page int) []byte {
	return modular.AAD(e.aad, m, group, column, page)
}

// seal appends a module: its length, a nonce, and what the plaintext is by AES-GCM.
func seal(out []byte, key cipher.AEAD, plain, aad []byte) []byte {
	out = binary.LittleEndian.AppendUint32(out, uint32(key.NonceSize()+len(plain)+key.Overhead()))
	at := len(out)
	out = append(out, make([]byte, key.NonceSize())...)
	nonce := out[at:]
	_, _ = rand.Read(nonce) // which ends the process where it cannot
	return key.Seal(out, nonce, plain, aad)
}

// sealer encrypts the metadata that arrow-go makes: the footer, or that of a column chunk.
type sealer struct {
	key cipher.AEAD
	aad []byte
}

func (e *encryption) footer() *sealer { return &sealer{e.own, e.place(modular.FooterModule, 0, 0, 0)} }

func (e *encryption) column(column, group int) *sealer {
	return &sealer{e.columns[column], e.place(modular.ColumnModule, group, column, 0)}
}

// FileAad is not asked for: the AAD is that of a module.
func (s *sealer) FileAad() string { return "" }

// UpdateAad sets the module's AAD.
func (s *sealer) UpdateAad(aad string) { s.aad = []byte(aad) }

// Allocator returns the default.
func (s *sealer) Allocator() memory.Allocator { return memory.DefaultAllocator }

// CiphertextSizeDelta returns how much longer a module is than what it holds.
func (s *sealer) CiphertextSizeDelta() int { return modular.Overhead }

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

package modular

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
)

// suite is how a file is encrypted.
type suite struct {
	ctr      bool   // pages by AES-CTR, all else by AES-GCM
	prefix   string // of the AAD
	supplied bool   // prefix is not stored in the file
	aad      []byte // prefix and the file's own
}

// newSuite reads an EncryptionAlgorithm.
func newSuite(algorithm object, prefix string) (suite, error) {
	var s suite
	how, ok := algorithm.object(algorithmGCM)
	if !ok {
		if how, ok = algorithm.object(algorithmCTR); !ok {
			return s, broken("it is encrypted neither by AES_GCM_V1 nor by AES_GCM_CTR_V1")
		}
		s.ctr = true
	}
	stored, has := how.bytes(algorithmPrefix)
	unique, _ := how.bytes(algorithmUnique)
	s.prefix = prefix
	switch {
	case has && prefix != "" && prefix != string(stored):
		return s, fmt.Errorf("%w: %w: the file is bound to the name %q, and %q was asked for: another file was put in its place, or it was renamed", ErrBroken, ErrPrefix, stored, prefix)
	case has:
		s.prefix = string(stored)
	case prefix == "" && how.flag(algorithmAsks, false):
		return s, fmt.Errorf("%w: the file was written with one that is not stored in it, so only who knows it can open it; give it with --aad-prefix", ErrPrefix)
	default:
		s.supplied = prefix != ""
	}
	s.aad = append([]byte(s.prefix), unique...)
	return s, nil
}

// doubt says what else than a change may be why a first module did not open.
func (s suite) doubt() string {
	if s.supplied {
		return fmt.Sprintf(" (or it was not written with the AAD prefix %q)", s.prefix)
	}
	return " (or the key is another one)"
}

func (s suite) place(m Module, group, column, page int) []byte {
	return AAD(s.aad, m, group, column, page)
}

// gcm returns the cipher of modules other than pages, and of pages too unless they are by AES-CTR.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, broken("a key of %d bytes", len(key))
	}
	return cipher.NewGCM(block)
}

// frame returns the module that b begins with, without its length.
func frame(b []byte) ([]byte, error) {
	if len(b) < lengthSize {
		return nil, broken("a module ends too early")
	}
	n := binary.LittleEndian.Uint32(b)
	if n < nonceSize || uint64(n) > uint64(len(b)-lengthSize) {
		return nil, broken("a module claims %d bytes, and there are %d", n, len(b)-lengthSize)
	}
	return b[lengthSize : lengthSize+int(n)], nil
}

// open decrypts a module that is all of b, and leaves b as it is.
func (s suite) open(key, b, aad []byte) ([]byte, error) {
	sealed, err := frame(b)
	if err != nil {
		return nil, err
	}
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], aad)
	if err != nil {
		return nil, broken("it was changed")
	}
	return plain, nil
}

// verify checks the signature of a plaintext footer: the nonce and the tag of its encryption.
func (s suite) verify(key, footer, signature, aad []byte) error {
	aead, err := gcm(key)
	if err != nil {
		return err
	}
	sealed := aead.Seal(nil, signature[:nonceSize], footer, aad)
	if string(sealed[len(footer):]) != string(signature[nonceSize:]) {
		return broken("it was changed")
	}
	return nil
}

// pageCipher decrypts the modules of one column chunk.
type pageCipher struct {
	suite         suite
	block         cipher.Block
	aead          cipher.AEAD
	group, column int
}

func (s suite) pages(key []byte, group, column int64) (*pageCipher, error) {
	if group < 0 || column < 0 || group > math.MaxInt16 || column > math.MaxInt16 {
		return nil, broken("more row groups or columns than encryption has numbers for")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, broken("a key of %d bytes", len(key))
	}
	aead, err := cipher.NewGCM(block)
	return &pageCipher{s, block, aead, int(group), int(column)}, err
}

// header decrypts a page header. page is -1 for a dictionary.
func (c *pageCipher) header(sealed []byte, page int) ([]byte, error) {
	m := DataPageHeaderModule
	if page < 0 {
		m = DictionaryPageHeaderModule
	}
	if len(sealed) < nonceSize+tagSize {
		return nil, broken("a page header is too short")
	}
	plain, err := c.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], c.suite.place(m, c.group, c.column, page))
	if err != nil {
		return nil, broken("it was changed")
	}
	return plain, nil
}

// overhead is how many bytes a page has more when it is encrypted.
func (c *pageCipher) overhead() int {
	if c.suite.ctr {
		return lengthSize + nonceSize
	}
	return Overhead
}

// page decrypts a page in place and returns the part of sealed that it takes.
func (c *pageCipher) page(sealed []byte, page int) ([]byte, error) {
	if len(sealed) < c.overhead()-lengthSize {
		return nil, broken("a page is too short")
	}
	nonce, body := sealed[:nonceSize], sealed[nonceSize:]
	if c.suite.ctr {
		var iv [aes.BlockSize]byte
		copy(iv[:], nonce)
		iv[len(iv)-1] = 1
		cipher.NewCTR(c.block, iv[:]).XORKeyStream(body, body)
		return body, nil
	}
	m := DataPageModule
	if page < 0 {
		m = DictionaryPageModule
	}
	plain, err := c.aead.Open(body[:0], nonce, body, c.suite.place(m, c.group, c.column, page))
	if err != nil {
		return nil, broken("it was changed")
	}
	return plain, nil
}

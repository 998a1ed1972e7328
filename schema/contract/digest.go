package contract

import (
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"sort"

	"github.com/tasterhq/taster/schema/validate"
)

// digest is the SHA-256 over the contract and every schema file that it draws in, as they stand on disk. What is
// hashed is, for the contract first and then for each schema file by rising name:
//
//	the length of the name in bytes, 8 bytes, big-endian
//	the name: the file's path relative to the contract's folder, with slashes; empty for the contract itself
//	the length of the content in bytes, 8 bytes, big-endian
//	the content
//
// The lengths keep two different sets of files from reading alike, and relative names let a folder be moved whole
// without a new digest.
func digest(path string, contract []byte, files []validate.File) ([32]byte, error) {
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return [32]byte{}, err
	}
	named := make([]validate.File, len(files))
	for i, f := range files {
		name, err := filepath.Abs(f.Path)
		if err != nil {
			return [32]byte{}, err
		}
		if relative, err := filepath.Rel(folder, name); err == nil {
			name = relative
		}
		named[i] = validate.File{Path: filepath.ToSlash(name), Bytes: f.Bytes}
	}
	sort.Slice(named, func(i, j int) bool { return named[i].Path < named[j].Path })

	h := sha256.New()
	put := func(b []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	put(nil)
	put(contract)
	for _, f := range named {
		put([]byte(f.Path))
		put(f.Bytes)
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum, nil
}

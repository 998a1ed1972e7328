package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// material is Parquet's key material of type PKMT1: what is needed, beside a master key, to have a data key again. The
// names are those of parquet-java's KeyMaterial and KeyMetadata; pyarrow and Spark read it.
//
// With internal storage it stands in the file as key metadata and has InternalStorage true. With external storage it
// stands in a Sidecar without that member, and the file's key metadata is a reference to it.
type material struct {
	Type            string `json:"keyMaterialType"`
	InternalStorage *bool  `json:"internalStorage,omitempty"`
	Reference       string `json:"keyReference,omitempty"` // alone with the two above: look in the sidecar
	IsFooterKey     bool   `json:"isFooterKey"`
	KMSInstanceID   string `json:"kmsInstanceID,omitempty"`  // of the footer key only
	KMSInstanceURL  string `json:"kmsInstanceURL,omitempty"` // of the footer key only
	MasterKeyID     string `json:"masterKeyID"`
	WrappedDEK      string `json:"wrappedDEK"`
	DoubleWrapping  bool   `json:"doubleWrapping"`
	KEKID           string `json:"keyEncryptionKeyID,omitempty"`
	WrappedKEK      string `json:"wrappedKEK,omitempty"`
}

// reference is the key metadata of a file whose key material is external.
type reference struct {
	Type            string `json:"keyMaterialType"`
	InternalStorage bool   `json:"internalStorage"`
	Reference       string `json:"keyReference"`
}

const (
	materialType  = "PKMT1"
	materialLimit = 64 << 10
	kmsDefault    = "DEFAULT" // what parquet-java and Arrow put for "as configured"
	kekIDSize     = 16
)

var (
	errMaterial = errors.New("key material is not of the type PKMT1")
	internal    = true
)

// compact returns v as JSON on one line, with nothing escaped that need not be.
func compact(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}

// parseMaterial reads the key metadata of a file or a member of a sidecar. What it returns is a reference, and then
// nothing else, or whole.
func parseMaterial(data []byte) (*material, error) {
	if len(data) > materialLimit {
		return nil, errMaterial
	}
	var m material
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errMaterial // without the JSON error, which may quote what it met
	}
	if m.Type != materialType {
		return nil, errMaterial
	}
	if m.InternalStorage != nil && !*m.InternalStorage {
		if m.Reference == "" {
			return nil, errMaterial
		}
		return &material{Type: materialType, Reference: m.Reference}, nil
	}
	m.Reference = ""
	if m.MasterKeyID == "" || m.WrappedDEK == "" || m.DoubleWrapping && (m.KEKID == "" || m.WrappedKEK == "") {
		return nil, errMaterial
	}
	return &m, nil
}

// kekAAD returns the raw bytes of a KEK id, which authenticate what the KEK wraps.
func (m *material) kekAAD() ([]byte, error) {
	id, err := base64.StdEncoding.DecodeString(m.KEKID)
	if err != nil {
		return nil, fmt.Errorf("%w: keyEncryptionKeyID is not base64", errMaterial)
	}
	return id, nil
}

// MaterialInfo is what key material tells without any key.
type MaterialInfo struct {
	Reference     string // member of the sidecar in which the material stands; then the rest is empty
	MasterKeyID   string
	Zone          Zone // that MasterKeyID is bound to, "" if it tells none
	Footer        bool
	DoubleWrapped bool
}

// Inspect tells what key material, or the key metadata of a Parquet file, is about.
func Inspect(keyMaterial []byte) (MaterialInfo, error) {
	m, err := parseMaterial(keyMaterial)
	if err != nil {
		return MaterialInfo{}, err
	}
	_, zone := SplitZone(m.MasterKeyID)
	return MaterialInfo{Reference: m.Reference, MasterKeyID: m.MasterKeyID, Zone: zone, Footer: m.IsFooterKey, DoubleWrapped: m.DoubleWrapping}, nil
}

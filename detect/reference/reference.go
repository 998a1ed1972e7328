// Package reference keeps a trusted sample of a topic's records: what detectors learn from and what p-values are
// calibrated against.
//
// A reference is a bounded, seeded, uniform sample of trusted rows, kept as columns by role, with a header that
// says where they came from. Models are not kept: they are fitted from the rows whenever the reference is loaded,
// so that a better detector needs no new reference. The rows are record content; where the bytes lie, and their
// encryption, is not this package's business.
//
// # Format, version 1
//
//	"taster-reference 1\n"
//	length of the header, 4 bytes, little endian
//	header, JSON (type Header)
//	the columns that the header names, one after the other, for n = rows:
//	    text, label, provider   n lengths + 1, 4 bytes each, 0: the row has none; then all bytes, row after row
//	    features                n × len(features) float64, row after row, NaN: the row has none
//	    embedding               n bytes, 0: the row has none; then n × dim float32, row after row
//	    probabilities           n × outcomes float32, row after row, all 0: the row has none
//	    loss                    n float64, NaN: the row has none
//	    gradient                n × gradient_dim float32, row after row, all 0: the row has none
//
// Numbers are little endian. Nothing follows the last column.
//
// The digest of a reference is the SHA-256 of all of these bytes.
package reference

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/schema/contract"
)

const magic = "taster-reference 1\n"

// ErrMalformed says that bytes are not a reference, or not whole. The reference must be made anew, or fetched again.
var ErrMalformed = errors.New("malformed reference")

// Header says where a reference came from. It holds no record content.
type Header struct {
	Topic    string   `json:"topic"`
	Contract string   `json:"contract"` // hex SHA-256: the contract's digest when the reference was made
	Created  string   `json:"created"`  // RFC 3339, as the maker's clock said
	Seed     uint64   `json:"seed"`
	Seen     int64    `json:"seen"` // trusted rows that were read
	Rows     int      `json:"rows"` // rows that were kept
	Inputs   []Input  `json:"inputs"`
	Columns  []string `json:"columns"`
	Features []string `json:"features,omitempty"` // names of the features, from the contract
	Dim      int      `json:"dim,omitempty"`      // length of an embedding
	Outcomes int      `json:"outcomes,omitempty"` // length of a row's probabilities

	GradientDim int `json:"gradient_dim,omitempty"` // length of a gradient
}

// Input is one source of trusted rows.
type Input struct {
	SHA256 string `json:"sha256"` // of the stored bytes
	Rows   int64  `json:"rows"`
}

// Reference is a trusted sample. It is not changed after it was made.
type Reference struct {
	Header
	Name   string // NAME@VERSION, given by whoever stores it; not part of the bytes
	Digest [sha256.Size]byte
	Sample *detect.Sample
	bytes  []byte
}

// Encode returns the reference's bytes, nil for one that was restricted. They must not be changed.
func (r *Reference) Encode() []byte { return r.bytes }

// New makes a reference of the rows of s, at most MostRows. What the header says of the columns follows from s.
func New(h Header, s *detect.Sample) (*Reference, error) {
	h.Rows, h.Features, h.Dim = s.N, s.FeatureNames, s.Dim
	h.Outcomes, h.GradientDim = s.Outcomes, s.GradientDim
	h.Columns = []string{}
	var body []byte
	column := func(name string, present bool, write func()) {
		if present {
			h.Columns = append(h.Columns, name)
			write()
		}
	}
	column("text", s.Text != nil, func() {
		body = appendWords(body, s.N, func(i int) ([]byte, bool) { return s.Text[i], s.Text[i] != nil })
	})
	column("label", s.Label != nil, func() { body = appendNumbered(body, s.Label, s.Classes) })
	column("provider", s.Provider != nil, func() { body = appendNumbered(body, s.Provider, s.Providers) })
	column("features", len(s.FeatureNames) > 0, func() { body = appendDoubles(body, s.Features) })
	column("embedding", s.Dim > 0, func() {
		for i := range s.N {
			present := byte(0)
			if s.HasEmbedding == nil || s.HasEmbedding[i] {
				present = 1
			}
			body = append(body, present)
		}
		body = appendFloats(body, s.Embedding)
	})
	column("probabilities", s.Outcomes > 0, func() { body = appendFloats(body, s.Probabilities) })
	column("loss", s.Loss != nil, func() { body = appendDoubles(body, s.Loss) })
	column("gradient", s.GradientDim > 0, func() { body = appendFloats(body, s.Gradient) })
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	out := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(head)))
	return Decode(append(append(out, head...), body...))
}

// Restrict returns r without the columns of roles that a contract does not name, or names no more: what a stream cannot have is
// not to be missed in it. It is for judging by, and keeps nothing of r's bytes, of which vectors are by far the most.
func (r *Reference) Restrict(roles contract.Roles) *Reference {
	s := *r.Sample
	if len(roles.Text) == 0 {
		s.Text = nil
	}
	s.Text = detached(s.Text)
	if roles.Label == "" {
		s.Label, s.Classes = nil, nil
	}
	if len(roles.Features) == 0 {
		s.Features, s.FeatureNames = nil, nil
	}
	if roles.Embedding == "" {
		s.Embedding, s.Dim, s.HasEmbedding = nil, 0, nil
	}
	if roles.Probabilities == "" {
		s.Probabilities, s.Outcomes = nil, 0
	}
	if roles.Loss == "" {
		s.Loss = nil
	}
	if roles.Gradient == "" {
		s.Gradient, s.GradientDim = nil, 0
	}
	if roles.Provider == (contract.Provider{}) {
		s.Provider, s.Providers = nil, nil
	}
	out := *r
	out.Sample, out.bytes = &s, nil
	return &out
}

// detached returns texts in memory of their own.
func detached(texts [][]byte) [][]byte {
	if texts == nil {
		return nil
	}
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	room := make([]byte, 0, size)
	out := make([][]byte, len(texts))
	for i, text := range texts {
		if text != nil {
			room = append(room, text...)
			out[i] = room[len(room)-len(text) : len(room) : len(room)]
		}
	}
	return out
}

func appendDoubles(dst []byte, values []float64) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

func appendFloats(dst []byte, values []float32) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

func appendWords(dst []byte, n int, word func(i int) ([]byte, bool)) []byte {
	for i := range n {
		length := uint32(0)
		if w, ok := word(i); ok {
			length = uint32(len(w)) + 1
		}
		dst = binary.LittleEndian.AppendUint32(dst, length)
	}
	for i := range n {
		w, _ := word(i)
		dst = append(dst, w...)
	}
	return dst
}

func appendNumbered(dst []byte, number []int32, names []string) []byte {
	return appendWords(dst, len(number), func(i int) ([]byte, bool) {
		if number[i] < 0 {
			return nil, false
		}
		return []byte(names[number[i]]), true
	})
}

// Decode reads what Encode returned. It keeps data, which must not be changed afterwards. An error wraps
// ErrMalformed.
func Decode(data []byte) (*Reference, error) {
	malformed := func(what string) (*Reference, error) {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return malformed("it does not begin as one, or is of a later version")
	}
	if len(rest) < 4 {
		return malformed("the header is cut off")
	}
	size := int(binary.LittleEndian.Uint32(rest))
	if rest = rest[4:]; size > len(rest) {
		return malformed("the header is cut off")
	}
	r := &Reference{Digest: sha256.Sum256(data), bytes: data}
	if json.Unmarshal(rest[:size], &r.Header) != nil || r.Rows < 0 || r.Rows > MostRows || r.Dim < 0 ||
		r.Outcomes < 0 || r.GradientDim < 0 {
		return malformed("the header is not JSON of the expected form")
	}
	s := &detect.Sample{N: r.Rows}
	body := reader{rest: rest[size:], rows: r.Rows}
	for _, name := range r.Columns {
		switch name {
		case "text":
			s.Text = body.words()
		case "label":
			s.Label, s.Classes = numbered(body.words())
		case "provider":
			s.Provider, s.Providers = numbered(body.words())
		case "features":
			s.FeatureNames, s.Features = r.Features, body.doubles(len(r.Features))
		case "embedding":
			s.Dim = r.Dim
			s.HasEmbedding = presence(body.take(1, 1))
			s.Embedding = body.floats(r.Dim)
		case "probabilities":
			s.Outcomes, s.Probabilities = r.Outcomes, body.floats(r.Outcomes)
		case "loss":
			s.Loss = body.doubles(1)
		case "gradient":
			s.GradientDim, s.Gradient = r.GradientDim, body.floats(r.GradientDim)
		default:
			return malformed("its header names a column that this version does not know")
		}
	}
	if body.short || len(body.rest) > 0 {
		return malformed("its columns are not as long as its header says")
	}
	r.Sample = s
	return r, nil
}

// presence returns nil where every row has its value.
func presence(flags []byte) []bool {
	if bytes.IndexByte(flags, 0) < 0 {
		return nil
	}
	out := make([]bool, len(flags))
	for i, flag := range flags {
		out[i] = flag != 0
	}
	return out
}

func numbered(words [][]byte) (number []int32, names []string) {
	number = make([]int32, len(words))
	index := map[string]int32{}
	for i, word := range words {
		if word == nil {
			number[i] = -1
			continue
		}
		at, ok := index[string(word)]
		if !ok {
			at = int32(len(names))
			names = append(names, string(word))
			index[names[at]] = at
		}
		number[i] = at
	}
	return number, names
}

// reader cuts columns off its rest. What it allocates is never larger than what is there.
type reader struct {
	rest  []byte
	rows  int
	short bool // something was missing
}

// take returns the bytes of width values of size bytes for every row, and nothing once it was short.
func (r *reader) take(size, width int) []byte {
	if width > 0 && r.rows > len(r.rest)/size/width {
		r.short, r.rest = true, nil
	}
	if r.short || width == 0 {
		return nil
	}
	part := r.rest[:r.rows*size*width]
	r.rest = r.rest[len(part):]
	return part
}

func (r *reader) doubles(width int) []float64 {
	values := r.take(8, width)
	out := make([]float64, len(values)/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(values[8*i:]))
	}
	return out
}

func (r *reader) floats(width int) []float32 {
	values := r.take(4, width)
	out := make([]float32, len(values)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(values[4*i:]))
	}
	return out
}

func (r *reader) words() [][]byte {
	lengths := r.take(4, 1)
	out := make([][]byte, len(lengths)/4)
	for i := range out {
		length := int(binary.LittleEndian.Uint32(lengths[4*i:])) - 1
		if length < 0 {
			continue
		}
		if length > len(r.rest) {
			r.short, r.rest = true, nil
			return nil
		}
		out[i] = r.rest[:length:length]
		r.rest = r.rest[length:]
	}
	return out
}

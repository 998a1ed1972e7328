package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

// The folders of a landing zone, beside one for each verdict.
const (
	CommitsFolder   = "_commits/"
	ChangesFolder   = "_changes/"
	AuditFolder     = "_audit/"
	ReferenceFolder = "_reference/"
	StateFolder     = "_state/"
	RecallsFolder   = "_recalls/"
)

const offsetDigits = 20

// Escape makes a topic safe as one part of an object name. Unescape undoes it. Letters, digits, '-', '_' and '.'
// stand for themselves, but not '_' and '.' in first place, since Spark and pyarrow do not see such names.
func Escape(s string) string { return escape(s, false) }

// escapeID also escapes dots, which separate the parts of a file name.
func escapeID(s string) string { return escape(s, true) }

func escape(s string, dots bool) string {
	plain := true
	for i := 0; i < len(s); i++ {
		plain = plain && literal(s[i], i, dots)
	}
	if plain {
		return s
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; literal(c, i, dots) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'~', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func literal(c byte, at int, dots bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		return true
	case c == '_':
		return at > 0
	case c == '.':
		return at > 0 && !dots
	}
	return false
}

// Unescape undoes Escape. It takes nothing that Escape would not have written.
func Unescape(s string) (string, error) { return unescape(s, false) }

func unescape(s string, dots bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '~' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within an escape", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q has a broken escape", s)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	out := b.String()
	if out == "" || escape(out, dots) != s {
		return "", fmt.Errorf("%q is not an escaped name", s)
	}
	return out, nil
}

// Folder returns the prefix under which all manifests of one partition stand, with its final slash.
func Folder(s record.Source) string { return CommitsFolder + SourcePath(s) + "/" }

// SourcePath returns T/ID/PARTITION, by which object names and audit entries name a partition.
func SourcePath(s record.Source) string {
	return Escape(s.Topic) + "/" + escapeID(s.ID) + "/" + strconv.Itoa(int(s.Partition))
}

// TopicFolder returns the prefix under which all manifests of a topic stand, whatever its id; of every topic for "".
func TopicFolder(topic string) string {
	if topic == "" {
		return CommitsFolder
	}
	return CommitsFolder + Escape(topic) + "/"
}

// Name returns the object name of the manifest that begins at first.
func Name(s record.Source, first int64) string {
	return fmt.Sprintf("%s%0*d.json", Folder(s), offsetDigits, first)
}

// ParseName undoes Name.
func ParseName(name string) (s record.Source, first int64, err error) {
	bad := fmt.Errorf("%q is not the name of a manifest", name)
	rest, ok := strings.CutPrefix(name, CommitsFolder)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 {
		return s, 0, bad
	}
	base, ok := strings.CutSuffix(parts[3], ".json")
	if !ok {
		return s, 0, bad
	}
	if s.Topic, err = Unescape(parts[0]); err != nil {
		return s, 0, bad
	}
	if s.ID, err = unescape(parts[1], true); err != nil {
		return s, 0, bad
	}
	if s.Partition, err = parsePartition(parts[2]); err != nil {
		return s, 0, bad
	}
	if first, err = parseOffset(base); err != nil {
		return s, 0, bad
	}
	return s, first, nil
}

// ChangesOf returns the prefix under which all changes of one partition stand, with its final slash.
func ChangesOf(s record.Source) string { return ChangesFolder + SourcePath(s) + "/" }

// ChangeName returns the object name of a partition's change number sequence.
func ChangeName(s record.Source, sequence int64) string {
	return fmt.Sprintf("%s%0*d.json", ChangesOf(s), offsetDigits, sequence)
}

// ParseChangeName undoes ChangeName.
func ParseChangeName(name string) (s record.Source, sequence int64, err error) {
	rest, ok := strings.CutPrefix(name, ChangesFolder)
	if ok {
		s, sequence, err = ParseName(CommitsFolder + rest)
	}
	if !ok || err != nil {
		return record.Source{}, 0, fmt.Errorf("%q is not the name of a change", name)
	}
	return s, sequence, nil
}

// Original is the Change of a file that was written with a manifest.
const Original = -1

// FileName is what the name of a Parquet file says.
type FileName struct {
	Verdict     finding.Verdict
	Source      record.Source
	Opened      string // UTC day, YYYY-MM-DD
	First, Next int64
	Change      int64  // the sequence of the change that it was written for, or Original
	Random      string // 16 hex digits
}

func (t Time) day() string { return time.UnixMilli(int64(t)).UTC().Format(time.DateOnly) }

// NewFileName returns the name of a segment's file for one verdict. random tells attempts apart.
func NewFileName(v finding.Verdict, s record.Source, opened Time, first, next int64, random string) FileName {
	return FileName{Verdict: v, Source: s, Opened: opened.day(), First: first, Next: next, Change: Original, Random: random}
}

// String returns the object name.
func (f FileName) String() string {
	change := ""
	if f.Change != Original {
		change = fmt.Sprintf(".%0*d", offsetDigits, f.Change)
	}
	return fmt.Sprintf("%s%0*d.%0*d%s.%s.parquet", FilePrefix(f.Verdict, f.Source, f.Opened), offsetDigits, f.First, offsetDigits, f.Next, change, f.Random)
}

// FilePrefix returns how the names of a partition's files begin for one verdict and one UTC day, YYYY-MM-DD, on which
// their segments were opened.
func FilePrefix(v finding.Verdict, s record.Source, day string) string {
	return fmt.Sprintf("%s/%s/%s/%s.%d.", v, Escape(s.Topic), day, escapeID(s.ID), s.Partition)
}

// Decider returns the name of the object that decides whether the file counts: the manifest that begins at its first
// offset, or the change that it was written for.
func (f FileName) Decider() string {
	if f.Change != Original {
		return ChangeName(f.Source, f.Change)
	}
	return Name(f.Source, f.First)
}

// ParseFileName undoes FileName.String.
func ParseFileName(name string) (f FileName, err error) {
	bad := fmt.Errorf("%q is not the name of a landed file", name)
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return f, bad
	}
	base := strings.Split(parts[3], ".")
	f.Change = Original
	if len(base) == 7 {
		if f.Change, err = parseOffset(base[4]); err != nil {
			return f, bad
		}
		base = slices.Delete(base, 4, 5)
	}
	if len(base) != 6 || base[5] != "parquet" || !isHex(base[4], 16) {
		return f, bad
	}
	if _, err := time.Parse(time.DateOnly, parts[2]); err != nil {
		return f, bad
	}
	f.Opened, f.Random = parts[2], base[4]
	if f.Verdict.UnmarshalText([]byte(parts[0])) != nil {
		return f, bad
	}
	if f.Source.Topic, err = Unescape(parts[1]); err != nil {
		return f, bad
	}
	if f.Source.ID, err = unescape(base[0], true); err != nil {
		return f, bad
	}
	if f.Source.Partition, err = parsePartition(base[1]); err != nil {
		return f, bad
	}
	if f.First, err = parseOffset(base[2]); err != nil {
		return f, bad
	}
	if f.Next, err = parseOffset(base[3]); err != nil {
		return f, bad
	}
	return f, nil
}

// SealedName is what the name of an encrypted object of a segment says: its state, or its recalls.
type SealedName struct {
	Folder string // StateFolder or RecallsFolder
	Source record.Source
	First  int64
	Random string // 16 hex digits: tells attempts apart
	Copy   int    // 0: the object that a manifest lists; else the number of a copy of it under another master key
}

// String returns the object name.
func (n SealedName) String() string {
	number := ""
	if n.Copy > 0 {
		number = "." + strconv.Itoa(n.Copy)
	}
	return fmt.Sprintf("%s%s/%0*d.%s%s%s", n.Folder, SourcePath(n.Source), offsetDigits, n.First, n.Random, number, sealedSuffix)
}

const sealedSuffix = ".sealed"

// ParseSealedName undoes SealedName.String.
func ParseSealedName(name string) (n SealedName, err error) {
	bad := fmt.Errorf("%q is not the name of a segment's state or recalls", name)
	for _, n.Folder = range []string{StateFolder, RecallsFolder} {
		if strings.HasPrefix(name, n.Folder) {
			break
		}
	}
	rest, ok := strings.CutPrefix(name, n.Folder)
	cut := strings.LastIndexByte(rest, '/')
	if !ok || cut < 0 {
		return n, bad
	}
	base, ok := strings.CutSuffix(rest[cut+1:], sealedSuffix)
	parts := strings.Split(base, ".")
	if !ok || len(parts) != 2 && len(parts) != 3 || !isHex(parts[1], 16) {
		return n, bad
	}
	n.Random = parts[1]
	if len(parts) == 3 {
		if n.Copy, err = strconv.Atoi(parts[2]); err != nil || n.Copy <= 0 || strconv.Itoa(n.Copy) != parts[2] {
			return n, bad
		}
	}
	// The rest is as in the name of a manifest.
	if n.Source, n.First, err = ParseName(CommitsFolder + rest[:cut+1] + parts[0] + ".json"); err != nil {
		return n, bad
	}
	return n, nil
}

// StatesOf returns the prefix under which the states of a topic stand, whatever its id; of every topic for "".
func StatesOf(topic string) string {
	return StateFolder + strings.TrimPrefix(TopicFolder(topic), CommitsFolder)
}

func parsePartition(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, strconv.ErrSyntax
	}
	return int32(n), nil
}

func parseOffset(s string) (int64, error) {
	if len(s) != offsetDigits || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

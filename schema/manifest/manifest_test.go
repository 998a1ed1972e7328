package manifest

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
)

func example() *Manifest {
	threshold := 0.995
	source := record.Source{Topic: "reviews", ID: "_AAAAAAAQACAAAAAAAAAAQ", Partition: 3}
	opened := Time(1767225599999) // 2025-12-31T23:59:59.999Z
	file := func(v finding.Verdict, rows int64) File {
		return File{
			Name: NewFileName(v, source, opened, 100, 200, "0123456789abcdef").String(), Verdict: v, Rows: rows, Bytes: 4096,
			SHA256: strings.Repeat("ab", 32), Content: strings.Repeat("cd", 32), Keys: []string{"default", "restricted"},
		}
	}
	return &Manifest{
		Version: Version, Topic: source.Topic, TopicID: source.ID, Partition: source.Partition, First: 100, Next: 200, Gaps: 10,
		Opened: opened, Committed: opened + 1500, Process: "20251231T235900Z-0011223344556677",
		Writer: strings.Repeat("0f", 16), Previous: strings.Repeat("12", 32), Contract: strings.Repeat("34", 32),
		Detectors: []string{"outlier/1", "trigger/2"}, Reference: "reviews@3", ReferenceDigest: strings.Repeat("56", 32),
		Calibrated: "reference", Threshold: &threshold, Risk: 0.25,
		Counts:  Counts{Accepted: 80, Quarantined: 7, Rejected: 3},
		Reasons: map[finding.Code]int64{finding.PoisonTrigger: 7, finding.JSONSyntax: 3},
		Files:   []File{file(finding.Accepted, 80), file(finding.Quarantined, 7), file(finding.Rejected, 3)},
	}
}

const (
	golden = "testdata/manifest.golden.json"
	// What a manifest has beside when the segment was judged with memory. The other one stays as it was before there was any.
	goldenLearned = "testdata/manifest-learned.golden.json"
)

func learned() *Manifest {
	m := example()
	sealed := func(folder string) Sealed {
		return Sealed{
			Name: SealedName{Folder: folder, Source: m.Source(), First: m.First, Random: "0123456789012345"}.String(), Bytes: 512,
			SHA256: strings.Repeat("78", 32), Content: strings.Repeat("9a", 32), Key: "hashivault://one#state",
		}
	}
	state := sealed(StateFolder)
	m.State, m.Recalls = &state, &Recalls{Count: 3, Sealed: sealed(RecallsFolder)}
	m.Judged = []string{strings.Repeat("bc", 32), strings.Repeat("de", 32)}
	return m
}

// The format is public: this test fails when the bytes of a manifest change.
func TestEncodeGolden(t *testing.T) {
	for golden, m := range map[string]*Manifest{golden: example(), goldenLearned: learned()} {
		got, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if os.Getenv("TASTER_UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("encoded:\n%s\nwant:\n%s", got, want)
		}
		back, err := Decode(want)
		if err != nil {
			t.Fatal(err)
		}
		if back.Name() != "_commits/reviews/~5FAAAAAAAQACAAAAAAAAAAQ/3/00000000000000000100.json" {
			t.Errorf("name %s", back.Name())
		}
	}
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"white space":       {`{"version"`, `{ "version"`},
		"unknown member":    {`{"version":1`, `{"version":1,"extra":0`},
		"repeated member":   {`"first":100`, `"first":100,"first":100`},
		"member in capital": {`"first"`, `"First"`},
		"escaped letter":    {`"reviews"`, `"review\u0073"`},
		"other number form": {`"risk":0.25`, `"risk":0.250`},
		"order":             {`"first":100,"next":200`, `"next":200,"first":100`},
		"version":           {`"version":1`, `"version":2`},
		"null list":         {`"detectors":["outlier/1","trigger/2"]`, `"detectors":null`},
		"count":             {`"accepted":80`, `"accepted":81`},
		"negative count":    {`"gaps":10`, `"gaps":-10`},
		"rows":              {`"rows":80`, `"rows":79`},
		"overflowing rows":  {`"rows":80`, `"rows":9223372036854775807`},
		"offset in name":    {`.00000000000000000100.00000000000000000200.0123456789abcdef.parquet","verdict":"accepted"`, `.00000000000000000101.00000000000000000200.0123456789abcdef.parquet","verdict":"accepted"`},
		"verdict":           {`"verdict":"quarantined"`, `"verdict":"accepted"`},
		"digest in capital": {`"contract":"34`, `"contract":"AB`},
		"no previous":       {`"previous":"` + strings.Repeat("12", 32), `"previous":"`},
		"range":             {`"next":200`, `"next":100`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1)
			if bytes.Equal(bad, good) {
				t.Fatal("the change does not apply")
			}
			if _, err := Decode(bad); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
	for name, bad := range map[string][]byte{
		"trailing": append(bytes.Clone(good), '\n'), "two": append(bytes.Clone(good), good...), "cut": good[:len(good)-1], "empty": nil,
	} {
		if _, err := Decode(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestEncodeRefusesNonsense(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"risk NaN":      func(m *Manifest) { m.Risk = math.NaN() },
		"threshold inf": func(m *Manifest) { inf := math.Inf(1); m.Threshold = &inf },
		"year":          func(m *Manifest) { m.Committed = math.MaxInt64 },
		"unsorted keys": func(m *Manifest) { m.Files[0].Keys = []string{"b", "a"} },
		"first file":    func(m *Manifest) { m.First = 0 },

		"judged twice by one":   func(m *Manifest) { m.Judged[1] = m.Judged[0] },
		"judged by nothing":     func(m *Manifest) { m.Judged[0] = "" },
		"another's state":       func(m *Manifest) { m.State.Name = strings.Replace(m.State.Name, "/3/", "/4/", 1) },
		"an earlier state":      func(m *Manifest) { m.State.Name = strings.Replace(m.State.Name, "100.", "099.", 1) },
		"recalls for a state":   func(m *Manifest) { m.State.Name = m.Recalls.Name },
		"a copy of a state":     func(m *Manifest) { m.State.Name = strings.Replace(m.State.Name, ".sealed", ".1.sealed", 1) },
		"a state without bytes": func(m *Manifest) { m.State.Bytes = 0 },
		"a state without key":   func(m *Manifest) { m.State.Key = "" },
		"no recalls":            func(m *Manifest) { m.Recalls.Count = 0 },
	} {
		m := learned()
		change(m)
		if _, err := m.Encode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestEscape(t *testing.T) {
	for plain, want := range map[string]string{
		"reviews": "reviews", "a.b_c-D9": "a.b_c-D9", "_hidden": "~5Fhidden", ".": "~2E", "..": "~2E.", "a/b": "a~2Fb",
		"k=v": "k~3Dv", "~": "~7E", "ü": "~C3~BC", "a b": "a~20b", "\x00": "~00",
	} {
		got := Escape(plain)
		if got != want {
			t.Errorf("Escape(%q) = %q, want %q", plain, got, want)
		}
		if back, err := Unescape(got); err != nil || back != plain {
			t.Errorf("Unescape(%q) = %q, %v", got, back, err)
		}
	}
	for _, bad := range []string{"", "~", "~2", "~zz", "~61", "~2f", "a/b", "_a", ".."} {
		if _, err := Unescape(bad); err == nil {
			t.Errorf("Unescape(%q) accepted what Escape never writes", bad)
		}
	}
}

func TestParseFileName(t *testing.T) {
	source := record.Source{Topic: "_a.b/c", ID: ".x.y-_", Partition: 7}
	want := NewFileName(finding.Rejected, source, 0, 5, 9, "00112233445566ff")
	got, err := ParseFileName(want.String())
	if err != nil || got != want {
		t.Fatalf("%s: got %+v, %v", want, got, err)
	}
	if s, first, err := ParseName(want.Decider()); err != nil || s != source || first != 5 {
		t.Errorf("%s: got %+v %d %v", want.Decider(), s, first, err)
	}
}

func TestParseSealedName(t *testing.T) {
	want := SealedName{Folder: RecallsFolder, Source: record.Source{Topic: "_a.b/c", ID: ".x.y-_", Partition: 7}, First: 5, Random: "0011223344556677"}
	for _, copied := range []int{0, 1, 12} {
		want.Copy = copied
		if got, err := ParseSealedName(want.String()); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", want, got, err)
		}
	}
	for _, bad := range []string{
		"", "_state/", "_state/a/b/0/1.0011223344556677.sealed", "_state/a/b/0/00000000000000000005.sealed", "_state/a/b/0/00000000000000000005.0011223344556677",
		"_state/a/b/0/00000000000000000005.0011223344556677.0.sealed", "_state/a/b/0/00000000000000000005.0011223344556677.01.sealed",
		"_states/a/b/0/00000000000000000005.0011223344556677.sealed", "_state/a/b/00000000000000000005.0011223344556677.sealed",
	} {
		if got, err := ParseSealedName(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.json")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds in testdata")
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version":1,"topic":"t","files":[{"name":"accepted/t/d/x.parquet"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error without ErrInvalid: %v", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("a manifest that was read is written otherwise: %v", err)
		}
	})
}

package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/verify"
)

const (
	fuzzedManifest = "_commits/reviews/AAAAAAAAAAAAAAAAAAAAAQ/3/00000000000000000000.json"
	fuzzedEntry    = "_audit/commits/reviews/AAAAAAAAAAAAAAAAAAAAAQ/3/00000000000000000000.json"
	fuzzedProcess  = "_audit/process/20260131T120000Z-0123456789abcdef/00000000000000000000.json"
)

// seeds returns golden files that other packages hold to the format.
func seeds(f *testing.F, pattern string) [][]byte {
	f.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds in %s", pattern)
	}
	var found [][]byte
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		found = append(found, data)
	}
	return found
}

// sealed gives an entry's body the digest that it needs, as who can write anywhere would.
func sealed(body []byte) []byte {
	body, _, _ = bytes.Cut(body, []byte(`,"digest":`))
	return fmt.Appendf(nil, `%s,"digest":"%s"}`, body, manifest.Digest(append(bytes.Clone(body), '}')))
}

// FuzzManifest puts any bytes where a manifest stands, twice in a row, with entries that vouch for them. Nothing may
// panic, and without an entry nothing passes.
func FuzzManifest(f *testing.F) {
	for _, seed := range seeds(f, "../../schema/manifest/testdata/*.json") {
		f.Add(seed)
	}
	for _, text := range []string{
		"", "{}", "null", "[]", `{"version":1}`, `{"version":1,"files":[{}]}`, `{"version":1,"files":[{"name":"_commits/../x","rows":-9223372036854775808}]}`,
		`{"version":1,"first":9223372036854775807,"next":-9223372036854775808,"gaps":9223372036854775807,"counts":null}`,
		`{"version":1,"topic":"\u0000/..","topic_id":"\ud800","partition":-2147483648}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		next := strings.Replace(fuzzedManifest, "0.json", "7.json", 1)
		zone := objects{fuzzedManifest: data, next: data, "accepted/x": nil}
		if run(t, zone, nil).OK {
			t.Error("a manifest without an entry passed")
		}
		for _, name := range []string{fuzzedManifest, next} {
			zone["_audit/commits/"+strings.TrimPrefix(name, "_commits/")] = sealed(fmt.Appendf(nil,
				`{"version":1,"event":"commit","object":"%s","object_sha256":"%s","previous":""`, name, manifest.Digest(data)))
		}
		if run(t, zone, nil).OK {
			t.Error("a file that nobody vouches for passed")
		}
	})
}

// FuzzEntry puts any bytes where audit entries stand, as they are and with the digest that they need.
func FuzzEntry(f *testing.F) {
	for _, seed := range seeds(f, "../audit/testdata/*.json") {
		f.Add(seed)
	}
	for _, text := range []string{"", "{}", `{"version":1`, `{"version":1,"event":"fit","result":"ok","object":""`, `{"version":1,"event":"fit","result":"ok","object":"_reference/x"`, `{"details":{"a":1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, entry := range [][]byte{data, sealed(data)} {
			if run(t, objects{fuzzedEntry: entry, fuzzedProcess: entry}, nil).OK {
				t.Error("an entry of a manifest that is not there passed")
			}
			run(t, objects{fuzzedProcess: entry, "_reference/x": data}, nil)
		}
	})
}

const (
	fuzzedChange     = "_changes/reviews/AAAAAAAAAAAAAAAAAAAAAQ/3/00000000000000000000.json"
	fuzzedCheckpoint = "_audit/checkpoints/00000000000000000001.note"
)

// FuzzChange puts any bytes where a change stands, with an entry that vouches for them. Nothing may panic, and what a
// change adds and removes must be there.
func FuzzChange(f *testing.F) {
	for _, seed := range seeds(f, "testdata/change.*.json") {
		f.Add(seed)
	}
	for _, text := range []string{
		"", "{}", `{"version":1}`, `{"version":1,"kind":"compact","removed":[{}],"added":[{}],"materials":[{}]}`,
		`{"version":1,"sequence":-1,"removed":[{"name":"accepted/reviews/x/A.0.00000000000000000000.00000000000000000001.0.parquet","rows":-9223372036854775808}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		zone := objects{fuzzedChange: data}
		if run(t, zone, nil).OK {
			t.Error("a change without an entry passed")
		}
		zone["_audit/"+fuzzedChange[1:]] = sealed(fmt.Appendf(nil, `{"version":1,"event":"rotate","object":"%s","object_sha256":"%s","previous":""`, fuzzedChange, manifest.Digest(data)))
		if run(t, zone, nil).OK {
			t.Error("a change of nothing passed")
		}
	})
}

// FuzzCheckpoint puts any bytes where a checkpoint stands. Nothing may panic, and nothing but the signed one passes for
// signed. As a kept one it is refused, or names what is not there.
func FuzzCheckpoint(f *testing.F) {
	golden := seeds(f, "../audit/testdata/*.note")
	key := seeds(f, "../audit/testdata/*.vkey")[0]
	for _, seed := range golden {
		f.Add(seed)
		f.Add(bytes.Replace(seed, []byte("checkpoint 1"), []byte("checkpoint 01"), 1))
		f.Add(bytes.ReplaceAll(seed, []byte("\n"), []byte("\n\n")))
	}
	for _, text := range []string{"", "\n\n", "\n\n— x \n", "taster landing zone x\ncheckpoint 0\ntime \nprevious none\n\n— x AAAA\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		report := run(t, objects{fuzzedCheckpoint: data, "_audit/keys/1.vkey": key}, nil)
		unsigned := false
		for _, p := range report.Problems {
			unsigned = unsigned || p.Object == fuzzedCheckpoint && (p.Code == "checkpoint_unsigned" || p.Code == "checkpoint_changed")
		}
		if unsigned == bytes.Equal(data, golden[0]) {
			t.Errorf("signed: %v; %+v", !unsigned, report.Problems)
		}
		report, err := verify.Run(t.Context(), objects{}, verify.Options{Checkpoint: data})
		if err == nil && report.OK {
			t.Error("an empty zone holds what a kept checkpoint names")
		}
	})
}

// FuzzVerifier reads any text as a public key: what is taken is written again just so.
func FuzzVerifier(f *testing.F) {
	for _, seed := range seeds(f, "../audit/testdata/*.vkey") {
		f.Add(string(seed))
		f.Add(strings.TrimSpace(string(seed)))
	}
	f.Fuzz(func(t *testing.T, line string) {
		key, err := verify.ParseVerifier(line)
		if err == nil && key.String() != strings.TrimSuffix(line, "\n") {
			t.Errorf("%q is written as %q", line, key)
		}
	})
}

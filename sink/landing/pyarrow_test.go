//go:build services

package landing

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/kmsclient/enginetest"
)

// The example in docs/ is what an engineer copies: it must read what is written here, restricted columns and several
// manifests included, and pass over what no manifest lists.
func TestPyarrowReads(t *testing.T) {
	python := enginetest.Python(t, "pyarrow.parquet.encryption", "cryptography")
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, "default", "quarantined", "medic"); err != nil {
		t.Fatal(err)
	}
	url := "keyfile://" + path + "#"
	keys, err := envelope.Settings{Zones: map[string]string{"default": url + "default", "quarantined": url + "quarantined", "restricted": url + "medic"}}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := posix(t, dir)
	z, err := Open(t.Context(), Options{Store: store, Keys: keys, Process: "p", GroupRows: 16})
	if err != nil {
		t.Fatal(err)
	}
	terms := &contract.Contract{Digest: accepted.Digest, Restricted: []string{"/note"}}
	h := head(t, z, nil)
	want := map[string]map[int64]bool{"accepted": {}, "quarantined": {}, "rejected": {}}
	for _, next := range []int64{100, 130} {
		seg := segment(h.Next(), next)
		for verdict, offsets := range map[string][]int64{
			"accepted": segmentOffsets(h.Next(), next, 0), "quarantined": segmentOffsets(h.Next(), next, 1), "rejected": segmentOffsets(h.Next(), next, 2),
		} {
			for _, offset := range offsets {
				want[verdict][offset] = true
			}
		}
		if h, err = z.Commit(t.Context(), seg, decide(seg), terms, h); err != nil {
			t.Fatal(err)
		}
		seg.Release()
	}
	if err := store.Put(t.Context(), "accepted/x/2026-01-01/orphan.parquet", []byte("PARE not to be read")); err != nil {
		t.Fatal(err)
	}
	// One file has expired: it does not count, though its bytes are there still.
	expired := h.Last.Files[0]
	change := &manifest.Change{Version: manifest.Version, Topic: source.Topic, TopicID: source.ID, Partition: source.Partition, Kind: manifest.Retain,
		Process: "p", Writer: strings.Repeat("0", 32), Rule: "test", Removed: []manifest.Removed{{Name: expired.Name, Rows: expired.Rows}},
		Added: []manifest.File{}, Materials: []manifest.Material{}}
	text, err := change.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), change.Name(), text); err != nil {
		t.Fatal(err)
	}
	if expired.Verdict != finding.Accepted {
		t.Fatalf("the first file of a manifest is %s", expired.Verdict)
	}
	maps.DeleteFunc(want["accepted"], func(offset int64, _ bool) bool { return offset >= 100 })
	for verdict, offsets := range want {
		cmd := exec.Command(python, "../../docs/pyarrow_read.py", dir, path, verdict)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", verdict, err)
		}
		lines := bufio.NewScanner(bytes.NewReader(out))
		n := 0
		for lines.Scan() {
			var row struct {
				ID       *int64  `json:"id"`
				Note     *string `json:"note"`
				Raw      *string `json:"taster_raw"`
				Topic    string  `json:"taster_topic"`
				Offset   int64   `json:"taster_offset"`
				Verdict  string  `json:"taster_verdict"`
				Provider *string `json:"taster_provider"`
			}
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				t.Fatalf("%v: %s", err, lines.Bytes())
			}
			n++
			if !offsets[row.Offset] || row.Verdict != verdict || row.Topic != source.Topic {
				t.Errorf("%s: unexpected row %s", verdict, lines.Bytes())
			}
			if verdict == "rejected" {
				if row.Raw == nil || row.ID != nil {
					t.Errorf("a rejected row: %s", lines.Bytes())
				}
			} else if row.ID == nil || *row.ID != row.Offset || row.Note == nil || row.Provider == nil || *row.Provider != "acme" {
				t.Errorf("a row: %s", lines.Bytes())
			}
		}
		if n != len(offsets) {
			t.Errorf("%s: %d rows, want %d", verdict, n, len(offsets))
		}
	}
}

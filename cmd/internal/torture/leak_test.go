//go:build linux

package torture

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNothingLeaks has records of every verdict, with something planted in them, go through instances of which one is
// killed and one prints all that it can, and through a backfill; then no byte of the zone, the logs, the metrics and
// the reports may hold what was planted, or a key.
func TestNothingLeaks(t *testing.T) {
	b := fakeBroker(t)
	k := &campaign{t: t, name: "leaks", broker: b, slow: 1, cycles: map[string]int{}}
	tr := newTruth(b.recreate(), rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)))
	s := newSite(t, t.TempDir(), b.addrs, newKeyService(t), "leaks", tr.marker, "external")
	defer func() { s.close(false) }()
	r := &round{site: s, broker: b, slow: k.slow, truth: tr}
	c := &cycle{round: r, rand: k.chance(0), fault: "leaks"}
	c.publish()
	p := c.start()
	if !p.await(`"msg":"segment committed"`, patience) { // with the recalls that only this build is sure to make
		t.Errorf("instance 0 committed nothing:\n%s", tail(p.text(), 5))
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	c.publish()
	p = c.start(kill("files_landed:1")) // leaves files behind that no manifest lists
	p.within(patience)
	if !strings.Contains(p.text(), "killpoint reached") {
		t.Errorf("instance 1 did not die where it should:\n%s", tail(p.text(), 5))
	}
	b.evict(s.group)
	c.publish()
	c.file()
	r.drain()
	for _, f := range r.faults {
		t.Error(f)
	}
	if _, saw, err := tr.count(s, b); err != nil {
		t.Errorf("%+v: %v", saw, err)
	}
	// A report quotes records, for who holds the keys: that is what its output is for. What goes elsewhere must not.
	for _, name := range []string{"report", "verify"} {
		var said, aside bytes.Buffer
		command := s.command(name, "-c", s.config, s.landing)
		command.Stdout, command.Stderr = &said, &aside
		_ = command.Run() // a report of poison is no success
		if name == "verify" {
			aside.Write(said.Bytes())
		}
		s.must(os.WriteFile(filepath.Join(s.dir, "logs", name+".out"), aside.Bytes(), 0o600))
	}
	if len(s.keys.seen) == 0 {
		t.Error("no key went through the key service: this proves nothing about them")
	}
	if err := s.sealed(tr.marker); err != nil {
		t.Error(err)
	}
	metrics, err := filepath.Glob(filepath.Join(s.dir, "logs", "*.metrics"))
	if err != nil || len(metrics) == 0 {
		t.Errorf("no metrics were looked at: %v", err)
	}
}

// TestNeedles plants every needle and wants it found: a search that finds nothing anywhere proves nothing.
func TestNeedles(t *testing.T) {
	secret := []byte("planted\x00secret\xff bytes")
	needles := map[string][]byte{}
	spell(needles, "it", secret)
	for name, hay := range map[string][]byte{
		"raw": secret, "as JSON holds bytes": []byte(base64.StdEncoding.EncodeToString(secret)),
		"within other bytes": []byte(base64.StdEncoding.EncodeToString(append([]byte("ab"), append(bytes.Clone(secret), "cde"...)...))),
		"in a URL":           []byte(base64.URLEncoding.EncodeToString(append([]byte("a"), secret...))),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), slices.Concat([]byte("before "), hay, []byte(" after")), 0o600); err != nil {
			t.Fatal(err)
		}
		if hits, _, err := leaks(needles, dir); err != nil || len(hits) == 0 {
			t.Errorf("%s: not found: %v", name, err)
		}
	}
	plain := t.TempDir()
	if err := os.WriteFile(filepath.Join(plain, "f.parquet"), []byte("PAR1 plain PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if hits, _, err := leaks(needles, plain); err != nil || len(hits) != 1 {
		t.Errorf("a file with a plain footer: %v %v", hits, err)
	}
}

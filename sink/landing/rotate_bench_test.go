package landing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
)

// slow is a key service that takes its time and is counted.
type slow struct {
	envelope.KMS
	takes time.Duration
}

func (s slow) WrapKey(ctx context.Context, key []byte, id string) (string, error) {
	time.Sleep(s.takes)
	return s.KMS.WrapKey(ctx, key, id)
}

func (s slow) UnwrapKey(ctx context.Context, wrapped, id string) ([]byte, error) {
	time.Sleep(s.takes)
	return s.KMS.UnwrapKey(ctx, wrapped, id)
}

// BenchmarkRotate changes the master keys of files with two data keys each, on a local disk, every write synced. A KEK
// serves for so many files as are written in ten minutes; a call of the key service takes 5 ms.
func BenchmarkRotate(b *testing.B) {
	for _, size := range []struct{ files, perKEK int }{{1_000, 60}, {10_000, 60}, {10_000, 1}} {
		b.Run(fmt.Sprintf("files=%d/per-KEK=%d", size.files, size.perKEK), func(b *testing.B) {
			calls := 0
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				master := fabricate(b, dir, size.files, size.perKEK)
				called := make(chan struct{}, 1<<20)
				keys, err := envelope.NewKeyring(
					map[envelope.Zone]envelope.MasterKey{envelope.Default: {KMS: slow{master, 5 * time.Millisecond}, ID: "new"}},
					envelope.Limits{Called: func(string, string, time.Duration, error) { called <- struct{}{} }},
					envelope.MasterKey{KMS: slow{master, 5 * time.Millisecond}, ID: "old"})
				if err != nil {
					b.Fatal(err)
				}
				z := external(b, posix(b, dir), keys)
				b.StartTimer()
				got, err := z.Rotate(b.Context(), Rotation{Rule: "bench", Changed: func(ctx context.Context, src record.Source) error {
					return audit.EnterChanges(ctx, z.Store(), src)
				}})
				if err != nil || got.Rotated != int64(size.files) {
					b.Fatal(got, err)
				}
				calls += len(called)
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/run")
			b.ReportMetric(float64(calls)/float64(b.N), "key-calls/run")
		})
	}
}

// fabricate puts manifests and sidecars of files into a folder, without the files, which no rotation opens.
func fabricate(b *testing.B, dir string, files, perKEK int) *envelope.KeyFile {
	b.Helper()
	path := filepath.Join(b.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(path, "old", "new"); err != nil {
		b.Fatal(err)
	}
	master, err := envelope.LoadKeyFile(path)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := envelope.NewKeyring(map[envelope.Zone]envelope.MasterKey{envelope.Default: {KMS: master, ID: "old"}}, envelope.Limits{Uses: perKEK})
	if err != nil {
		b.Fatal(err)
	}
	write := func(name string, data []byte) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	const partitions = 8
	previous := [partitions]string{}
	digest := sha256.Sum256(nil)
	for i := range files {
		src := record.Source{Topic: "flights", ID: "x", Partition: int32(i % partitions)}
		first := int64(i / partitions)
		name := manifest.NewFileName(finding.Accepted, src, 0, first, first+1, randomHex(8)).String()
		side := &envelope.Sidecar{}
		for _, footer := range []bool{true, false} {
			if _, err := keys.NewExternalDataKey(b.Context(), map[bool]envelope.Zone{true: envelope.Accepted, false: envelope.Restricted}[footer], footer, side); err != nil {
				b.Fatal(err)
			}
		}
		text, err := side.Encode()
		if err != nil {
			b.Fatal(err)
		}
		m := &manifest.Manifest{
			Version: manifest.Version, Topic: src.Topic, TopicID: src.ID, Partition: src.Partition, First: first, Next: first + 1, Process: "p",
			Writer: randomHex(16), Previous: previous[src.Partition], Contract: hex.EncodeToString(digest[:]), Detectors: []string{}, Reasons: map[finding.Code]int64{},
			Counts: manifest.Counts{Accepted: 1},
			Files: []manifest.File{{
				Name: name, Verdict: finding.Accepted, Rows: 1, Bytes: 1, SHA256: hex.EncodeToString(digest[:]), Content: hex.EncodeToString(digest[:]),
				Keys: side.MasterKeyIDs(), Material: manifest.Digest(text),
			}},
		}
		data, err := m.Encode()
		if err != nil {
			b.Fatal(err)
		}
		previous[src.Partition] = manifest.Digest(data)
		write(m.Name(), data)
		write(envelope.SidecarName(name), text)
	}
	return master
}

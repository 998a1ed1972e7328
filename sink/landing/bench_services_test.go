//go:build services

package landing

import (
	"testing"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest/servers"
)

// BenchmarkCommitTo is BenchmarkCommit in the buckets of object stores on this machine: what the protocol costs without
// a network.
func BenchmarkCommitTo(b *testing.B) {
	for _, backend := range []struct {
		name  string
		start func(testing.TB) string
	}{{"s3", servers.S3}, {"azblob", servers.Azure}, {"gs", servers.GCS}} {
		b.Run(backend.name, func(b *testing.B) {
			store, err := storage.Open(b.Context(), backend.start(b))
			if err != nil {
				b.Fatal(err)
			}
			commits(b, store)
		})
	}
}

//go:build services

package storage_test

import (
	"fmt"
	"testing"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest"
	"github.com/tasterhq/taster/sink/storage/storagetest/servers"
)

// stores are the real servers that every provider's client is tested against.
var stores = []struct {
	name  string
	start func(testing.TB) *servers.Server
}{{"s3", servers.StartS3}, {"azure", servers.StartAzure}, {"gcs", servers.StartGCS}}

func TestStoreConforms(t *testing.T) {
	for _, one := range stores {
		t.Run(one.name, func(t *testing.T) {
			server := one.start(t)
			n := 0
			storagetest.Run(t, func(t *testing.T) storage.Store {
				n++
				s, err := storage.Open(t.Context(), fmt.Sprintf("%s&prefix=suite/%d", server.URL(), n))
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

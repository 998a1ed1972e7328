package storage_test

import (
	"testing"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest"
)

func TestPosixConforms(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s, err := storage.Open(t.Context(), "file://"+t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestBucketConforms(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		b := storage.NewMemory()
		if err := b.Prove(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b
	})
}

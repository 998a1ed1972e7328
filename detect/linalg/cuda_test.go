//go:build cuda && cgo && linux && amd64

package linalg_test

import (
	"testing"

	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/linalg/linalgtest"
)

// device opens the first device: the emulated one under make test-cuda, a real one under make test-gpu.
func device(t *testing.T, o linalg.CUDAOptions) *linalg.CUDA {
	t.Helper()
	e, err := linalg.OpenCUDA(o)
	if err != nil {
		t.Fatalf("%v; make test-cuda brings an emulated device, make test-gpu wants a real one", err)
	}
	t.Cleanup(e.Close)
	t.Logf("%+v, driver %s", e.Device(), linalg.Driver())
	return e
}

func TestCUDAConformance(t *testing.T) {
	linalgtest.Run(t, device(t, linalg.CUDAOptions{}), 0)
}

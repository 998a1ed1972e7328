//go:build cuda && cgo && linux && amd64

// Package driver makes a binary that contains gorgonia.org/cu start on every machine: it defines the functions of the CUDA driver that
// cu refers to, and has them looked up once somebody wants to know whether there is a driver. See shim.c.
//
// It needs nothing of CUDA to be built or linked. Who builds cu needs its header and, for the linker's -lcuda, the folder link.
package driver

// #cgo LDFLAGS: -ldl
// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

var open = sync.OnceFunc(func() { C.taster_cuda_open() })

// Reason opens the driver when it is first asked, and says why there is none to call; it is empty when there is one. Before that all of cu's
// functions say that there is no device.
func Reason() string {
	open()
	return C.GoString(C.taster_cuda_reason())
}

// Error is a result of the driver that is not success; cu's errors have the same numbers.
type Error int

func (e Error) Error() string { return fmt.Sprintf("CUDA error %d", int(e)) }

// HostAlloc returns page-locked memory, which a device reads and writes while the processor goes on. It goes with the context.
func HostAlloc(bytes int) (unsafe.Pointer, error) {
	var at unsafe.Pointer
	if code := C.taster_cuda_host_alloc(&at, C.size_t(bytes)); code != 0 {
		return nil, Error(code)
	}
	return at, nil
}

//go:build cuda && cgo && linux && amd64

// Package driver makes a binary that contains gorgonia.org/cu start on every machine: it defines the functions of the CUDA driver that
// cu refers to, and has them looked up when the process starts, if there is a driver. See shim.c.
//
// It needs nothing of CUDA to be built or linked. Who builds cu needs its header and, for the linker's -lcuda, the folder link.
package driver

// #cgo LDFLAGS: -ldl
// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Reason says why there is no driver to call, and is empty when there is one. The process looked once, as it started.
func Reason() string { return C.GoString(C.taster_cuda_reason()) }

// Status is what the driver's cuInit answered; 100, no device, where there is no driver.
func Status() int { return int(C.taster_cuda_status()) }

// Error is a result of the driver that is not success; cu's errors have the same numbers.
type Error int

func (e Error) Error() string { return fmt.Sprintf("CUDA error %d", int(e)) }

// HostAlloc returns page-locked memory, which a device reads and writes while the processor goes on.
func HostAlloc(bytes int) (unsafe.Pointer, error) {
	var at unsafe.Pointer
	if code := C.taster_cuda_host_alloc(&at, C.size_t(bytes)); code != 0 {
		return nil, Error(code)
	}
	return at, nil
}

// HostFree gives it back.
func HostFree(at unsafe.Pointer) error {
	if code := C.taster_cuda_host_free(at); code != 0 {
		return Error(code)
	}
	return nil
}

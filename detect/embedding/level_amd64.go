package embedding

import "golang.org/x/sys/cpu"

//go:generate sh -c "cd gen && go run . -pkg embedding -out ../kernels_amd64.s -stubs ../kernels_amd64.go"

// available tells whether the processor reads texts 64 bytes at a time.
var available = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VBMI2 &&
	cpu.X86.HasBMI1 && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT

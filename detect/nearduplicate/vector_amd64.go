package nearduplicate

import "golang.org/x/sys/cpu"

//go:generate sh -c "cd gen && go run . -pkg nearduplicate -out ../kernels_amd64.s -stubs ../kernels_amd64.go"

func init() {
	x := &cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasAVX512VBMI2 &&
		x.HasAVX512VPOPCNTDQ && x.HasBMI1 && x.HasBMI2 && x.HasPOPCNT {
		vectors = &kernels{pairs: pairsAVX512, bandKeys: bandKeysAVX512}
	}
}

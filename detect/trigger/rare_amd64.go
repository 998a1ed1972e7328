package trigger

import "golang.org/x/sys/cpu"

//go:generate sh -c "cd gen && go run . -pkg trigger -out ../kernels_amd64.s -stubs ../kernels_amd64.go"

func init() {
	if x := &cpu.X86; x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasPOPCNT {
		rareKernel = rareAVX512
		if x.HasAVX512VPOPCNTDQ {
			wordsKernel, featuresKernel, numbersKernel = wordsAVX512, featuresAVX512, numbersAVX512
		}
		evidenceKernel = evidenceAVX512
	}
}

package validate

import "golang.org/x/sys/cpu"

//go:generate sh -c "cd gen && go run . -pkg validate -out ../kernels_amd64.s -stubs ../kernels_amd64.go"

func init() {
	if cpu.X86.HasAVX2 && cpu.X86.HasBMI1 {
		levels = append(levels, &instructions{name: "AVX2", plain: plainAVX2})
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasBMI1 && cpu.X86.HasBMI2 {
		levels = append(levels, &instructions{
			name: "AVX-512", plain: plainAVX512,
			float32s: [2]func(*float32, *byte, int) (int, int){fractions32, fractions32Spaced},
			float64s: [2]func(*float64, *byte, int) (int, int){fractions64, fractions64Spaced},
		})
	}
}

// What kernels need of the machine, and nothing else: threads, barriers, shuffles, memory that a block shares, a matrix instruction.
// Compiled for the device these are PTX instructions; compiled for the CPU they are calls of the emulator.
#pragma once

typedef float float4v __attribute__((vector_size(16)));

#ifdef __CUDA__

#define KERNEL extern "C" __attribute__((global)) __attribute__((launch_bounds(256))) void
#define DEVICE static inline __attribute__((device)) __attribute__((always_inline))
#define DEVICE_METHOD __attribute__((device)) __attribute__((always_inline)) inline

#include "kernels.h"

DEVICE int thread_x() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE int64_t block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE int64_t block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE int64_t block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE int64_t grid_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEVICE int64_t grid_y() { return __nvvm_read_ptx_sreg_nctaid_y(); }

DEVICE void block_barrier() { __syncthreads(); }
DEVICE void warp_barrier() { __nvvm_bar_warp_sync(0xffffffffu); }
DEVICE uint32_t warp_xor(uint32_t v, int lanes) { return __nvvm_shfl_sync_bfly_i32(0xffffffffu, v, lanes, 31); }
DEVICE uint64_t warp_xor64(uint64_t v, int lanes) {
    uint32_t low = warp_xor((uint32_t)v, lanes), high = warp_xor((uint32_t)(v >> 32), lanes);
    return (uint64_t)high << 32 | low;
}
DEVICE uint32_t warp_ballot(bool v) { return __nvvm_vote_ballot_sync(0xffffffffu, v); }
DEVICE uint32_t warp_total(uint32_t v) {
    uint32_t total;
    asm volatile("redux.sync.add.u32 %0, %1, 0xffffffff;" : "=r"(total) : "r"(v));
    return total;
}
DEVICE uint32_t warp_largest(uint32_t v) {
    uint32_t largest;
    asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(largest) : "r"(v));
    return largest;
}

DEVICE int count_bits(uint32_t v) { return __builtin_popcount(v); }
DEVICE float fused(float a, float b, float c) { return __nvvm_fma_rn_f(a, b, c); }
DEVICE double fused(double a, double b, double c) { return __nvvm_fma_rn_d(a, b, c); }
DEVICE float root(float v) { return __nvvm_sqrt_rn_f(v); }
DEVICE double root(double v) { return __nvvm_sqrt_rn_d(v); }
DEVICE uint32_t bits_of(float v) { return __builtin_bit_cast(uint32_t, v); }
DEVICE float float_of(uint32_t v) { return __builtin_bit_cast(float, v); }
DEVICE uint64_t bits_of(double v) { return __builtin_bit_cast(uint64_t, v); }
DEVICE double double_of(uint64_t v) { return __builtin_bit_cast(double, v); }

// Memory of the block: named by SHARED, or a part of global memory that no other block touches (private_memory).
template <class T> struct Shared {
    T *at;
    DEVICE_METHOD T get(int64_t i) const { return at[i]; }
    DEVICE_METHOD void set(int64_t i, T v) const { at[i] = v; }
    // Four elements from i, a multiple of 4.
    DEVICE_METHOD float4v get4(int64_t i) const { return *(const float4v *)(at + i); }
    DEVICE_METHOD void set4(int64_t i, float4v v) const { *(float4v *)(at + i) = v; }
    // Adds and returns what was there before; for int.
    DEVICE_METHOD T add(int64_t i, T v) const { return __nvvm_atom_add_gen_i(at + i, v); }
};
#define SHARED(T, name, n)                                                                                                               \
    static __attribute__((shared)) __attribute__((aligned(16))) T name##_memory[n];                                                      \
    const Shared<T> name = {name##_memory}
template <class T> DEVICE Shared<T> private_memory(T *at, int64_t) { return Shared<T>{at}; }

// c += a b for a warp's 16 x 8 tile and 16 columns of depth, a and b in bfloat16, two to a register, c in float32. Who holds what: PTX ISA, "Matrix Fragments for mma.m16n8k16".
DEVICE void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same value, of which the compiler knows nothing: what is computed from it stays where it is written. Without this it computes a hundred addresses before the first product and keeps them in registers.
DEVICE int anchored(int v) {
    asm volatile("" : "+r"(v));
    return v;
}

// Two floats rounded to the nearest bfloat16, the first in the lower half.
DEVICE uint32_t pack_bf16(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#else

#include "../emulator/device.h"
#define KERNEL extern "C" void
#define DEVICE static inline
#define DEVICE_METHOD inline
#include "kernels.h"

#endif

// Adds up over the lanes of a warp, in one order for all.
DEVICE float warp_sum(float v) {
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) v += float_of(warp_xor(bits_of(v), lanes));
    return v;
}
DEVICE double warp_sum(double v) {
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) v += double_of(warp_xor64(bits_of(v), lanes));
    return v;
}

// All floats but NaN numbered in their order; the inverse.
DEVICE uint32_t place(float v) {
    uint32_t b = bits_of(v);
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}
DEVICE float at_place(uint32_t p) { return float_of(p & 0x80000000u ? p & 0x7fffffffu : ~p); }

DEVICE float infinity() { return float_of(0x7f800000u); }
DEVICE float not_a_number() { return float_of(0x7fc00000u); }
DEVICE bool takes_part(float squares) { return squares <= 1e37f; }

// The product of two tiles of prepared rows on tensor cores, to about what float32 units make of it.
//
// A float32 is the exact sum of three bfloat16, rounded to nearest: high holds the first 8 of its 24 digits, middle and low what is left over each time. Of the nine products of two such sums
// six are made: high high, high middle and low high, middle middle; each of the others is at most 2^-25 of the whole (Henry, Tang, Heinecke, "Leveraging the
// bfloat16 artificial intelligence datatype for higher-precision computations", ARITH 2019). Tensor cores add up by cutting off, always towards zero, so that a long sum drifts; here they add only
// the products of 16 columns, the small ones first, and these parts are added by float32 units, which round to nearest (Ootomo, Yokota, "Recovering single precision accuracy from Tensor Cores",
// International Journal of High Performance Computing Applications 2022). The error of a product is then at most
// (d/16 + 2.2 min(d, 16) + 6) 2^-24 ||q|| ||p||, whatever the sign of its addends: an instruction loses 2^-23 of its largest addend for each of up to 18 numbers, and only the last of six has large ones; 1 is
// for the products that are not made, and d/16 for the parts. One after the other float32 units lose up to d 2^-24, so that this is the better from 48 columns on.
//
// Six instructions in bfloat16, at twice the rate of TF32, cost what three in TF32 would; those would leave 2^-22.
#pragma once
#include "tile.cuh"

enum {
    PLANES = 3,                              // high, middle, low
    PAIRS = DEPTH_STEP / 2,                  // of bfloat16 in a row of a plane
    PAIR_LINE = PAIRS + 4,                   // 12: rows of eight lanes fall into different banks
    PLANE = TILE * PAIR_LINE,
    TENSOR_STAGE = PLANES * PLANE,
    DOWN = 4, ACROSS = 4,                    // matrix instructions along the sides of a warp's part of the tile: 64 x 32 of it
    WARPS_ACROSS = TILE / (ACROSS * 8),
};

struct TensorTile {
    Shared<uint32_t> as, bs; // [PLANES][TILE][PAIR_LINE]

    // Where a thread's sums stand in the tile: (i, j, n) is sum n of the instruction i down, j across.
    static DEVICE_METHOD int row(int i, int n) { return thread_x() / WARP / WARPS_ACROSS * DOWN * 16 + i * 16 + n / 2 * 8 + thread_x() % WARP / 4; }
    static DEVICE_METHOD int column(int j, int n) { return thread_x() / WARP % WARPS_ACROSS * ACROSS * 8 + j * 8 + thread_x() % 4 * 2 + n % 2; }

    static DEVICE_METHOD void store(const Shared<uint32_t> &to, int part, float4v v) {
        int64_t at = thread_x() / 4 * PAIR_LINE + thread_x() % 4 * 2;
#pragma unroll
        for (int plane = 0; plane < PLANES; plane++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                uint32_t pair = pack_bf16(v[2 * h], v[2 * h + 1]);
                to.set(at + (plane * PLANE + part * (TILE / 2) * PAIR_LINE + h), pair);
                v[2 * h] -= float_of(pair << 16); // exact
                v[2 * h + 1] -= float_of(pair & 0xffff0000u);
            }
    }

    // sum = a * transpose(b) over so many steps, at least one. All threads of the block must call it; no other barrier is needed for its memory.
    DEVICE_METHOD void product(const PreparedRows &a, const PreparedRows &b, int64_t steps, float (&sum)[DOWN][ACROSS][4]) const {
        // One address for each tile, to which the rest adds constants, keeps a hundred registers free.
        int lane = thread_x() % WARP;
        int64_t left = row(0, 0) * PAIR_LINE + lane % 4, right = (column(0, 0) - lane % 4 * 2 + lane / 4) * PAIR_LINE + lane % 4;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
#pragma unroll
                for (int n = 0; n < 4; n++) sum[i][j][n] = 0;
        float4v fa[2], fb[2];
#pragma unroll
        for (int part = 0; part < 2; part++) fa[part] = a.fetch(0, part), fb[part] = b.fetch(0, part);
        int64_t s = 0;
        do {
#pragma unroll
            for (int part = 0; part < 2; part++) {
                store(as, part, fa[part]);
                store(bs, part, fb[part]);
            }
            block_barrier();
            if (++s < steps) { // on their way while these are multiplied
#pragma unroll
                for (int part = 0; part < 2; part++) fa[part] = a.fetch(s, part), fb[part] = b.fetch(s, part);
            }
            uint32_t y[PLANES][ACROSS][2];
#pragma unroll
            for (int plane = 0; plane < PLANES; plane++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++)
#pragma unroll
                    for (int n = 0; n < 2; n++) y[plane][j][n] = bs.get(right + (plane * PLANE + j * 8 * PAIR_LINE + n * 4));
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                uint32_t x[PLANES][4];
#pragma unroll
                for (int plane = 0; plane < PLANES; plane++)
#pragma unroll
                    for (int n = 0; n < 4; n++) x[plane][n] = as.get(left + (plane * PLANE + (i * 16 + n % 2 * 8) * PAIR_LINE + n / 2 * 4));
                float part[ACROSS][4];
#pragma unroll
                for (int j = 0; j < ACROSS; j++)
#pragma unroll
                    for (int n = 0; n < 4; n++) part[j][n] = 0;
#pragma unroll
                for (int small = 2; small >= 0; small--)
#pragma unroll
                    for (int plane = 0; plane <= small; plane++)
#pragma unroll
                        for (int j = 0; j < ACROSS; j++) multiply_bf16(part[j], x[plane], y[small - plane][j]);
#pragma unroll
                for (int j = 0; j < ACROSS; j++)
#pragma unroll
                    for (int n = 0; n < 4; n++) sum[i][j][n] += part[j][n];
            }
            block_barrier();
        } while (s < steps);
    }
};

// The product of two tiles in float32 units: TILE x TILE sums, of which each thread keeps 8 x 8 in registers.
//
// Both tiles pass through the block's memory DEPTH_STEP columns at a time, in two buffers, so that one barrier a step is enough and the next step's loads are under way while this one
// is multiplied. Values stand there column by column, so that a thread reads four rows at once.
#pragma once
#include "device.h"

enum {
    SIDE = 16,                     // threads along a side of the tile
    LINE = TILE + 4,               // of a column in shared memory; 4 more keep stores of different columns off each other's banks
    STAGE = DEPTH_STEP * LINE,     // one buffer
    STAGES = 2 * STAGE,
};

// Row or column of the tile that sum i of a thread belongs to, which is the at-th along that side: two groups of four, half a tile apart, because threads beside each other then read
// memory beside each other.
DEVICE int tile_line(int at, int i) { return i / 4 * (TILE / 2) + at * 4 + i % 4; }

// Four values along a row that may end or be unaligned.
DEVICE float4v load_row(const float *row, int64_t cols, int64_t c, bool aligned) {
    float4v v = {0, 0, 0, 0};
    if (aligned && c + 4 <= cols) return *(const float4v *)(row + c);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (c + i < cols) v[i] = row[c + i];
    return v;
}
DEVICE bool is_aligned(const float *at, int64_t stride) { return (((uint64_t)at | (uint64_t)(stride * 4)) & 15) == 0; }

// What a thread brings of TILE rows of a row-major matrix: four columns of rows thread/4 and thread/4 + TILE/2.
struct ByRow {
    static DEVICE_METHOD void store(const Shared<float> &to, int64_t base, int part, float4v v) {
        int64_t at = base + thread_x() % 4 * 4 * LINE + thread_x() / 4;
#pragma unroll
        for (int i = 0; i < 4; i++) to.set(at + (i * LINE + part * (TILE / 2)), v[i]);
    }
};

struct PreparedRows : ByRow {
    const float *at; // the first row of the tile
    int64_t depth;
    DEVICE_METHOD float4v fetch(int64_t step, int part) const {
        return *(const float4v *)(at + (thread_x() / 4 + part * (TILE / 2)) * depth + step * DEPTH_STEP + thread_x() % 4 * 4);
    }
};

struct RawRows : ByRow {
    const float *at;
    int64_t rows, cols, stride; // rows from the first of the tile on
    const float *origin;        // or 0
    bool aligned;
    DEVICE_METHOD float4v fetch(int64_t step, int part) const {
        int64_t row = thread_x() / 4 + part * (TILE / 2), c = step * DEPTH_STEP + thread_x() % 4 * 4;
        float4v v = {0, 0, 0, 0};
        if (row >= rows) return v;
        v = load_row(at + row * stride, cols, c, aligned);
        if (origin) v -= load_row(origin, cols, c, false);
        return v;
    }
};

// TILE columns of a row-major matrix, depth running along its rows: a thread brings four columns of rows thread/WARP and thread/WARP + WARPS of each step.
struct RawColumns {
    const float *at; // the first row, the first column of the tile
    int64_t rows, cols, stride;
    const float *origin, *norm; // or 0
    bool aligned;
    DEVICE_METHOD float4v fetch(int64_t step, int part) const {
        int64_t row = step * DEPTH_STEP + thread_x() / WARP + part * WARPS, c = thread_x() % WARP * 4;
        float4v v = {0, 0, 0, 0};
        if (row >= rows || (norm && !takes_part(norm[row]))) return v;
        v = load_row(at + row * stride, cols, c, aligned);
        if (origin) v -= load_row(origin, cols, c, false);
        return v;
    }
    static DEVICE_METHOD void store(const Shared<float> &to, int64_t base, int part, float4v v) {
        int64_t at = base + thread_x() / WARP * LINE + thread_x() % WARP * 4;
        to.set4(at + part * WARPS * LINE, v);
    }
};

// sum = a * transpose(b) over so many steps; none is one of zeros. as and bs have STAGES elements. All threads of the block must call it, and as and bs need no other barrier.
template <class A, class B>
DEVICE void tile_product(const A &a, const B &b, int64_t steps, const Shared<float> &as, const Shared<float> &bs, float (&sum)[8][8]) {
    int ty = thread_x() / SIDE, tx = thread_x() % SIDE;
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = 0;
    float4v fa[2], fb[2];
#pragma unroll
    for (int part = 0; part < 2; part++) {
        A::store(as, 0, part, a.fetch(0, part));
        B::store(bs, 0, part, b.fetch(0, part));
    }
    block_barrier();
    for (int64_t s = 0; s < steps; s++) {
        int64_t here = s % 2 * STAGE, next = STAGE - here;
        int64_t left = here + ty * 4, right = here + tx * 4; // addresses to which the rest adds constants
        bool more = s + 1 < steps;
        if (more) {
#pragma unroll
            for (int part = 0; part < 2; part++) fa[part] = a.fetch(s + 1, part), fb[part] = b.fetch(s + 1, part);
        }
#pragma unroll
        for (int c = 0; c < DEPTH_STEP; c++) {
            float4v x[2], y[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                x[h] = as.get4(left + (c * LINE + h * (TILE / 2)));
                y[h] = bs.get4(right + (c * LINE + h * (TILE / 2)));
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] = fused(x[i / 4][i % 4], y[j / 4][j % 4], sum[i][j]);
        }
        if (more) {
#pragma unroll
            for (int part = 0; part < 2; part++) {
                A::store(as, next, part, fa[part]);
                B::store(bs, next, part, fb[part]);
            }
        }
        block_barrier();
    }
}

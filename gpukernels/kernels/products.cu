// Products of matrices, and what is made of them before they reach memory: covariance, Mahalanobis distances, assignment to centroids, a step towards leading directions.
#include "tensor.cuh"
#include "tile.cuh"

KERNEL product_f32(const float *a, int64_t n, int64_t astride, const float *b, int64_t m, int64_t bstride, int64_t d, float *dst, int64_t dstride) {
    SHARED(float, as, STAGES);
    SHARED(float, bs, STAGES);
    int ty = thread_x() / SIDE, tx = thread_x() % SIDE;
    int64_t row = block_y() * TILE, column = block_x() * TILE;
    if (row >= n || column >= m) return; // the whole block
    RawRows x, y;
    x.at = a + row * astride, x.rows = n - row, x.cols = d, x.stride = astride, x.origin = 0, x.aligned = is_aligned(a, astride);
    y.at = b + column * bstride, y.rows = m - column, y.cols = d, y.stride = bstride, y.origin = 0, y.aligned = is_aligned(b, bstride);
    float sum[8][8];
    tile_product(x, y, (d + DEPTH_STEP - 1) / DEPTH_STEP, as, bs, sum);
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int64_t r = row + tile_line(ty, i), c = column + tile_line(tx, j);
            if (r < n && c < m) dst[r * dstride + c] = sum[i][j];
        }
}

KERNEL product_tensor(const float *a, int64_t n, const float *b, int64_t m, int64_t depth, float *dst, int64_t dstride) {
    SHARED(uint32_t, as, TENSOR_STAGE);
    SHARED(uint32_t, bs, TENSOR_STAGE);
    TensorTile both = {as, bs};
    int64_t row = block_y() * TILE, column = block_x() * TILE;
    if (row >= n || column >= m) return;
    PreparedRows x, y;
    x.at = a + row * depth, y.at = b + column * depth;
    x.depth = y.depth = depth;
    float sum[DOWN][ACROSS][4];
    both.product(x, y, depth / DEPTH_STEP, sum);
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int64_t r = row + TensorTile::row(i, k), c = column + TensorTile::column(j, k);
                if (r < n && c < m) dst[r * dstride + c] = sum[i][j][k];
            }
}

KERNEL covariance_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm, int64_t chunk, float *parts) {
    SHARED(float, as, STAGES);
    SHARED(float, bs, STAGES);
    int ty = thread_x() / SIDE, tx = thread_x() % SIDE;
    int64_t left = block_y() * TILE, right = block_x() * TILE, first = block_z() * chunk;
    // Symmetric: blocks on one side of the diagonal write both.
    if (right < left || right >= cols || first >= rows) return;
    int64_t n = rows - first < chunk ? rows - first : chunk;
    RawColumns a, b;
    a.at = x + first * stride + left, a.cols = cols - left, a.origin = origin ? origin + left : 0;
    b.at = x + first * stride + right, b.cols = cols - right, b.origin = origin ? origin + right : 0;
    a.rows = b.rows = n, a.stride = b.stride = stride, a.norm = b.norm = norm ? norm + first : 0, a.aligned = b.aligned = is_aligned(x, stride);
    float sum[8][8];
    tile_product(a, b, (n + DEPTH_STEP - 1) / DEPTH_STEP, as, bs, sum);
    float *part = parts + block_z() * cols * cols;
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int64_t r = left + tile_line(ty, i), c = right + tile_line(tx, j);
            if (r >= cols || c >= cols || r > c) continue;
            part[r * cols + c] = sum[i][j];
            part[c * cols + r] = sum[i][j];
        }
}

KERNEL mahalanobis_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm,
                       const float *factor, int64_t rank, int64_t fstride, float *distance) {
    SHARED(float, as, STAGES);
    SHARED(float, bs, STAGES);
    int ty = thread_x() / SIDE, tx = thread_x() % SIDE;
    int64_t row = block_x() * TILE;
    if (row >= rows) return;
    RawRows a, b;
    a.at = x + row * stride, a.rows = rows - row, a.cols = cols, a.stride = stride, a.origin = origin, a.aligned = is_aligned(x, stride);
    b.cols = cols, b.stride = fstride, b.origin = 0, b.aligned = is_aligned(factor, fstride);
    float squares[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int64_t tile = 0; tile < rank; tile += TILE) {
        float sum[8][8];
        b.at = factor + tile * fstride, b.rows = rank - tile;
        tile_product(a, b, (cols + DEPTH_STEP - 1) / DEPTH_STEP, as, bs, sum);
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 8; j++) squares[i] = fused(sum[i][j], sum[i][j], squares[i]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int lanes = SIDE / 2; lanes > 0; lanes /= 2) squares[i] += float_of(warp_xor(bits_of(squares[i]), lanes));
        int64_t r = row + tile_line(ty, i);
        if (tx == 0 && r < rows) distance[r] = takes_part(norm[r]) ? root(squares[i]) : not_a_number();
    }
}

KERNEL kmeans_assign_f32(const float *x, const float *xbias, int64_t rows, const float *c, const float *cbias, int64_t centroids, int64_t depth,
                         int32_t *assigned, float *key) {
    SHARED(float, as, STAGES);
    SHARED(float, bs, STAGES);
    int ty = thread_x() / SIDE, tx = thread_x() % SIDE;
    int64_t row = block_x() * TILE;
    if (row >= rows) return;
    PreparedRows a, b;
    a.at = x + row * depth;
    a.depth = b.depth = depth;
    float least[8];
    int32_t which[8];
#pragma unroll
    for (int i = 0; i < 8; i++) least[i] = infinity(), which[i] = -1;
    for (int64_t tile = 0; tile < centroids; tile += TILE) {
        float sum[8][8];
        b.at = c + tile * depth;
        tile_product(a, b, depth / DEPTH_STEP, as, bs, sum);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int64_t column = tile + tile_line(tx, j);
            float bias = cbias[column];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float v = fused(-2.0f, sum[i][j], bias);
                if (v < least[i]) least[i] = v, which[i] = (int32_t)column;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int lanes = SIDE / 2; lanes > 0; lanes /= 2) {
            float v = float_of(warp_xor(bits_of(least[i]), lanes));
            int32_t w = (int32_t)warp_xor((uint32_t)which[i], lanes);
            if (v < least[i] || (v == least[i] && (uint32_t)w < (uint32_t)which[i])) least[i] = v, which[i] = w;
        }
        int64_t r = row + tile_line(ty, i);
        if (tx != 0 || r >= rows) continue;
        bool part = xbias[r] < infinity() && which[i] >= 0;
        assigned[r] = part ? which[i] : -1;
        if (key) key[r] = part ? least[i] : not_a_number();
    }
}

KERNEL subspace_step_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm,
                         const float *v, int64_t directions, int64_t vstride, float *parts) {
    enum { EACH = WARP / WARPS }; // rows of a warp
    SHARED(float, along, WARP * MAX_DIRECTIONS);
    int lane = thread_x() % WARP, warp = thread_x() / WARP;
    parts += block_x() * directions * cols;
    for (int64_t i = thread_x(); i < cols; i += BLOCK_THREADS)
        for (int64_t j = 0; j < directions; j++) parts[j * cols + i] = 0;
    for (int64_t first = block_x() * WARP; first < rows; first += grid_x() * WARP) {
        // Rows times directions: a warp for four rows, its lanes along the columns.
        float sum[EACH][MAX_DIRECTIONS];
        bool part[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int64_t r = first + warp * EACH + e;
            part[e] = r < rows && (!norm || takes_part(norm[r]));
#pragma unroll
            for (int j = 0; j < MAX_DIRECTIONS; j++) sum[e][j] = 0;
        }
        for (int64_t c = lane; c < cols; c += WARP) {
            float value[EACH];
#pragma unroll
            for (int e = 0; e < EACH; e++)
                value[e] = part[e] ? x[(first + warp * EACH + e) * stride + c] - (origin ? origin[c] : 0) : 0;
#pragma unroll
            for (int j = 0; j < MAX_DIRECTIONS; j++) {
                float w = j < directions ? v[j * vstride + c] : 0;
#pragma unroll
                for (int e = 0; e < EACH; e++) sum[e][j] = fused(value[e], w, sum[e][j]);
            }
        }
#pragma unroll
        for (int e = 0; e < EACH; e++)
#pragma unroll
            for (int j = 0; j < MAX_DIRECTIONS; j++) {
                float s = warp_sum(sum[e][j]);
                if (lane == j) along.set((warp * EACH + e) * MAX_DIRECTIONS + j, s);
            }
        block_barrier();
        // The same rows again, from cache, times what came out: a thread for each column.
        for (int64_t c = thread_x(); c < cols; c += BLOCK_THREADS) {
            float y[MAX_DIRECTIONS];
#pragma unroll
            for (int j = 0; j < MAX_DIRECTIONS; j++) y[j] = 0;
            float from = origin ? origin[c] : 0;
            for (int e = 0; e < WARP && first + e < rows; e++) {
                if (norm && !takes_part(norm[first + e])) continue;
                float value = x[(first + e) * stride + c] - from;
#pragma unroll
                for (int j = 0; j < MAX_DIRECTIONS; j += 4) {
                    float4v s = along.get4(e * MAX_DIRECTIONS + j);
#pragma unroll
                    for (int i = 0; i < 4; i++) y[j + i] = fused(value, s[i], y[j + i]);
                }
            }
#pragma unroll
            for (int j = 0; j < MAX_DIRECTIONS; j++)
                if (j < directions) parts[j * cols + c] += y[j];
        }
        block_barrier();
    }
}

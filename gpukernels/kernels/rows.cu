// Rows by themselves, and sums over them: lengths, means, what products are taken of.
#include "device.h"

KERNEL rows_norm(const float *x, int64_t rows, int64_t cols, int64_t stride, float *norm) {
    int lane = thread_x() % WARP;
    int64_t r = block_x() * WARPS + thread_x() / WARP;
    if (r >= rows) return; // a whole warp
    float sum = 0;
    for (int64_t c = lane; c < cols; c += WARP) sum = fused(x[r * stride + c], x[r * stride + c], sum);
    sum = warp_sum(sum);
    if (lane == 0) norm[r] = takes_part(sum) ? sum : infinity();
}

KERNEL columns_sum(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *norm, double *sums, int64_t *taken) {
    SHARED(double, sum, BLOCK_THREADS);
    SHARED(int64_t, count, WARPS);
    int lane = thread_x() % WARP, warp = thread_x() / WARP;
    int64_t c = block_x() * WARP + lane;
    int64_t each = (rows + grid_y() - 1) / grid_y(), first = block_y() * each;
    int64_t end = first + each < rows ? first + each : rows, n = 0;
    double s = 0;
    for (int64_t r = first + warp; r < end; r += WARPS) {
        if (!takes_part(norm[r])) continue;
        n++;
        if (c < cols) s += (double)x[r * stride + c];
    }
    sum.set(thread_x(), s);
    if (lane == 0) count.set(warp, n);
    block_barrier();
    if (warp != 0) return;
    for (int w = 1; w < WARPS; w++) s += sum.get(w * WARP + lane);
    if (c < cols) sums[block_y() * cols + c] = s;
    if (block_x() == 0 && lane == 0) {
        for (int w = 1; w < WARPS; w++) n += count.get(w);
        taken[block_y()] = n;
    }
}

KERNEL columns_mean(const double *sums, const int64_t *taken, int64_t parts, int64_t cols, float *mean) {
    int64_t c = block_x() * BLOCK_THREADS + thread_x();
    if (c >= cols) return;
    double s = 0;
    int64_t n = 0;
    for (int64_t p = 0; p < parts; p++) {
        s += sums[p * cols + c];
        n += taken[p];
    }
    mean[c] = n > 0 ? (float)(s / (double)n) : 0.0f;
}

KERNEL rows_prepare(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, int64_t metric, float *out,
                    int64_t padded, int64_t depth, float *bias) {
    int lane = thread_x() % WARP;
    int64_t r = block_x() * WARPS + thread_x() / WARP;
    if (r >= padded) return;
    float sum = 0;
    double wide = 0; // a float32 sum of squares of tiny numbers is too coarse to divide by
    if (r < rows) {
        for (int64_t c = lane; c < cols; c += WARP) {
            float v = x[r * stride + c];
            sum = fused(v, v, sum);
            wide = fused((double)v, (double)v, wide);
        }
    }
    sum = warp_sum(sum);
    wide = warp_sum(wide);
    bool part = r < rows && takes_part(sum);
    double scale = wide > 0 ? 1 / root(wide) : 0;
    sum = 0;
    for (int64_t c = lane; c < depth; c += WARP) {
        float v = 0;
        if (part && c < cols) {
            v = x[r * stride + c];
            if (metric == METRIC_COSINE) {
                v = (float)((double)v * scale);
            } else {
                if (origin) v -= origin[c];
                sum = fused(v, v, sum);
            }
        }
        out[r * depth + c] = v;
    }
    sum = warp_sum(sum);
    if (lane == 0) bias[r] = part ? sum : infinity();
}

KERNEL parts_sum(const float *in, int64_t parts, int64_t count, double scale, float *out) {
    int64_t i = block_x() * BLOCK_THREADS + thread_x();
    if (i >= count) return;
    double s = 0;
    for (int64_t p = 0; p < parts; p++) s += (double)in[p * count + i];
    out[i] = (float)(scale * s);
}

// Isolation forest (Liu, Ting, Zhou, ICDM 2008): how deep rows fall.
#include "device.h"

// A thread for each row. The trees' upper nodes stay in cache; rows are read where the tree asks, so that what limits it is how many loads are under way at once.
KERNEL forest_depth(const float *x, int64_t rows, int64_t cols, int64_t stride, const int32_t *feature, const float *value, const int32_t *child,
                    const int32_t *root, int64_t trees, float *depth) {
    int64_t r = block_x() * BLOCK_THREADS + thread_x();
    if (r >= rows) return;
    x += r * stride;
    float sum = 0;
    for (int64_t t = 0; t < trees; t++) {
        int32_t node = root[t];
        for (int32_t f; (f = feature[node]) >= 0 && f < cols;) node = child[node] + !(x[f] < value[node]);
        sum += value[node];
    }
    depth[r] = trees > 0 ? sum / (float)trees : 0;
}

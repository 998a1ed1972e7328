// The kernels' names, parameters and launch rules: what a driver has to know of them, and all that it may rely on.
//
// Rules for all of them
//   - Every parameter is 8 bytes wide: a pointer to device memory, an int64_t, or a double. A pointer that may be 0 says so.
//   - Blocks are one-dimensional, of BLOCK_THREADS threads. No dynamic shared memory. gridDim.y and gridDim.z <= 65535.
//   - Matrices are float32, row-major: element (r, c) stands at r*stride + c, stride >= columns, counted in elements.
//   - A row takes part if its squared length, added up in float32, is at most 1e37 (so: no NaN, no infinity). rows_norm writes
//     that squared length, and +infinity for a row that takes no part; such arrays are called norm below. bias is the same for prepared rows.
//   - Launches on one stream follow each other; no kernel reads what another block of the same launch writes.
//   - Results are the same bits for the same input and grid, whatever the order of blocks and threads.
//   - Counts may be 0; a grid with a dimension of 0 is no launch. Blocks that lie beyond the data do nothing.
//   - Rows, columns and nodes are counted in 31 bits: indices come back as int32. Sizes in elements are 64 bits wide.
//   - "lexicographic" means: the smaller key, and of equal keys the smaller index.
//
// Prepared rows ("prepared" below) are what products are taken of: made by rows_prepare, TILE rows or a multiple, depth columns, depth a
// multiple of DEPTH_STEP and at least the columns (at least DEPTH_STEP), stride = depth, 16-byte aligned, the rest zero. Rows that take no part, and rows that only fill
// the last tile, are zero and have a bias of +infinity.
//
// k nearest neighbours, in order (one stream); for many queries one span is best, for few as many spans as give every multiprocessor a block:
//   points, once:  rows_norm, columns_sum, columns_mean (L2 only), rows_prepare
//   each batch:    rows_prepare (queries, the same origin), knn_f32 or knn_tensor, knn_merge if there are several spans, knn_exact
//
//   kernel             grid x, y, z                                            what it does
//   rows_norm          ceil(rows/WARPS), 1, 1                                  norm[r]
//   columns_sum        ceil(cols/WARP), parts, 1                               sums of columns over rows that take part, in float64
//   columns_mean       ceil(cols/BLOCK_THREADS), 1, 1                          those sums, divided: the points' mean
//   rows_prepare       ceil(padded/WARPS), 1, 1                                prepared rows and their bias
//   knn_f32            1..ceil(queries/TILE), ceil(points/span), 1             candidates of each query in each span, FP32 units
//   knn_tensor         the same                                                the same, tensor cores
//   knn_merge          ceil(queries/WARPS), 1, 1                               the best candidates of all spans
//   knn_exact          ceil(queries/WARPS), 1, 1                               distances in float64, sorted, the best k
//   product_f32        ceil(m/TILE), ceil(n/TILE), 1                           dst = a * transpose(b), FP32 units
//   product_tensor     the same                                                the same of prepared rows, tensor cores
//   covariance_f32     ceil(cols/TILE), ceil(cols/TILE), ceil(rows/chunk)      sums of outer products of rows, a part for each chunk
//   parts_sum          ceil(count/BLOCK_THREADS), 1, 1                         out = scale * sum of parts
//   mahalanobis_f32    ceil(rows/TILE), 1, 1                                   ||factor (x - origin)|| of each row
//   kmeans_assign_f32  ceil(rows/TILE), 1, 1                                   the nearest centroid of each row
//   subspace_step_f32  1 or more, 1, 1                                         parts of transpose(X) (X transpose(V)); add with parts_sum
//   columns_select     ceil(cols/WARP), ranks, 1                               the element of a rank in each column
//   forest_depth       ceil(rows/BLOCK_THREADS), 1, 1                          mean path length of each row in an isolation forest
#pragma once
#ifndef __CUDA__
#include <stdint.h>
#else
typedef signed int int32_t;
typedef unsigned int uint32_t;
typedef signed long int64_t;
typedef unsigned long uint64_t;
#endif

enum {
    WARP = 32,
    BLOCK_THREADS = 256,
    WARPS = BLOCK_THREADS / WARP,
    TILE = 128,          // rows of queries, and of points, that a block multiplies at a time
    DEPTH_STEP = 16,     // columns that are multiplied at a time
    LIST = 256,          // room for candidates of one query while it is searched for
    MAX_CANDIDATES = 128,
    MAX_DIRECTIONS = 16,
    METRIC_L2 = 0,
    METRIC_COSINE = 1,
};

// No candidate: greater than every other.
#define NO_CANDIDATE 0xffffffffffffffffull

#ifndef KERNEL
#define KERNEL extern "C" void
#endif

// norm[r] = ||row r||^2, +infinity where the row takes no part.
KERNEL rows_norm(const float *x, int64_t rows, int64_t cols, int64_t stride, float *norm);

// Part blockIdx.y of gridDim.y looks at ceil(rows/gridDim.y) consecutive rows. sums is [gridDim.y][cols] float64, taken[gridDim.y] the number of rows that took part.
KERNEL columns_sum(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *norm, double *sums, int64_t *taken);

// mean[c] = sum over parts of sums[part][c] / sum of taken[part]; 0 where nothing took part.
KERNEL columns_mean(const double *sums, const int64_t *taken, int64_t parts, int64_t cols, float *mean);

// out[padded][depth] prepared, bias[padded]. padded: rows in whole TILEs.
// METRIC_L2: out = x - origin (origin may be 0: none), bias = ||out||^2. METRIC_COSINE: out = x / ||x|| (zero stays zero), bias = 0; origin is ignored.
KERNEL rows_prepare(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, int64_t metric,
                    float *out, int64_t padded, int64_t depth, float *bias);

// A key of knn_f32 is off by at most 2 (d+1) 2^-24 ||q|| ||p|| + (d+1) 2^-24 ||p||^2, d columns of prepared rows; knn_tensor has d/16 + 2.2 min(d, 16) + 6 in place of the first d+1, which
// is less from 48 columns on. Ask for as many candidates more than neighbours as may lie that near each other.
// The candidates (1..MAX_CANDIDATES) points of each span with the smallest key = bias[p] - 2 q.p, lexicographic, in no particular order.
// q, p prepared with biases qbias, pbias. span: points of each blockIdx.y, a multiple of TILE. Blocks take tiles of queries blockIdx.x, blockIdx.x + gridDim.x, ...
// lists: scratch of gridDim.x * gridDim.y * TILE * LIST uint64. found is [queries][gridDim.y][candidates] uint64: the key's place in the order of floats in the upper half, the
// index of the point in the lower; NO_CANDIDATE where there are fewer. Queries that take no part find none.
KERNEL knn_f32(const float *q, const float *qbias, int64_t queries, const float *p, const float *pbias, int64_t points, int64_t depth,
               int64_t span, int64_t candidates, uint64_t *lists, uint64_t *found);
KERNEL knn_tensor(const float *q, const float *qbias, int64_t queries, const float *p, const float *pbias, int64_t points, int64_t depth,
                  int64_t span, int64_t candidates, uint64_t *lists, uint64_t *found);

// merged is [queries][candidates] from found [queries][spans][candidates]. They may not overlap.
KERNEL knn_merge(const uint64_t *found, int64_t queries, int64_t spans, int64_t candidates, uint64_t *merged);

// The k (1..candidates) nearest of merged [queries][candidates], distances of the rows as they were given (q, p raw, cols columns) added up in float64 and rounded to
// float32, sorted by (distance, index) in float64. index and distance are [queries][k]; where there are fewer, -1 and NaN. METRIC_L2: ||q-p||; METRIC_COSINE: 1 - q.p/(||q|| ||p||), 0 at
// least, 1 where either is zero.
KERNEL knn_exact(const uint64_t *merged, int64_t queries, int64_t candidates, const float *q, int64_t qstride, const float *p, int64_t pstride,
                 int64_t cols, int64_t metric, int64_t k, int32_t *index, float *distance);

// dst[n][m] = a[n][d] * transpose(b[m][d]). NaN and infinity follow IEEE 754. d may be 0.
KERNEL product_f32(const float *a, int64_t n, int64_t astride, const float *b, int64_t m, int64_t bstride, int64_t d, float *dst, int64_t dstride);
// The same for a and b prepared (rows padded to TILE, depth columns).
KERNEL product_tensor(const float *a, int64_t n, const float *b, int64_t m, int64_t depth, float *dst, int64_t dstride);

// parts[blockIdx.z][cols][cols] = sum over rows blockIdx.z*chunk .. of transpose(x - origin) (x - origin), of those that take part by norm. origin and norm may be 0.
KERNEL covariance_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm, int64_t chunk, float *parts);

// out[i] = scale * sum over j < parts of in[j*count + i], in float64.
KERNEL parts_sum(const float *in, int64_t parts, int64_t count, double scale, float *out);

// distance[r] = || factor (x_r - origin) ||, factor [rank][cols] a whitening matrix (its rows scaled by 1/sqrt(eigenvalue), or the inverse of a Cholesky factor). origin may be 0. NaN where
// the row takes no part by norm.
KERNEL mahalanobis_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm,
                       const float *factor, int64_t rank, int64_t fstride, float *distance);

// assigned[r] = the centroid with the smallest key = cbias[c] - 2 x_r.c, lexicographic; -1 where the row takes no part or no centroid does. x and c prepared. key may be 0.
KERNEL kmeans_assign_f32(const float *x, const float *xbias, int64_t rows, const float *c, const float *cbias, int64_t centroids, int64_t depth,
                         int32_t *assigned, float *key);

// parts[blockIdx.x][directions][cols] = sum over the block's rows of (v (x - origin)) transpose(x - origin), of those that take part by norm: one step of subspace iteration, x read once from
// memory. v is [directions][cols], directions <= MAX_DIRECTIONS. Blocks take WARP rows at a time, blockIdx.x, blockIdx.x + gridDim.x, ... origin and norm may be 0.
KERNEL subspace_step_f32(const float *x, int64_t rows, int64_t cols, int64_t stride, const float *origin, const float *norm,
                         const float *v, int64_t directions, int64_t vstride, float *parts);

// out[blockIdx.y][cols] = the element of rank[blockIdx.y] (0 is the smallest) in each column. NaN is smaller than every number, -0 than +0. A rank outside 0..rows-1 gives NaN.
KERNEL columns_select(const float *x, int64_t rows, int64_t cols, int64_t stride, const int64_t *rank, float *out);

// depth[r] = mean over trees of the depth value of the leaf that row r falls into. Node i of all trees, flattened: feature[i] < 0 is a leaf whose path length (with the correction for what it
// holds) is value[i]; else rows with x[feature] < value[i] go to node child[i], all others, NaN included, to child[i]+1. root[t] is where tree t begins. The score is 2^(-depth/c(n)).
KERNEL forest_depth(const float *x, int64_t rows, int64_t cols, int64_t stride, const int32_t *feature, const float *value, const int32_t *child,
                    const int32_t *root, int64_t trees, float *depth);

// The names, for who registers them all.
#define EVERY_KERNEL(K)                                                                                                                  \
    K(rows_norm) K(columns_sum) K(columns_mean) K(rows_prepare) K(knn_f32) K(knn_tensor) K(knn_merge) K(knn_exact) K(product_f32)         \
    K(product_tensor) K(covariance_f32) K(parts_sum) K(mahalanobis_f32) K(kmeans_assign_f32) K(subspace_step_f32) K(columns_select)       \
    K(forest_depth)

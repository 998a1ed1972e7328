// k nearest neighbours. A block holds a tile of queries and walks through a span of points; the products of two tiles stay in registers, and only what lies below a query's bar is written
// down, to a list of its own. When a list may overflow with the next tile, a warp keeps the best of it and lowers the bar: with LIST = 256 and 16 candidates that happens a handful of
// times in a hundred thousand points, since each time the bar moves on to the next eighth.
#include "select.cuh"
#include "tensor.cuh"
#include "tile.cuh"

// What knn_f32 and knn_tensor do alike: the lists of a block.
struct Lists {
    Shared<uint64_t> pairs; // [TILE][LIST]
    Shared<float> bar;      // [TILE]: a later key must be smaller to count; points come in ascending order, so an equal one loses
    Shared<int> count;      // [TILE]

    DEVICE_METHOD void open(const float *qbias, int64_t first) const {
        if (thread_x() >= TILE) return;
        bar.set(thread_x(), takes_part_prepared(qbias[first + thread_x()]) ? infinity() : -infinity());
        count.set(thread_x(), 0);
    }
    static DEVICE_METHOD bool takes_part_prepared(float bias) { return bias < infinity(); }

    // Eight points for one query; mostly none is near enough, which one comparison finds. The point of keys[i] is first + i / group * stride + i % group.
    DEVICE_METHOD void offer(int64_t row, const float (&keys)[8], uint32_t first, int group, int stride) const {
        float least = keys[0], below = bar.get(row);
#pragma unroll
        for (int i = 1; i < 8; i++) least = keys[i] < least ? keys[i] : least;
        if (!(least < below)) return;
        int n = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) n += keys[i] < below;
        int64_t to = row * LIST + count.add(row, n);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (keys[i] < below) pairs.set(to++, candidate(keys[i], first + i / group * stride + i % group));
    }

    // Makes room for another tile.
    DEVICE_METHOD void settle(int candidates) const {
        int thread = anchored(thread_x()), lane = thread % WARP;
        for (int row = thread / WARP; row < TILE; row += WARPS) {
            int n = count.get(row);
            if (n <= LIST - TILE) continue;
            float highest;
            n = keep_best(pairs, row * LIST, n, candidates, highest);
            if (lane == 0) {
                bar.set(row, highest);
                count.set(row, n);
            }
        }
    }

    // Writes the best of each list.
    DEVICE_METHOD void close(int candidates, int64_t first, int64_t queries, int64_t spans, uint64_t *found) const {
        int thread = anchored(thread_x()), lane = thread % WARP;
        for (int row = thread / WARP; row < TILE; row += WARPS) {
            int64_t q = first + row;
            if (q >= queries) return;
            float highest;
            int n = keep_best(pairs, row * LIST, count.get(row), candidates, highest);
            warp_barrier();
            for (int c = lane; c < candidates; c += WARP)
                found[(q * spans + block_y()) * candidates + c] = c < n ? pairs.get(row * LIST + c) : NO_CANDIDATE;
        }
    }
};

KERNEL knn_f32(const float *q, const float *qbias, int64_t queries, const float *p, const float *pbias, int64_t points, int64_t depth,
               int64_t span, int64_t candidates, uint64_t *lists, uint64_t *found) {
    SHARED(float, as, STAGES);
    SHARED(float, bs, STAGES);
    SHARED(float, bar, TILE);
    SHARED(int, count, TILE);
    Lists list = {private_memory(lists + (block_y() * grid_x() + block_x()) * TILE * LIST, TILE * LIST), bar, count};
    int64_t from = block_y() * span, to = from + span < points ? from + span : points;
    for (int64_t first = block_x() * TILE; first < queries; first += grid_x() * TILE) {
        list.open(qbias, first); // a product has barriers enough before anybody looks
        for (int64_t tile = from; tile < to; tile += TILE) {
            float sum[8][8];
            PreparedRows a, b;
            a.at = q + first * depth, b.at = p + tile * depth;
            a.depth = b.depth = depth;
            tile_product(a, b, depth / DEPTH_STEP, as, bs, sum);
            int ty = anchored(thread_x()) / SIDE, tx = anchored(thread_x()) % SIDE;
            float biases[8];
#pragma unroll
            for (int j = 0; j < 8; j++) biases[j] = pbias[tile + tx * 4 + tile_line(0, j)];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float keys[8];
#pragma unroll
                for (int j = 0; j < 8; j++) keys[j] = fused(-2.0f, sum[i][j], biases[j]);
                list.offer(ty * 4 + (int64_t)tile_line(0, i), keys, (uint32_t)tile + tx * 4, 4, TILE / 2);
            }
            block_barrier();
            list.settle((int)candidates);
        }
        block_barrier();
        list.close((int)candidates, first, queries, (points + span - 1) / span, found);
        block_barrier();
    }
}

KERNEL knn_tensor(const float *q, const float *qbias, int64_t queries, const float *p, const float *pbias, int64_t points, int64_t depth,
                  int64_t span, int64_t candidates, uint64_t *lists, uint64_t *found) {
    SHARED(uint32_t, as, TENSOR_STAGE);
    SHARED(uint32_t, bs, TENSOR_STAGE);
    SHARED(float, bar, TILE);
    SHARED(int, count, TILE);
    Lists list = {private_memory(lists + (block_y() * grid_x() + block_x()) * TILE * LIST, TILE * LIST), bar, count};
    TensorTile both = {as, bs};
    int64_t from = block_y() * span, to = from + span < points ? from + span : points;
    for (int64_t first = block_x() * TILE; first < queries; first += grid_x() * TILE) {
        list.open(qbias, first); // a product has barriers enough before anybody looks
        for (int64_t tile = from; tile < to; tile += TILE) {
            PreparedRows a, b;
            a.at = q + first * depth, b.at = p + tile * depth;
            a.depth = b.depth = depth;
            float sum[DOWN][ACROSS][4];
            both.product(a, b, depth / DEPTH_STEP, sum);
            int64_t row = anchored(TensorTile::row(0, 0)), column = anchored(TensorTile::column(0, 0));
            float biases[ACROSS][2];
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
#pragma unroll
                for (int n = 0; n < 2; n++) biases[j][n] = pbias[tile + column + (j * 8 + n)];
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    float keys[8];
#pragma unroll
                    for (int j = 0; j < 8; j++) keys[j] = fused(-2.0f, sum[i][j / 2][h + j % 2], biases[j / 2][j % 2]);
                    list.offer(row + (i * 16 + h / 2 * 8), keys, (uint32_t)(tile + column), 2, 8);
                }
            block_barrier();
            list.settle((int)candidates);
        }
        block_barrier();
        list.close((int)candidates, first, queries, (points + span - 1) / span, found);
        block_barrier();
    }
}

KERNEL knn_merge(const uint64_t *found, int64_t queries, int64_t spans, int64_t candidates, uint64_t *merged) {
    SHARED(uint64_t, list, WARPS * LIST);
    int lane = thread_x() % WARP;
    int64_t warp = thread_x() / WARP, q = block_x() * WARPS + warp, base = warp * LIST;
    if (q >= queries) return;
    const uint64_t *all = found + q * spans * candidates;
    int n = 0;
    float bar;
    for (int64_t i = 0; i < spans * candidates; i += WARP) {
        uint64_t pair = i + lane < spans * candidates ? all[i + lane] : NO_CANDIDATE;
        bool there = pair != NO_CANDIDATE;
        uint32_t who = warp_ballot(there);
        if (there) list.set(base + n + count_bits(who & ((1u << lane) - 1)), pair);
        n += count_bits(who);
        warp_barrier();
        if (n > LIST - WARP) n = keep_best(list, base, n, (int)candidates, bar);
    }
    n = keep_best(list, base, n, (int)candidates, bar);
    warp_barrier();
    for (int64_t c = lane; c < candidates; c += WARP) merged[q * candidates + c] = c < n ? list.get(base + c) : NO_CANDIDATE;
}

KERNEL knn_exact(const uint64_t *merged, int64_t queries, int64_t candidates, const float *q, int64_t qstride, const float *p, int64_t pstride,
                 int64_t cols, int64_t metric, int64_t k, int32_t *index, float *distance) {
    SHARED(double, away, WARPS * MAX_CANDIDATES);
    int lane = thread_x() % WARP;
    int64_t warp = thread_x() / WARP, row = block_x() * WARPS + warp, base = warp * MAX_CANDIDATES;
    if (row >= queries) return;
    merged += row * candidates;
    q += row * qstride;
    int n = 0;
    for (; n < candidates && merged[n] != NO_CANDIDATE; n++) {
        const float *point = p + (int64_t)(uint32_t)merged[n] * pstride;
        double squares = 0, product = 0, qq = 0, pp = 0, d;
        if (metric == METRIC_COSINE) {
            for (int64_t c = lane; c < cols; c += WARP) {
                double x = q[c], y = point[c];
                product = fused(x, y, product);
                qq = fused(x, x, qq);
                pp = fused(y, y, pp);
            }
            product = warp_sum(product);
            double lengths = warp_sum(qq) * warp_sum(pp);
            d = lengths > 0 ? 1 - product / root(lengths) : 1;
            d = d > 0 ? d : 0;
        } else {
            for (int64_t c = lane; c < cols; c += WARP) {
                double x = (double)q[c] - (double)point[c];
                squares = fused(x, x, squares);
            }
            d = root(warp_sum(squares));
        }
        if (lane == 0) away.set(base + n, d);
    }
    warp_barrier();
    for (int i = lane; i < n; i += WARP) {
        double mine = away.get(base + i);
        uint32_t me = (uint32_t)merged[i];
        int before = 0;
        for (int j = 0; j < n; j++) {
            double other = away.get(base + j);
            before += other < mine || (other == mine && (uint32_t)merged[j] < me);
        }
        if (before < k) {
            index[row * k + before] = (int32_t)me;
            distance[row * k + before] = (float)mine;
        }
    }
    for (int64_t i = n + lane; i < k; i += WARP) {
        index[row * k + i] = -1;
        distance[row * k + i] = not_a_number();
    }
}

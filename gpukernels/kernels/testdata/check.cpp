// Every kernel over the emulator, against float64. Usage: check GROUP SEED [FILE LINE]; prints what is wrong and exits 1. With FILE and LINE the barrier
// there is left out; exits 3 if nobody came by it.
// Where CHECK_BRIEF is set, what takes long is left out.
//
// Device memory ends where a page that nobody may touch begins, so that a kernel that reads or writes beyond it dies.
#include "../../emulator/emulator.h"
#include "../kernels.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace {

const bool brief = getenv("CHECK_BRIEF");
int wrong;
double worst;
uint64_t seed;
[[gnu::format(printf, 1, 2)]] void error(const char *format, ...) {
    if (++wrong > 20) return;
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    printf("\n");
}

const size_t PAGE = 4096;

template <class T> class Device {
    size_t n, bytes;
    char *pages;

public:
    explicit Device(size_t n) : n(n), bytes((n * sizeof(T) + 15) / 16 * 16) {
        size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
        pages = (char *)mmap(nullptr, whole + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) abort();
        mprotect(pages, PAGE, PROT_NONE);
        mprotect(pages + PAGE + whole, PAGE, PROT_NONE);
        memset(pages + PAGE, 0xff, whole); // NaN, -1: what no kernel writes unasked
    }
    explicit Device(const std::vector<T> &v) : Device(v.size()) { std::copy(v.begin(), v.end(), data()); }
    Device(const Device &) = delete;
    ~Device() { munmap(pages, (bytes + PAGE - 1) / PAGE * PAGE + 2 * PAGE); }
    T *data() const { return (T *)(pages + PAGE + (bytes + PAGE - 1) / PAGE * PAGE - bytes); }
    T &operator[](size_t i) const { return data()[i]; }
    size_t size() const { return n; }
};

template <class T> uint64_t parameter(const Device<T> &d) { return (uint64_t)d.data(); }
uint64_t parameter(int64_t v) { return (uint64_t)v; }
uint64_t parameter(std::nullptr_t) { return 0; }
uint64_t parameter(double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

struct Grid {
    int64_t x, y, z;
};
template <class... A> void launch(const char *kernel, Grid g, const A &...arguments) {
    if (g.x == 0 || g.y == 0 || g.z == 0) return;
    uint64_t values[] = {parameter(arguments)...};
    void *params[sizeof...(A)];
    for (size_t i = 0; i < sizeof...(A); i++) params[i] = &values[i];
    if (emulator_launch(kernel, g.x, g.y, g.z, BLOCK_THREADS, 1, 1, 0, params, seed)) {
        error("%s", emulator_error());
        exit(1);
    }
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t padded(int64_t rows) { return ceil_div(rows, TILE) * TILE; }
int64_t steps(int64_t cols) { return std::max<int64_t>(1, ceil_div(cols, DEPTH_STEP)) * DEPTH_STEP; }

struct Matrix {
    int64_t rows, cols, stride;
    std::vector<float> data;
    Matrix(int64_t rows, int64_t cols, int64_t more = 0) : rows(rows), cols(cols), stride(cols + more), data(rows * (cols + more), NAN) {}
    float *row(int64_t r) { return data.data() + r * stride; }
    const float *row(int64_t r) const { return data.data() + r * stride; }
};

std::mt19937_64 random_bits;
double normal() { return std::normal_distribution<double>()(random_bits); }

// Rows far from the origin, as real embeddings are; the gap between rows is NaN.
Matrix random(int64_t rows, int64_t cols, int64_t more = 0, double away = 3, double scale = 1) {
    Matrix m(rows, cols, more);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) m.row(r)[c] = (float)(scale * (normal() + away));
    return m;
}

double length(const float *row, int64_t cols) {
    double s = 0;
    for (int64_t c = 0; c < cols; c++) s += (double)row[c] * row[c];
    return std::sqrt(s);
}
bool part(const Matrix &m, int64_t r) { return length(m.row(r), m.cols) <= std::sqrt(1e37); }

Device<float> norms(const Matrix &m, const Device<float> &x) {
    Device<float> norm(m.rows);
    launch("rows_norm", {ceil_div(m.rows, WARPS), 1, 1}, x, m.rows, m.cols, m.stride, norm);
    return Device<float>(std::vector<float>(norm.data(), norm.data() + m.rows));
}

Device<float> mean(const Matrix &m, const Device<float> &x, const Device<float> &norm) {
    int64_t parts = 3;
    Device<double> sums(parts * m.cols);
    Device<int64_t> taken(parts);
    Device<float> out(m.cols);
    if (m.cols > 0) {
        launch("columns_sum", {ceil_div(m.cols, WARP), parts, 1}, x, m.rows, m.cols, m.stride, norm, sums, taken);
        launch("columns_mean", {ceil_div(m.cols, BLOCK_THREADS), 1, 1}, sums, taken, parts, m.cols, out);
    }
    return Device<float>(std::vector<float>(out.data(), out.data() + m.cols));
}

const int64_t EDGES[] = {0, 1, 31, 32, 33, 127, 128, 129};

void check_rows() {
    for (int64_t rows : EDGES)
        for (int64_t cols : {0, 1, 2, 31, 33, 129, 700}) {
            Matrix m = random(rows, cols, rows % 3);
            if (rows > 20 && cols > 0) {
                m.row(3)[0] = NAN;
                m.row(5)[cols - 1] = INFINITY;
                m.row(6)[cols / 2] = -3e18f;
                m.row(7)[cols / 2] = 4e18f;
                for (int64_t c = 0; c < cols; c++) m.row(9)[c] = 1e-41f, m.row(10)[c] = 0, m.row(11)[c] = 1e-22f;
            }
            Device<float> x(m.data);
            Device<float> norm = norms(m, x);
            for (int64_t r = 0; r < rows; r++) {
                double want = length(m.row(r), cols);
                want *= want;
                if (!part(m, r)) {
                    if (norm[r] != INFINITY) error("rows_norm %ld x %ld: row %ld takes part with %g", rows, cols, r, norm[r]);
                } else if (!(std::fabs(norm[r] - want) <= cols * 0x1p-24 * want + cols * 0x1p-149))
                    error("rows_norm %ld x %ld: row %ld has %g, want %g", rows, cols, r, norm[r], want);
            }
            Device<float> origin = mean(m, x, norm);
            for (int64_t c = 0; c < cols; c++) {
                double sum = 0, size = 0;
                int64_t n = 0;
                for (int64_t r = 0; r < rows; r++)
                    if (part(m, r)) n++, sum += m.row(r)[c], size += std::fabs(m.row(r)[c]);
                double want = n ? sum / n : 0;
                if (!(std::fabs(origin[c] - want) <= 0x1p-24 * std::fabs(want) + 1e-12 * size + 1e-45)) error("columns_mean %ld x %ld: column %ld has %g, want %g", rows, cols, c, origin[c], want);
            }
            int64_t depth = steps(cols), tall = padded(rows);
            for (int64_t metric : {METRIC_L2, METRIC_COSINE})
                for (int centred = 0; centred < 2; centred++) {
                    Device<float> out(tall * depth), bias(tall);
                    Grid g = {ceil_div(tall, WARPS), 1, 1};
                    if (centred)
                        launch("rows_prepare", g, x, rows, cols, m.stride, origin, metric, out, tall, depth, bias);
                    else
                        launch("rows_prepare", g, x, rows, cols, m.stride, nullptr, metric, out, tall, depth, bias);
                    for (int64_t r = 0; r < tall; r++) {
                        bool in = r < rows && part(m, r);
                        double len = in ? length(m.row(r), cols) : 0, squares = 0;
                        for (int64_t c = 0; c < depth; c++) {
                            double want = 0;
                            if (in && c < cols) want = metric == METRIC_COSINE ? len > 0 ? m.row(r)[c] / len : 0 : (double)m.row(r)[c] - (centred ? origin[c] : 0);
                            squares += want * want;
                            if (!(std::fabs(out[r * depth + c] - want) <= 0x1p-23 * std::fabs(want) + 0x1p-149)) error("rows_prepare %ld x %ld metric %ld: (%ld, %ld) is %g, want %g", rows, cols, metric, r, c, out[r * depth + c], want);
                        }
                        if (!in ? bias[r] != INFINITY : metric == METRIC_COSINE ? bias[r] != 0 : !(std::fabs(bias[r] - squares) <= (cols + 4) * 0x1p-23 * squares + cols * 0x1p-149))
                            error("rows_prepare %ld x %ld metric %ld: bias of row %ld is %g, want %g", rows, cols, metric, r, bias[r], squares);
                    }
                }
        }
}

struct Neighbours {
    std::vector<int32_t> index;
    std::vector<float> distance;
};

struct Search {
    const char *kernel;
    int64_t k, candidates, spans, blocks; // spans and blocks at most
    bool centred = true;
};

Neighbours search(const Matrix &points, const Matrix &queries, int64_t metric, const Search &s) {
    Device<float> p(points.data), q(queries.data);
    Device<float> norm = norms(points, p);
    Device<float> origin = mean(points, p, norm);
    int64_t cols = points.cols, depth = steps(cols), ptall = padded(points.rows), qtall = padded(queries.rows);
    Device<float> pp(ptall * depth), pbias(ptall), qq(qtall * depth), qbias(qtall);
    if (s.centred && metric == METRIC_L2) {
        launch("rows_prepare", {ptall / WARPS, 1, 1}, p, points.rows, cols, points.stride, origin, metric, pp, ptall, depth, pbias);
        launch("rows_prepare", {qtall / WARPS, 1, 1}, q, queries.rows, cols, queries.stride, origin, metric, qq, qtall, depth, qbias);
    } else {
        launch("rows_prepare", {ptall / WARPS, 1, 1}, p, points.rows, cols, points.stride, nullptr, metric, pp, ptall, depth, pbias);
        launch("rows_prepare", {qtall / WARPS, 1, 1}, q, queries.rows, cols, queries.stride, nullptr, metric, qq, qtall, depth, qbias);
    }
    int64_t span = std::max<int64_t>(1, ceil_div(ceil_div(points.rows, s.spans), TILE)) * TILE, spans = ceil_div(points.rows, span);
    int64_t blocks = std::min(s.blocks, ceil_div(queries.rows, TILE));
    Device<uint64_t> lists(blocks * spans * TILE * LIST), found(queries.rows * spans * s.candidates), merged(queries.rows * s.candidates);
    launch(s.kernel, {blocks, spans, 1}, qq, qbias, queries.rows, pp, pbias, points.rows, depth, span, s.candidates, lists, found);
    launch("knn_merge", {ceil_div(queries.rows, WARPS), 1, 1}, found, queries.rows, spans, s.candidates, merged);
    Device<int32_t> index(queries.rows * s.k);
    Device<float> distance(queries.rows * s.k);
    launch("knn_exact", {ceil_div(queries.rows, WARPS), 1, 1}, merged, queries.rows, s.candidates, q, queries.stride, p, points.stride, cols, metric, s.k, index, distance);
    return {std::vector<int32_t>(index.data(), index.data() + index.size()), std::vector<float>(distance.data(), distance.data() + distance.size())};
}

double away(const float *a, const float *b, int64_t cols, int64_t metric) {
    double square = 0, dot = 0, aa = 0, bb = 0;
    for (int64_t c = 0; c < cols; c++) {
        double x = a[c], y = b[c];
        square += (x - y) * (x - y), dot += x * y, aa += x * x, bb += y * y;
    }
    if (metric == METRIC_L2) return std::sqrt(square);
    return aa == 0 || bb == 0 ? 1 : std::max(0.0, 1 - dot / std::sqrt(aa * bb));
}

// The bounds of detect/linalg/linalgtest; exact demands the very neighbours.
void judge(const char *what, const Matrix &points, const Matrix &queries, int64_t metric, const Search &s, const Neighbours &found, bool exact = false) {
    int64_t cols = points.cols;
    std::vector<double> middle(cols);
    for (int64_t p = 0; p < points.rows; p++)
        if (part(points, p))
            for (int64_t c = 0; c < cols; c++) middle[c] += (double)points.row(p)[c] / points.rows;
    auto from = [&](const float *row) {
        double sum = 0;
        for (int64_t c = 0; c < cols; c++) sum += (row[c] - middle[c]) * (row[c] - middle[c]);
        return std::sqrt(sum);
    };
    double longest = 0;
    for (int64_t p = 0; p < points.rows; p++)
        if (part(points, p)) longest = std::max(longest, from(points.row(p)));
    for (int64_t q = 0; q < queries.rows; q++) {
        std::vector<std::pair<double, int64_t>> order;
        if (part(queries, q))
            for (int64_t p = 0; p < points.rows; p++)
                if (part(points, p)) order.push_back({away(queries.row(q), points.row(p), cols, metric), p});
        std::sort(order.begin(), order.end());
        std::set<int64_t> seen;
        int64_t n = std::min<int64_t>(s.k, order.size());
        auto say = [&](const char *how, int64_t i) {
            error("%s %s, metric %ld, %ld x %ld, %ld queries, k = %ld, %ld spans, query %ld entry %ld: %s (%d at %g)", s.kernel, what, metric, points.rows, cols, queries.rows, s.k, s.spans, q, i, how,
                  found.index[q * s.k + i], found.distance[q * s.k + i]);
        };
        for (int64_t i = 0; i < s.k; i++) {
            int64_t p = found.index[q * s.k + i];
            float d = found.distance[q * s.k + i];
            if (i >= n) {
                if (p != -1 || d == d) say("should stand for none", i);
                continue;
            }
            if (p < 0 || p >= points.rows || !part(points, p) || !seen.insert(p).second) {
                say("no neighbour", i);
                continue;
            }
            double really = away(queries.row(q), points.row(p), cols, metric);
            if (!(std::fabs(d - really) <= 0x1p-23 * really + cols * 0x1p-50 + 1e-45)) say("wrong distance", i);
            if (i > 0 && d < found.distance[q * s.k + i - 1]) say("not sorted", i);
            if (exact && p != order[i].second) say("another point is nearer, or has the smaller index", i);
            double last = order[n - 1].first, beyond = really - last, allowed = 4 * cols * 0x1p-24;
            if (metric == METRIC_L2) {
                double both = from(queries.row(q)) + longest;
                beyond = really * really - last * last;
                allowed = 4 * cols * 0x1p-24 * both * both + cols * 0x1p-126;
            }
            if (beyond > allowed) say("too far", i);
        }
    }
}

bool same(const Neighbours &a, const Neighbours &b) {
    return a.index == b.index && !memcmp(a.distance.data(), b.distance.data(), a.distance.size() * sizeof(float));
}

int64_t spare(int64_t k) { return k + 5 + k / 8; }

void check_knn(const char *kernel) {
    const int64_t metrics[] = {METRIC_L2, METRIC_COSINE};
    int64_t turn = seed;
    // Sizes beside the sides of tiles.
    for (int64_t cols : {0, 1, 15, 17, 33, 64}) {
        for (int64_t rows : EDGES) {
            int64_t n = EDGES[turn++ * 3 % 8], k = turn % 2 ? 10 : 1;
            Matrix points = random(rows, cols, turn % 4), queries = random(n, cols, turn % 3);
            int64_t metric = metrics[turn % 2];
            Search s = {kernel, k, spare(k), 2, 1 + turn % 2};
            judge("sizes", points, queries, metric, s, search(points, queries, metric, s));
        }
    }
    // Depth.
    for (int64_t cols : {384, 1000, 4096}) {
        if (brief && cols > 384) continue;
        Matrix points = random(100, cols), queries = random(3, cols);
        Search s = {kernel, 5, spare(5), 1, 1};
        judge("depth", points, queries, metrics[turn % 2], s, search(points, queries, metrics[turn % 2], s));
        turn++;
    }
    // Many points, so that lists overflow; points that come ever nearer are the worst case. The division into spans and blocks changes nothing.
    for (int falling = brief; falling < 2; falling++) {
        Matrix points = random(1500, 8), queries = random(130, 8);
        if (falling)
            for (int64_t p = 0; p < points.rows; p++)
                for (int64_t c = 0; c < 8; c++) points.row(p)[c] = 3 + (points.row(p)[c] - 3) * (float)(1600 - p) / 100;
        for (int64_t k : {1, 10, 64}) {
            if (brief && k > 1) continue;
            Search s = {kernel, k, spare(k), 1, 1};
            int64_t metric = metrics[turn++ % 2];
            Neighbours whole = search(points, queries, metric, s);
            judge(falling ? "ever nearer" : "many", points, queries, metric, s, whole);
            if (k == 10) continue;
            Search parts = s;
            parts.spans = 12, parts.blocks = 2;
            if (!same(whole, search(points, queries, metric, parts))) error("%s: %ld spans give another answer", kernel, parts.spans);
        }
    }
    Search most = {kernel, 128, 128, 1, 1};
    Matrix points = random(700, 4), queries = random(2, 4);
    judge("most candidates", points, queries, METRIC_L2, most, search(points, queries, METRIC_L2, most));
    // Ties: on a grid of small whole numbers every sum is exact, and the smallest index wins.
    Matrix grid(600, 3), some(40, 3);
    for (float &v : grid.data) v = (float)(random_bits() % 3);
    for (float &v : some.data) v = (float)(random_bits() % 3);
    for (int64_t spans : {1, 3}) {
        Search s = {kernel, 20, spare(20), spans, 1, false};
        judge("ties", grid, some, METRIC_L2, s, search(grid, some, METRIC_L2, s), true);
    }
    // Copies, far more than candidates.
    Matrix copies(500, 5), asked = random(3, 5);
    for (int64_t p = 0; p < copies.rows; p++)
        for (int64_t c = 0; c < 5; c++) copies.row(p)[c] = (float)((p % 2 ? 1.25 : 0.3) * (c + 1));
    for (int64_t metric : metrics) {
        // Along a ray cosines differ by rounding only: which is nearer is for the bound to say.
        Search s = {kernel, 12, spare(12), 2, 1};
        judge("copies", copies, asked, metric, s, search(copies, asked, metric, s), metric == METRIC_L2);
    }
    // What is not finite, zero, tiny or too long.
    for (int64_t cols : {1, 7, 33}) {
        Matrix odd = random(140, cols), ask = random(40, cols);
        const float values[] = {NAN, INFINITY, -INFINITY, 3.3e18f, 3e38f, 0, 1e-41f, -0.0f, 1e-30f, 1e18f};
        for (Matrix *m : {&odd, &ask})
            for (int64_t i = 0; i < 20; i++) {
                for (int64_t c = 0; c < cols && i >= 10; c++) m->row(i)[c] = values[i % 10];
                m->row(i)[cols / 2] = values[i % 10];
            }
        for (int64_t metric : metrics) {
            // All neighbours are asked for, because rows of 1e18 make any other hardly comparable.
            Search s = {kernel, 128, 128, 1, 1};
            judge("not finite", odd, ask, metric, s, search(odd, ask, metric, s));
        }
        for (int64_t i = 0; i < odd.rows; i++)
            for (int64_t c = 0; c < cols; c++) odd.row(i)[c] = NAN;
        Search s = {kernel, 3, spare(3), 1, 1};
        judge("nobody", odd, ask, METRIC_L2, s, search(odd, ask, METRIC_L2, s));
    }
    // Denormal numbers.
    Matrix tiny = random(140, 9, 0, 0, 1e-40), small = random(5, 9, 0, 0, 1e-40);
    for (int64_t metric : metrics) {
        Search s = {kernel, 4, spare(4), 1, 1};
        judge("denormal", tiny, small, metric, s, search(tiny, small, metric, s));
    }
}

void check_product() {
    for (int64_t d : {0, 1, 16, 31, 130, 1024})
        for (int64_t i = 0; i < 8; i++) {
            int64_t n = EDGES[i], m = EDGES[(i * 3 + d + seed) % 8];
            if (d > 1000 && i % 3 != 1) continue;
            Matrix a = random(n, d, i % 4), b = random(m, d, (i + 1) % 4 * 2);
            if (n > 5 && m > 7 && d > 2) a.row(2)[1] = NAN, a.row(4)[0] = INFINITY, b.row(6)[1] = -INFINITY, b.row(3)[d - 1] = 1e-41f, b.row(5)[0] = 0;
            int64_t stride = m + i % 2;
            Device<float> x(a.data), y(b.data), dst(n * stride);
            launch("product_f32", {ceil_div(m, TILE), ceil_div(n, TILE), 1}, x, n, a.stride, y, m, b.stride, d, dst, stride);
            for (int64_t r = 0; r < n; r++)
                for (int64_t c = 0; c < stride; c++) {
                    double want = 0, size = 0;
                    for (int64_t k = 0; c < m && k < d; k++) want += (double)a.row(r)[k] * b.row(c)[k], size += std::fabs((double)a.row(r)[k] * b.row(c)[k]);
                    float got = dst[r * stride + c];
                    bool good = c >= m ? got != got : std::isnan(want) ? got != got : std::isinf(want) ? got == want : std::fabs(got - want) <= d * 0x1p-24 * size + d * 0x1p-149;
                    if (!good) error("product_f32 %ld x %ld x %ld: (%ld, %ld) is %g, want %g", n, m, d, r, c, got, want);
                }
        }
}

void check_product_tensor() {
    for (int64_t d : {0, 1, 2, 16, 33, 130, 1024})
        for (int64_t i = 0; i < 8; i++) {
            int64_t n = EDGES[i], m = EDGES[(i * 3 + d + seed) % 8];
            if (d > 1000 && (brief || i % 3 != 1)) continue;
            Matrix a = random(n, d, i % 4), b = random(m, d, (i + 1) % 4 * 2);
            if (i % 2) // numbers of one sign drift if sums are cut off
                for (Matrix *w : {&a, &b})
                    for (float &v : w->data) v = std::fabs(v);
            if (n > 5 && m > 7 && d > 2) a.row(2)[1] = 1e-41f, a.row(4)[0] = 1e15f, b.row(3)[d - 1] = 1e-30f, b.row(5)[0] = 0;
            int64_t stride = m + i % 2, depth = steps(d), tall = padded(n), wide = padded(m);
            Device<float> x(a.data), y(b.data), xx(tall * depth), xbias(tall), yy(wide * depth), ybias(wide), dst(n * stride);
            launch("rows_prepare", {tall / WARPS, 1, 1}, x, n, d, a.stride, nullptr, (int64_t)METRIC_L2, xx, tall, depth, xbias);
            launch("rows_prepare", {wide / WARPS, 1, 1}, y, m, d, b.stride, nullptr, (int64_t)METRIC_L2, yy, wide, depth, ybias);
            launch("product_tensor", {ceil_div(m, TILE), ceil_div(n, TILE), 1}, xx, n, yy, m, depth, dst, stride);
            for (int64_t r = 0; r < n; r++)
                for (int64_t c = 0; c < stride; c++) {
                    double want = 0;
                    for (int64_t k = 0; c < m && k < d; k++) want += (double)a.row(r)[k] * b.row(c)[k];
                    float got = dst[r * stride + c];
                    if (c >= m) {
                        if (got == got) error("product_tensor %ld x %ld x %ld writes beyond its rows", n, m, d);
                        continue;
                    }
                    double bound = (d / 16.0 + 2.2 * std::min<int64_t>(d, 16) + 6) * 0x1p-24 * length(a.row(r), d) * length(b.row(c), d) + d * 0x1p-126;
                    double ratio = got == want ? 0 : std::fabs(got - want) / bound;
                    if (!(ratio <= 1)) error("product_tensor %ld x %ld x %ld: (%ld, %ld) is %g, want %g, %g times what is allowed", n, m, d, r, c, got, want, ratio);
                    if (bound > 0 && d > 100) worst = std::max(worst, std::fabs(got - want) / (length(a.row(r), d) * length(b.row(c), d)));
                }
        }
    if (getenv("VERBOSE")) printf("worst error of a product: %g x 2^-24 of the lengths\n", worst * 0x1p24);
}

void check_covariance() {
    for (int64_t cols : {1, 31, 33, 129, 260})
        for (int64_t rows : {1, 32, 33, 129, 200})
            for (int plain = 0; plain < 2; plain++) {
                Matrix m = random(rows, cols, rows % 3);
                if (!plain && rows > 20) m.row(3)[0] = NAN, m.row(17)[cols - 1] = INFINITY, m.row(9)[0] = 1e30f;
                int64_t chunk = plain ? rows : 50, parts = ceil_div(rows, chunk);
                Device<float> x(m.data), part_sums(parts * cols * cols), out(cols * cols);
                Device<float> norm = norms(m, x);
                Device<float> origin = mean(m, x, norm);
                Grid g = {ceil_div(cols, TILE), ceil_div(cols, TILE), parts};
                if (plain)
                    launch("covariance_f32", g, x, rows, cols, m.stride, nullptr, nullptr, chunk, part_sums);
                else
                    launch("covariance_f32", g, x, rows, cols, m.stride, origin, norm, chunk, part_sums);
                double scale = 1.0 / rows;
                std::vector<bool> in;
                for (int64_t r = 0; r < rows; r++) in.push_back(part(m, r));
                launch("parts_sum", {ceil_div(cols * cols, BLOCK_THREADS), 1, 1}, part_sums, parts, cols * cols, scale, out);
                for (int64_t i = 0; i < cols; i++)
                    for (int64_t j = 0; j < cols; j++) {
                        double want = 0, size = 0;
                        for (int64_t r = 0; r < rows; r++) {
                            if (!in[r]) continue;
                            double a = m.row(r)[i] - (plain ? 0 : origin[i]), b = m.row(r)[j] - (plain ? 0 : origin[j]);
                            want += a * b * scale, size += std::fabs(a * b) * scale;
                        }
                        // The difference from the origin is rounded, too.
                        if (!(std::fabs(out[i * cols + j] - want) <= (chunk + 4) * 0x1p-24 * size + 1e-12)) error("covariance_f32 %ld x %ld: (%ld, %ld) is %g, want %g", rows, cols, i, j, out[i * cols + j], want);
                        if (out[i * cols + j] != out[j * cols + i]) error("covariance_f32 %ld x %ld is not symmetric at (%ld, %ld)", rows, cols, i, j);
                    }
            }
}

void check_mahalanobis() {
    for (int64_t cols : {1, 17, 64, 300})
        for (int64_t rows : EDGES)
            for (int64_t rank : {cols, std::min<int64_t>(cols, 130)}) {
                Matrix m = random(rows, cols, rows % 4), f = random(rank, cols, 1, 0);
                if (rows > 20) m.row(4)[0] = NAN, m.row(8)[cols - 1] = -INFINITY, m.row(9)[0] = 1e19f;
                Device<float> x(m.data), factor(f.data), distance(rows);
                Device<float> norm = norms(m, x);
                Device<float> origin = mean(m, x, norm);
                Grid g = {ceil_div(rows, TILE), 1, 1};
                if (rows % 2)
                    launch("mahalanobis_f32", g, x, rows, cols, m.stride, origin, norm, factor, rank, f.stride, distance);
                else
                    launch("mahalanobis_f32", g, x, rows, cols, m.stride, nullptr, norm, factor, rank, f.stride, distance);
                for (int64_t r = 0; r < rows; r++) {
                    double squares = 0, size = 0;
                    for (int64_t i = 0; i < rank; i++) {
                        double y = 0, s = 0;
                        for (int64_t c = 0; c < cols; c++) {
                            double v = ((double)m.row(r)[c] - (rows % 2 ? origin[c] : 0)) * f.row(i)[c];
                            y += v, s += std::fabs(v);
                        }
                        squares += y * y, size += s * s;
                    }
                    double want = std::sqrt(squares);
                    if (!part(m, r) ? distance[r] == distance[r] : !(std::fabs(distance[r] - want) <= (cols + rank) * 0x1p-24 * std::sqrt(size))) error("mahalanobis_f32 %ld x %ld, rank %ld: row %ld at %g, want %g", rows, cols, rank, r, distance[r], want);
                }
            }
}

void check_kmeans() {
    for (int64_t cols : {1, 16, 40})
        for (int64_t rows : EDGES)
            for (int64_t centroids : {0, 1, 7, 129, 300}) {
                bool whole = (rows + centroids) % 2; // whole numbers: exact, with ties
                Matrix m = random(rows, cols), c = random(centroids, cols);
                if (whole)
                    for (Matrix *w : {&m, &c})
                        for (float &v : w->data) v = (float)(random_bits() % 3);
                if (rows > 20) m.row(2)[0] = NAN, m.row(3)[cols - 1] = INFINITY;
                if (centroids > 6) c.row(1)[0] = NAN;
                int64_t depth = steps(cols), tall = padded(rows), wide = padded(centroids);
                Device<float> x(m.data), y(c.data), xx(tall * depth), xbias(tall), yy(wide * depth), ybias(wide), key(rows);
                Device<int32_t> assigned(rows);
                launch("rows_prepare", {tall / WARPS, 1, 1}, x, rows, cols, m.stride, nullptr, (int64_t)METRIC_L2, xx, tall, depth, xbias);
                launch("rows_prepare", {wide / WARPS, 1, 1}, y, centroids, cols, c.stride, nullptr, (int64_t)METRIC_L2, yy, wide, depth, ybias);
                Grid g = {ceil_div(rows, TILE), 1, 1};
                if (centroids == 7)
                    launch("kmeans_assign_f32", g, xx, xbias, rows, yy, ybias, centroids, depth, assigned, nullptr);
                else
                    launch("kmeans_assign_f32", g, xx, xbias, rows, yy, ybias, centroids, depth, assigned, key);
                for (int64_t r = 0; r < rows; r++) {
                    int64_t best = -1;
                    double least = INFINITY;
                    for (int64_t i = 0; i < centroids && part(m, r); i++) {
                        double d = part(c, i) ? away(m.row(r), c.row(i), cols, METRIC_L2) : INFINITY;
                        if (d < least) least = d, best = i;
                    }
                    int64_t got = assigned[r];
                    bool good = got == best;
                    if (!good && !whole && best >= 0 && got >= 0 && got < centroids) {
                        double d = away(m.row(r), c.row(got), cols, METRIC_L2), both = length(m.row(r), cols) + length(c.row(got), cols);
                        good = d * d - least * least <= 4 * cols * 0x1p-24 * both * both;
                    }
                    if (!good) error("kmeans_assign_f32 %ld x %ld, %ld centroids: row %ld to %ld, want %ld", rows, cols, centroids, r, got, best);
                    if (centroids == 7) continue;
                    double len = length(m.row(r), cols);
                    if (best < 0 ? key[r] == key[r] : !(std::fabs(key[r] - (least * least - len * len)) <= 4 * cols * 0x1p-24 * (2 * len + least) * (2 * len + least)))
                        error("kmeans_assign_f32 %ld x %ld, %ld centroids: row %ld has key %g", rows, cols, centroids, r, key[r]);
                }
            }
}

void check_subspace() {
    for (int64_t cols : {1, 33, 300})
        for (int64_t rows : EDGES)
            for (int64_t directions : {1, 5, 16}) {
                bool plain = directions == 5;
                Matrix m = random(rows, cols, rows % 3, plain ? 0 : 3), v = random(directions, cols, 1, 0);
                if (!plain && rows > 20) m.row(1)[0] = NAN, m.row(rows - 1)[cols - 1] = INFINITY;
                int64_t blocks = 3;
                Device<float> x(m.data), directions_of(v.data), parts(blocks * directions * cols), out(directions * cols);
                Device<float> norm = norms(m, x);
                Device<float> origin = mean(m, x, norm);
                if (plain)
                    launch("subspace_step_f32", {blocks, 1, 1}, x, rows, cols, m.stride, nullptr, nullptr, directions_of, directions, v.stride, parts);
                else
                    launch("subspace_step_f32", {blocks, 1, 1}, x, rows, cols, m.stride, origin, norm, directions_of, directions, v.stride, parts);
                launch("parts_sum", {ceil_div(directions * cols, BLOCK_THREADS), 1, 1}, parts, blocks, directions * cols, 1.0, out);
                std::vector<double> want(directions * cols), size(directions * cols);
                for (int64_t r = 0; r < rows; r++) {
                    if (!part(m, r)) continue;
                    for (int64_t j = 0; j < directions; j++) {
                        double p = 0, s = 0;
                        auto at = [&](int64_t c) { return (double)m.row(r)[c] - (plain ? 0 : origin[c]); };
                        for (int64_t c = 0; c < cols; c++) p += at(c) * v.row(j)[c], s += std::fabs(at(c) * v.row(j)[c]);
                        for (int64_t c = 0; c < cols; c++) want[j * cols + c] += p * at(c), size[j * cols + c] += s * std::fabs(at(c));
                    }
                }
                for (int64_t i = 0; i < directions * cols; i++)
                    if (!(std::fabs(out[i] - want[i]) <= (rows + cols + 4) * 0x1p-24 * size[i] + 1e-12)) error("subspace_step_f32 %ld x %ld, %ld directions: entry %ld is %g, want %g", rows, cols, directions, i, out[i], want[i]);
            }
}

void check_columns() {
    const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0, -0.0f, 1e-41f, -1e-41f, FLT_MAX, -FLT_MAX, 1, 1, 1};
    auto less = [](float a, float b) {
        if (a != a || b != b) return a != a && b == b;
        return a < b || (a == b && std::signbit(a) && !std::signbit(b));
    };
    for (int64_t cols : {1, 31, 33, 70})
        for (int64_t rows : {1, 2, 31, 32, 33, 127, 128, 129, 1000}) {
            Matrix m = random(rows, cols, rows % 3, 0);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < cols; c++)
                    if (c % 3 == 1 || random_bits() % 4 == 0) m.row(r)[c] = odd[random_bits() % (c % 2 ? 13 : 2 + c % 12)];
            std::vector<int64_t> ranks = {0, rows - 1, rows / 2, rows / 4, -1, rows};
            Device<float> x(m.data), out(ranks.size() * cols);
            Device<int64_t> rank(ranks);
            launch("columns_select", {ceil_div(cols, WARP), (int64_t)ranks.size(), 1}, x, rows, cols, m.stride, rank, out);
            for (int64_t c = 0; c < cols; c++) {
                std::vector<float> column;
                for (int64_t r = 0; r < rows; r++) column.push_back(m.row(r)[c]);
                std::sort(column.begin(), column.end(), less);
                for (size_t i = 0; i < ranks.size(); i++) {
                    float want = ranks[i] < 0 || ranks[i] >= rows ? NAN : column[ranks[i]], got = out[i * cols + c];
                    if (!(want != want ? got != got : got == want && std::signbit(got) == std::signbit(want))) error("columns_select %ld x %ld: rank %ld of column %ld is %g, want %g", rows, cols, ranks[i], c, got, want);
                }
            }
        }
}

void check_forest() {
    for (int64_t cols : {1, 5, 40})
        for (int64_t rows : EDGES)
            for (int64_t trees : {0, 1, 20}) {
                Matrix m = random(rows, cols, 1, 0);
                if (rows > 5) m.row(0)[0] = NAN, m.row(1)[cols - 1] = INFINITY, m.row(2)[0] = -INFINITY;
                std::vector<int32_t> feature, child, root;
                std::vector<float> value;
                for (int64_t t = 0; t < trees; t++) {
                    // Nodes in the order in which they split: children stand side by side, behind their parents.
                    root.push_back((int32_t)feature.size());
                    feature.push_back(-1), child.push_back(-1), value.push_back((float)(random_bits() % 9));
                    for (size_t node = root.back(); node < feature.size() && feature.size() - root.back() < 60; node++) {
                        if (random_bits() % 5 == 0) continue;
                        feature[node] = (int32_t)(random_bits() % cols);
                        value[node] = random_bits() % 4 && rows > 0 ? m.row(random_bits() % rows)[feature[node]] : (float)normal(); // thresholds that are met
                        child[node] = (int32_t)feature.size();
                        for (int i = 0; i < 2; i++) feature.push_back(-1), child.push_back(-1), value.push_back((float)(random_bits() % 9) + 0.5f);
                    }
                }
                Device<float> x(m.data), v(value), depth(rows);
                Device<int32_t> f(feature), ch(child), ro(root);
                launch("forest_depth", {ceil_div(rows, BLOCK_THREADS), 1, 1}, x, rows, cols, m.stride, f, v, ch, ro, trees, depth);
                for (int64_t r = 0; r < rows; r++) {
                    double sum = 0;
                    for (int64_t t = 0; t < trees; t++) {
                        int32_t node = root[t];
                        while (feature[node] >= 0) node = m.row(r)[feature[node]] < value[node] ? child[node] : child[node] + 1;
                        sum += value[node];
                    }
                    double want = trees ? sum / trees : 0;
                    if (!(std::fabs(depth[r] - want) <= 0x1p-23 * want)) error("forest_depth %ld x %ld, %ld trees: row %ld at %g, want %g", rows, cols, trees, r, depth[r], want);
                }
            }
}

} // namespace

int main(int n, char **arguments) {
    if (n != 3 && n != 5) return 2;
    if (n == 5) emulator_without(arguments[3], atoi(arguments[4]));
    std::string group = arguments[1];
    seed = strtoull(arguments[2], nullptr, 10);
    random_bits.seed(seed + 1);
    setvbuf(stdout, nullptr, _IOLBF, 0);
    if (group == "rows") check_rows();
    else if (group == "knn_f32" || group == "knn_tensor") check_knn(group.c_str());
    else if (group == "product_f32") check_product();
    else if (group == "product_tensor") check_product_tensor();
    else if (group == "covariance_f32") check_covariance();
    else if (group == "mahalanobis_f32") check_mahalanobis();
    else if (group == "kmeans_assign_f32") check_kmeans();
    else if (group == "subspace_step_f32") check_subspace();
    else if (group == "columns_select") check_columns();
    else if (group == "forest_depth") check_forest();
    else return 2;
    if (n == 5 && !wrong && emulator_without("", 0) == 0) return 3;
    return wrong > 0;
}

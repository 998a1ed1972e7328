// Order statistics of columns.
#include "device.h"

// Radix selection, four bits at a time from the highest: eight passes over a column, each of which counts, among the values that agree with the answer so far, how many have which next
// digit. A warp reads 32 columns side by side.
KERNEL columns_select(const float *x, int64_t rows, int64_t cols, int64_t stride, const int64_t *rank, float *out) {
    enum { DIGITS = 16, BITS = 4, LINE_OF_DIGITS = DIGITS + 1 }; // 17: the same digit of columns beside each other falls into banks beside each other
    SHARED(int, count, WARP * LINE_OF_DIGITS);
    SHARED(uint32_t, found, WARP);
    int lane = thread_x() % WARP, warp = thread_x() / WARP;
    int64_t c = block_x() * WARP + lane, left = rank[block_y()];
    bool there = left >= 0 && left < rows;
    uint32_t prefix = 0;
    for (int shift = 32 - BITS; shift >= 0; shift -= BITS) {
        for (int i = thread_x(); i < WARP * LINE_OF_DIGITS; i += BLOCK_THREADS) count.set(i, 0);
        block_barrier();
        if (c < cols)
            for (int64_t r = warp; r < rows; r += WARPS) {
                float v = x[r * stride + c];
                uint32_t key = v == v ? place(v) : 0;
                if ((uint64_t)key >> (shift + BITS) == prefix) count.add(lane * LINE_OF_DIGITS + (key >> shift) % DIGITS, 1);
            }
        block_barrier();
        if (warp == 0) {
            uint32_t digit = 0;
            for (; digit < DIGITS - 1; digit++) {
                int n = count.get(lane * LINE_OF_DIGITS + digit);
                if (left < n) break;
                left -= n;
            }
            found.set(lane, digit);
        }
        block_barrier();
        prefix = prefix << BITS | found.get(lane);
    }
    if (warp == 0 && c < cols) out[block_y() * cols + c] = there && prefix != 0 ? at_place(prefix) : not_a_number();
}

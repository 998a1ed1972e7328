// Which candidates are the best: lists of (key, index) pairs, one warp for each.
#pragma once
#include "device.h"

DEVICE uint64_t candidate(float key, uint32_t index) { return (uint64_t)place(key) << 32 | index; }

// Moves the `keep` smallest of the n (at most LIST) pairs at list[base...] to its front and returns how many are there then; bar becomes the greatest key of those, if some had to go.
// All lanes of a warp call it. No two pairs are equal. Between other lanes' accesses and this one's the caller puts a warp_barrier, before and after.
DEVICE int keep_best(const Shared<uint64_t> &list, int64_t base, int n, int keep, float &bar) {
    if (n <= keep) return n;
    int lane = thread_x() % WARP;
    uint64_t mine[LIST / WARP];
#pragma unroll
    for (int i = 0; i < LIST / WARP; i++) mine[i] = i * WARP + lane < n ? list.get(base + i * WARP + lane) : NO_CANDIDATE;
    // Bisection, counting: a threshold that `keep` of them do not exceed. One exists, because no two are equal.
    uint64_t low = 0, high = NO_CANDIDATE - 1, middle;
    for (;;) {
        middle = low + (high - low) / 2;
        uint32_t below = 0;
#pragma unroll
        for (int i = 0; i < LIST / WARP; i++) below += mine[i] <= middle;
        int total = (int)warp_total(below);
        if (total == keep) break;
        if (total < keep)
            low = middle + 1;
        else
            high = middle;
    }
    warp_barrier();
    int kept = 0;
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < LIST / WARP; i++) {
        bool stays = mine[i] <= middle;
        uint32_t who = warp_ballot(stays);
        if (stays) {
            list.set(base + kept + count_bits(who & ((1u << lane) - 1)), mine[i]);
            uint32_t key = (uint32_t)(mine[i] >> 32);
            if (key > largest) largest = key;
        }
        kept += count_bits(who);
    }
    bar = at_place(warp_largest(largest));
    return keep;
}

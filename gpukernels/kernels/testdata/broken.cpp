// Does the emulator find what it says that it finds? Prints what is wrong and exits 1.
#include "../../emulator/emulator.h"
#include "../device.h"
#include "broken.h"

#include <cstdio>
#include <string>
#include <vector>

KERNEL keeps_the_rules(int64_t *out) {
    SHARED(float, a, BLOCK_THREADS);
    SHARED(int, n, 1);
    int t = thread_x(), lane = t % WARP;
    if (t == 0) n.set(0, 0);
    a.set(t, (float)t);
    block_barrier();
    float other = a.get((t + 100) % BLOCK_THREADS) + a.get(0);
    n.add(0, 1);
    block_barrier();
    a.set(t, other);
    warp_barrier();
    other = a.get(t ^ 1);
    warp_barrier();
    a.set(t ^ 1, other); // again by who wrote it last but one
    int all = n.get(0), half = count_bits(warp_ballot(lane < 16));
    float sum = warp_sum(1.0f);
    if (t == 0) out[block_y() * grid_x() + block_x()] = all + 1000 * half + 100000 * (int)sum;
}
KERNEL barrier_for_half() {
    if (thread_x() < 128) block_barrier();
    block_barrier();
}
KERNEL barrier_after_an_end() {
    if (thread_x() == 77) return;
    block_barrier();
}
KERNEL barriers_in_two_lines() {
    if (thread_x() < 128)
        block_barrier();
    else
        block_barrier();
}
KERNEL half_a_warp() {
    if (thread_x() % WARP < 16) warp_ballot(true);
}
KERNEL lanes_in_two_lines() {
    if (thread_x() % WARP < 16)
        warp_ballot(true);
    else
        warp_ballot(false);
}
KERNEL beyond_the_end() {
    SHARED(float, a, 16);
    if (thread_x() == 0) a.set(16, 1);
}
KERNEL before_the_beginning() {
    SHARED(float, a, 16);
    if (thread_x() == 0) a.set(-1, 1);
}
KERNEL unaligned() {
    SHARED(float, a, 16);
    if (thread_x() == 0) a.set4(2, float4v{0, 0, 0, 0});
}
KERNEL never_written() {
    SHARED(float, a, 16);
    if (thread_x() == 0) a.get(3);
}
KERNEL of_the_block_before(int64_t *out) {
    SHARED(float, a, 16);
    if (thread_x() != 0) return;
    if (*out < 1) a.set(0, 1);
    ++*out;
    a.get(0);
}
KERNEL read_after_write() {
    SHARED(float, a, BLOCK_THREADS);
    a.set(thread_x(), 0);
    block_barrier();
    a.set(thread_x(), 1);
    a.get((thread_x() + 64) % BLOCK_THREADS);
}
KERNEL write_after_read() {
    SHARED(float, a, BLOCK_THREADS);
    a.set(thread_x(), 1);
    block_barrier();
    a.get((thread_x() + 64) % BLOCK_THREADS);
    a.set(thread_x(), 2);
}
KERNEL write_after_write() {
    SHARED(float, a, 1);
    a.set(0, 1);
}
KERNEL read_after_add() {
    SHARED(int, a, 1);
    if (thread_x() == 0) a.set(0, 0);
    block_barrier();
    a.add(0, 1);
    a.get(0);
}
KERNEL lane_after_lane() {
    SHARED(float, a, BLOCK_THREADS);
    a.set(thread_x(), 0);
    block_barrier();
    a.set(thread_x(), 1);
    a.get(thread_x() ^ 1);
}
KERNEL warp_after_warp() {
    SHARED(float, a, BLOCK_THREADS);
    a.set(thread_x(), 0);
    block_barrier();
    a.set(thread_x(), 1);
    warp_barrier();
    a.get(thread_x() ^ 32);
}
KERNEL shuffle_is_no_barrier() {
    SHARED(float, a, BLOCK_THREADS);
    a.set(thread_x(), 0);
    block_barrier();
    a.set(thread_x(), 1);
    warp_xor(1, 1);
    a.get(thread_x() ^ 1);
}

int main() {
    int wrong = 0;
    const struct {
        const char *kernel, *says;
    } broken[] = {
        {"barrier_for_half", "barrier"},
        {"barrier_after_an_end", "not reached by all"},
        {"barriers_in_two_lines", "at once"},
        {"half_a_warp", "not all lanes"},
        {"lanes_in_two_lines", "at once"},
        {"beyond_the_end", "a has 16 elements; 1 from 16"},
        {"before_the_beginning", "1 from -1"},
        {"unaligned", "4 from 2"},
        {"never_written", "before it was written"},
        {"of_the_block_before", "before it was written"},
        {"read_after_write", "without a barrier"},
        {"write_after_read", "without a barrier"},
        {"write_after_write", "without a barrier"},
        {"read_after_add", "without a barrier"},
        {"lane_after_lane", "without a barrier"},
        {"warp_after_warp", "without a barrier"},
        {"shuffle_is_no_barrier", "without a barrier"},
        {"unheard_of", "no kernel"},
    };
    for (uint64_t seed = 0; seed < 20; seed++) {
        for (auto &b : broken) {
            int64_t number = 0, *out = &number;
            void *params[] = {&out};
            if (!emulator_launch(b.kernel, 2, 1, 1, BLOCK_THREADS, 1, 1, 0, params, seed) || std::string(emulator_error()).find(b.says) == std::string::npos)
                wrong++, printf("%s, seed %d: %s\n", b.kernel, (int)seed, emulator_error());
        }
        std::vector<int64_t> outs(15, -1);
        int64_t *out = outs.data();
        void *params[] = {&out};
        if (emulator_launch("keeps_the_rules", 5, 3, 1, BLOCK_THREADS, 1, 1, 0, params, seed)) wrong++, printf("seed %d: %s\n", (int)seed, emulator_error());
        for (int64_t o : outs)
            if (o != BLOCK_THREADS + 16000 + 3200000) wrong++, printf("seed %d: %ld\n", (int)seed, (long)o);
        const unsigned grids[][6] = {{0, 1, 1, 256, 1, 1}, {1, 65536, 1, 256, 1, 1}, {1, 1, 65536, 256, 1, 1}, {1, 1, 1, 128, 1, 1}, {1, 1, 1, 256, 2, 1}};
        for (auto &g : grids)
            if (!emulator_launch("keeps_the_rules", g[0], g[1], g[2], g[3], g[4], g[5], 0, params, seed)) wrong++, printf("a grid that breaks the rules was launched\n");
        if (!emulator_launch("keeps_the_rules", 1, 1, 1, 256, 1, 1, 16, params, seed)) wrong++, printf("dynamic shared memory was given\n");
    }
    return wrong > 0;
}

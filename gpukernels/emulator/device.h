// The machine of kernels/device.h on a CPU: a fibre for each thread of a block, all in one thread of the system.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulator {

// What is known of an element of a block's memory. Times count barriers of the block, or of a warp, over all launches; an access
// needs a barrier between itself and those of others that it does not go with.
struct Shadow {
    uint64_t written = 0, read = 0;           // the block's time
    uint64_t warp_written = 0, warp_read = 0; // the warp's time
    uint64_t block = 0;                       // the block in which it was written at all
    int writer = -1, reader = -1;
    bool atomic = false, readers = false, warps = false; // written by atomics; read by several threads, of several warps
};

struct Memory {
    Shadow *shadow;
    const char *name;
    int64_t n;
};

enum Access { READ, WRITE, ATOMIC };

struct Index {
    int thread;
    int64_t block_x, block_y, block_z, grid_x, grid_y;
};

extern Index here; // of the thread that runs
extern uint64_t block_time, block_number;

Memory memory_of(void *at, int64_t n, int64_t size, const char *name);
void look_closely(const Memory &m, int64_t i, int64_t n, Access how);

// Notes an access and ends the launch if it is wrong. Most are reads of what many have read since the last barrier.
static inline void look(const Memory &m, int64_t first, int64_t n, Access how) {
    if (how == READ && first >= 0 && first + n <= m.n && first % n == 0) {
        int64_t i = first;
        for (; i < first + n; i++) {
            const Shadow &s = m.shadow[i];
            if (s.block != block_number || s.written == block_time || s.read != block_time || !s.warps) break;
        }
        if (i == first + n) return;
    }
    look_closely(m, first, n, how);
}
void block_wait(const char *file, int line);
void warp_wait(const char *file, int line);
// Every lane leaves n words and sees those of all: word i of lane l at [l * n + i], until its next exchange but one.
const uint32_t *exchange(const uint32_t *words, int n, int line);
void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line);

} // namespace emulator

static inline int thread_x() { return emulator::here.thread; }
static inline int64_t block_x() { return emulator::here.block_x; }
static inline int64_t block_y() { return emulator::here.block_y; }
static inline int64_t block_z() { return emulator::here.block_z; }
static inline int64_t grid_x() { return emulator::here.grid_x; }
static inline int64_t grid_y() { return emulator::here.grid_y; }

static inline uint32_t warp_xor_at(uint32_t v, int lanes, int line) { return emulator::exchange(&v, 1, line)[(thread_x() % 32) ^ lanes]; }
static inline uint64_t warp_xor64_at(uint64_t v, int lanes, int line) {
    uint32_t halves[2] = {(uint32_t)v, (uint32_t)(v >> 32)};
    const uint32_t *all = emulator::exchange(halves, 2, line) + 2 * ((thread_x() % 32) ^ lanes);
    return (uint64_t)all[1] << 32 | all[0];
}
static inline uint32_t warp_ballot_at(bool v, int line) {
    uint32_t word = v, all = 0;
    const uint32_t *words = emulator::exchange(&word, 1, line);
    for (int lane = 0; lane < 32; lane++) all |= words[lane] << lane;
    return all;
}
static inline uint32_t warp_total_at(uint32_t v, int line) {
    const uint32_t *words = emulator::exchange(&v, 1, line);
    uint32_t total = 0;
    for (int lane = 0; lane < 32; lane++) total += words[lane];
    return total;
}
static inline uint32_t warp_largest_at(uint32_t v, int line) {
    const uint32_t *words = emulator::exchange(&v, 1, line);
    uint32_t largest = 0;
    for (int lane = 0; lane < 32; lane++) largest = words[lane] > largest ? words[lane] : largest;
    return largest;
}
// The line is that of the source, so that lanes that wait in different places are found out.
#define block_barrier() emulator::block_wait(__FILE__, __LINE__)
#define warp_barrier() emulator::warp_wait(__FILE__, __LINE__)
#define warp_xor(v, lanes) warp_xor_at(v, lanes, __LINE__)
#define warp_xor64(v, lanes) warp_xor64_at(v, lanes, __LINE__)
#define warp_ballot(v) warp_ballot_at(v, __LINE__)
#define warp_total(v) warp_total_at(v, __LINE__)
#define warp_largest(v) warp_largest_at(v, __LINE__)
#define multiply_bf16(c, a, b) emulator::multiply_bf16(c, a, b, __LINE__)

static inline int anchored(int v) { return v; }
static inline int count_bits(uint32_t v) { return __builtin_popcount(v); }
static inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
static inline double fused(double a, double b, double c) { return std::fma(a, b, c); }
static inline float root(float v) { return std::sqrt(v); }
static inline double root(double v) { return std::sqrt(v); }
template <class To, class From> static inline To same_bits(From v) {
    To to;
    static_assert(sizeof to == sizeof v, "bits");
    std::memcpy(&to, &v, sizeof v);
    return to;
}
static inline uint32_t bits_of(float v) { return same_bits<uint32_t>(v); }
static inline float float_of(uint32_t v) { return same_bits<float>(v); }
static inline uint64_t bits_of(double v) { return same_bits<uint64_t>(v); }
static inline double double_of(uint64_t v) { return same_bits<double>(v); }

static inline uint32_t nearest_bf16(float v) {
    uint32_t b = bits_of(v);
    if (v != v) return 0x7fff;
    return (b + 0x7fff + (b >> 16 & 1)) >> 16;
}
static inline uint32_t pack_bf16(float low, float high) { return nearest_bf16(high) << 16 | nearest_bf16(low); }

template <class T> struct Shared {
    T *at;
    emulator::Memory memory;
    T get(int64_t i) const {
        emulator::look(memory, i, 1, emulator::READ);
        return at[i];
    }
    void set(int64_t i, T v) const {
        emulator::look(memory, i, 1, emulator::WRITE);
        at[i] = v;
    }
    float4v get4(int64_t i) const {
        emulator::look(memory, i, 4, emulator::READ);
        float4v v;
        std::memcpy(&v, at + i, sizeof v);
        return v;
    }
    void set4(int64_t i, float4v v) const {
        emulator::look(memory, i, 4, emulator::WRITE);
        std::memcpy(at + i, &v, sizeof v);
    }
    T add(int64_t i, T v) const {
        emulator::look(memory, i, 1, emulator::ATOMIC);
        T was = at[i];
        at[i] += v;
        return was;
    }
};
// Blocks run one after the other: what they share may be static.
#define SHARED(T, name, n)                                                                                                               \
    alignas(16) static T name##_memory[n];                                                                                               \
    const Shared<T> name = {name##_memory, emulator::memory_of(name##_memory, n, sizeof(T), #name)}
template <class T> static inline Shared<T> private_memory(T *at, int64_t n) { return {at, emulator::memory_of(at, n, sizeof(T), "private memory")}; }

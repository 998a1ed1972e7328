// A block's threads are fibres: each runs until it waits at a barrier or ends, and the seed says who is next. Races do not depend on
// that order: every access to memory that a block shares is compared with those since the last barrier.
#include "emulator.h"

typedef float float4v __attribute__((vector_size(16)));
#include "device.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#include <sys/mman.h>

// Which kernels there are: a header that declares them and lists them in EVERY_KERNEL.
#ifndef KERNELS
#define KERNELS "../kernels/kernels.h"
#endif
#include KERNELS

namespace emulator {

Index here;
uint64_t block_time = 1, block_number = 1;

namespace {

const int WARP_SIZE = 32, MOST_THREADS = 1024, MOST_WORDS = 8;
const size_t STACK = 64 << 10;

#if defined(__x86_64__)
// Saves what the System V ABI says a call keeps, and the place on the stack; system calls, which ucontext makes, cost a hundred times as much.
extern "C" void emulator_switch(void **from, void *to);
asm(R"(
.text
.type emulator_switch, @function
.hidden emulator_switch
.globl emulator_switch
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
)");

struct Fibre {
    void *top = nullptr;
    void start(char *stack, void (*entry)()) {
        void **p = (void **)(stack + STACK);
        *--p = nullptr; // where entry would return to; it does not
        *--p = (void *)entry;
        p -= 6;
        std::fill(p, p + 6, nullptr);
        top = p;
    }
    void run(Fibre &from) { emulator_switch(&from.top, top); }
};
#else
struct Fibre {
    ucontext_t context;
    void start(char *stack, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void run(Fibre &from) { swapcontext(&from.context, &context); }
};
#endif

enum State { RUNS, AT_BLOCK, AT_WARP, ENDED };

struct Thread {
    Fibre fibre;
    State state;
    int line, words;
};

struct Warp {
    int waits = 0, turn = 0;
    uint64_t time = 0;
    uint32_t words[2][WARP_SIZE * MOST_WORDS]; // of this exchange and the one before
};

std::mutex one;
thread_local std::string failure;
std::string *failed; // where the launch that runs says why it failed
bool broken;

Fibre scheduler;
Thread threads[MOST_THREADS];
Warp warps[MOST_THREADS / WARP_SIZE];
char *stacks;
int count, waiting, ended;
int ready[MOST_THREADS], runnable; // who can go on
void (*body)(void **);
void **arguments;

// Times never go back, so that what is known of an earlier block means nothing in this one.
uint64_t warp_time = 1;
struct Known {
    uint64_t block = 0;
    std::vector<Shadow> shadows;
};
std::map<void *, Known> known;

// The barrier that is left out, see emulator_without.
std::string without_file;
int without_line;
int64_t skipped;
bool skip(const char *file) {
    std::string name = file;
    if (name.substr(name.find_last_of('/') + 1) != without_file) return false;
    skipped++;
    return true;
}

void leave() { scheduler.run(threads[here.thread].fibre); }

[[gnu::format(printf, 1, 2)]] void fail(const char *format, ...) {
    if (!broken) {
        char text[400];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        char where[160];
        snprintf(where, sizeof where, " (block %lld,%lld,%lld thread %d)", (long long)here.block_x, (long long)here.block_y,
                 (long long)here.block_z, here.thread);
        *failed += std::string(text) + where;
        broken = true;
    }
}

// A thread that has failed runs no further.
[[noreturn]] void stop() {
    for (;;) leave();
}

void entry() {
    body(arguments);
    threads[here.thread].state = ENDED;
    ended++;
    stop();
}

void release(int t) {
    threads[t].state = RUNS;
    if (t != here.thread) ready[runnable++] = t;
}

void release_block() {
    for (int t = 0; t < count; t++) release(t);
    waiting = 0;
    block_time++;
    for (int w = 0; w * WARP_SIZE < count; w++) warps[w].time = ++warp_time;
}

uint64_t mix(uint64_t &state) { // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

void run_block(uint64_t &random) {
    block_number++;
    block_time++;
    waiting = ended = 0;
    for (int t = 0; t < count; t++) {
        threads[t].state = RUNS;
        threads[t].fibre.start(stacks + t * STACK, entry);
        if (t % WARP_SIZE == 0) {
            warps[t / WARP_SIZE].waits = 0;
            warps[t / WARP_SIZE].time = ++warp_time;
        }
    }
    runnable = count;
    for (int t = 0; t < count; t++) ready[t] = count - 1 - t;
    while (ended < count) {
        if (runnable > 0) {
            if (random) std::swap(ready[(mix(random) >> 32) * runnable >> 32], ready[runnable - 1]);
            here.thread = ready[--runnable];
            threads[here.thread].fibre.run(scheduler);
            if (broken) return;
            continue;
        }
        int barrier = -1, lanes = -1, done = -1;
        for (int t = 0; t < count; t++) (threads[t].state == AT_BLOCK ? barrier : threads[t].state == AT_WARP ? lanes : done) = t;
        if (lanes >= 0)
            here.thread = lanes, fail("not all lanes of the warp reached line %d", threads[lanes].line);
        else
            here.thread = barrier, fail("the barrier in line %d was not reached by all threads: %d did, thread %d ended", threads[barrier].line, waiting, done);
        return;
    }
}

} // namespace

Memory memory_of(void *at, int64_t n, int64_t size, const char *name) {
    Known &k = known[at];
    if (k.block != block_number) {
        k.block = block_number;
        if ((int64_t)k.shadows.size() < n) k.shadows.resize(n);
        memset(at, 0xff, n * size); // NaN, or an index far outside
    }
    return {k.shadows.data(), name, n};
}

void look_closely(const Memory &m, int64_t first, int64_t n, Access how) {
    if (first < 0 || first + n > m.n || first % n != 0) {
        fail("%s has %lld elements; %lld from %lld were asked for", m.name, (long long)m.n, (long long)n, (long long)first);
        stop();
    }
    int me = here.thread, warp = me / WARP_SIZE;
    uint64_t time = warps[warp].time;
    for (int64_t i = first; i < first + n; i++) {
        Shadow &s = m.shadow[i];
        const char *what = nullptr;
        if (s.block == block_number && s.written == block_time && s.writer != me && !(how == ATOMIC && s.atomic) &&
            (s.writer / WARP_SIZE != warp || s.warp_written == time))
            what = how == READ ? "read" : "written";
        if (how == READ) {
            if (s.block != block_number) {
                fail("%s[%lld] was read before it was written", m.name, (long long)i);
                stop();
            }
            if (s.read != block_time) {
                s.read = block_time, s.reader = me, s.warp_read = time, s.readers = s.warps = false;
            } else if (s.reader / WARP_SIZE != warp) {
                s.readers = s.warps = true;
            } else if (s.warp_read != time) {
                s.warp_read = time, s.reader = me, s.readers = false;
            } else if (s.reader != me) {
                s.readers = true;
            }
        } else {
            if (s.read == block_time && (s.warps || s.reader / WARP_SIZE != warp || (s.warp_read == time && (s.readers || s.reader != me)))) {
                fail("read by thread %d and written by thread %d without a barrier in between: %s[%lld]", s.reader, me, m.name, (long long)i);
                stop();
            }
        }
        if (what) {
            fail("written by thread %d and %s by thread %d without a barrier in between: %s[%lld]", s.writer, what, me, m.name, (long long)i);
            stop();
        }
        if (how != READ) s.block = block_number, s.written = block_time, s.writer = me, s.warp_written = time, s.atomic = how == ATOMIC;
    }
}

void block_wait(const char *file, int line) {
    if (line == without_line && skip(file)) return;
    Thread &me = threads[here.thread];
    if (waiting > 0) {
        for (int t = 0; t < count; t++)
            if (threads[t].state == AT_BLOCK && threads[t].line != line) {
                fail("threads wait at barriers in lines %d and %d at once", threads[t].line, line);
                stop();
            } else if (threads[t].state == AT_BLOCK)
                break;
    }
    me.line = line;
    me.state = AT_BLOCK;
    if (++waiting == count)
        release_block();
    else
        leave();
}

namespace {

// Waits for the other lanes; words says what for, so that different operations do not meet.
void meet(int line, int words) {
    int first = here.thread / WARP_SIZE * WARP_SIZE;
    Warp &w = warps[first / WARP_SIZE];
    Thread &me = threads[here.thread];
    me.line = line;
    me.words = words;
    me.state = AT_WARP;
    if (++w.waits < WARP_SIZE) return leave();
    for (int t = first; t < first + WARP_SIZE; t++) {
        if (threads[t].line != line || threads[t].words != words) {
            fail("lanes of a warp wait in lines %d and %d at once", threads[t].line, line);
            stop();
        }
        release(t);
    }
    w.waits = 0;
}

} // namespace

void warp_wait(const char *file, int line) {
    if (line == without_line && skip(file)) return;
    Warp &w = warps[here.thread / WARP_SIZE];
    uint64_t before = w.time;
    meet(line, 0);
    if (w.time == before) w.time = ++warp_time; // the first that goes on
}

const uint32_t *exchange(const uint32_t *words, int n, int line) {
    int lane = here.thread % WARP_SIZE;
    Warp &w = warps[here.thread / WARP_SIZE];
    uint32_t *all = w.words[w.turn];
    memcpy(all + lane * n, words, n * sizeof *words);
    if (w.waits == WARP_SIZE - 1) w.turn = 1 - w.turn;
    meet(line, n);
    return all;
}

namespace {

// The sum of products and c as tensor cores make it, at its most pessimistic: products are exact, each addend is cut off 24 binary digits below the highest of the
// largest, and so is the result (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 2021, section 4).
float sum_truncated(float c, const double *x, const double *y) {
    double products[16], largest = std::fabs((double)c), plain = c;
    for (int k = 0; k < 16; k++) {
        products[k] = x[k] * y[k];
        largest = std::max(largest, std::fabs(products[k]));
        plain += products[k];
    }
    if (!std::isfinite(plain) || largest == 0) return (float)plain;
    // Powers of two are made of their bits: ldexp would take most of the time.
    int exponent = std::max((int)(bits_of(largest) >> 52) - 1023 - 23, -149);
    double step = double_of((uint64_t)(exponent + 1023) << 52), inverse = double_of((uint64_t)(1023 - exponent) << 52);
    int64_t sum = (int64_t)(c * inverse);
    for (int k = 0; k < 16; k++) sum += (int64_t)(products[k] * inverse);
    int digits = 64 - __builtin_clzll((uint64_t)(sum < 0 ? -sum : sum) | 1);
    if (digits > 24) sum = sum / (1ll << (digits - 24)) * (1ll << (digits - 24));
    return (float)((double)sum * step);
}

double wide(uint32_t pair, int which) { return float_of(which ? pair & 0xffff0000u : pair << 16); }

} // namespace

void (multiply_bf16)(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int line) {
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const uint32_t *all = exchange(mine, 6, line);
    int group = here.thread % WARP_SIZE / 4, place = here.thread % 4;
    // c[i] is at row group (+ 8), column 2 place (+ 1). Row r of a is with the lanes of group r % 8, column n of b with those of group n.
    double x[2][16], y[2][16];
    for (int high = 0; high < 2; high++)
        for (int k = 0; k < 16; k++) {
            int upper = k / 8, lane = k % 8 / 2;
            x[high][k] = wide(all[(4 * group + lane) * 6 + high + 2 * upper], k % 2);
            y[high][k] = wide(all[(4 * (2 * place + high) + lane) * 6 + 4 + upper], k % 2);
        }
    for (int i = 0; i < 4; i++) c[i] = sum_truncated(c[i], x[i / 2], y[i % 2]);
}

namespace {

template <class F, class... A, size_t... I> void call(F f, void (*)(A...), void **p, std::index_sequence<I...>) {
    static_assert(((sizeof(A) == 8) && ...), "parameters are 8 bytes wide");
    f(*(std::remove_const_t<A> *)p[I]...);
}
template <class... A> constexpr size_t arity(void (*)(A...)) { return sizeof...(A); }

struct Entry {
    const char *name;
    void (*body)(void **);
};
const Entry entries[] = {
#define ENTRY(name) {#name, [](void **p) { call(name, name, p, std::make_index_sequence<arity(name)>()); }},
    EVERY_KERNEL(ENTRY)
#undef ENTRY
};

const Entry *find(const char *name) {
    for (const Entry &e : entries)
        if (!strcmp(e.name, name)) return &e;
    return nullptr;
}

} // namespace
} // namespace emulator

using namespace emulator;

int emulator_has(const char *kernel) { return find(kernel) != nullptr; }
const char *emulator_error(void) { return failure.c_str(); }

int64_t emulator_without(const char *file, int line) {
    std::lock_guard<std::mutex> lock(one);
    int64_t before = skipped;
    skipped = 0, without_file = file, without_line = line;
    return before;
}

int emulator_launch(const char *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                    void **params, uint64_t seed) {
    failure.clear();
    const Entry *e = find(kernel);
    if (!e) {
        failure = std::string("no kernel ") + kernel;
        return 1;
    }
    if (bx != BLOCK_THREADS || by != 1 || bz != 1 || shared_bytes != 0 || gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535) {
        failure = std::string(kernel) + ": the grid or the block breaks the rules of kernels.h";
        return 1;
    }
    std::lock_guard<std::mutex> lock(one);
    if (!stacks) {
        void *at = mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) {
            failure = "no memory for stacks";
            return 1;
        }
        stacks = (char *)at;
    }
    std::string text = std::string(kernel) + ": ";
    failed = &text;
    broken = false;
    known.clear();
    body = e->body;
    arguments = params;
    count = bx;
    here = {0, 0, 0, 0, gx, gy};
    uint64_t blocks = (uint64_t)gx * gy * gz, random = seed;
    // A step that shares no factor with the number of blocks visits each once.
    uint64_t step = 1, block = 0;
    if (seed) {
        block = mix(random) % blocks;
        do step = mix(random) % blocks + 1;
        while (std::__gcd(step, blocks) != 1);
    }
    for (uint64_t i = 0; i < blocks && !broken; i++, block = (block + step) % blocks) {
        here.block_x = block % gx, here.block_y = block / gx % gy, here.block_z = block / gx / gy;
        run_block(random);
    }
    if (broken) failure = text;
    return broken;
}

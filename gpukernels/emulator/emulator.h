// What runs kernels on the CPU, as the driver's launch call takes them.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Runs every block of the grid to its end, one block after the other; with a seed other than 0 blocks, and between barriers threads, take turns in an
// order that the seed decides. params are pointers to 8-byte parameters, as cuLaunchKernel takes them. 0: ok. Otherwise the kernel is unknown, the launch breaks a rule of
// kernels.h, memory that a block shares was read or written out of bounds, before it was written or without a barrier in between, or a barrier was not reached by all; what the kernel had written by
// then stays written. Calls from several threads wait for each other.
int emulator_launch(const char *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                    unsigned shared_bytes, void **params, uint64_t seed);

// 1 if there is such a kernel.
int emulator_has(const char *kernel);

// The text of the last failure of this thread; empty if its last launch went well.
const char *emulator_error(void);

// From now on the barrier in that line of that file (its name without folders) is left out; line 0: none is. What tests do not notice missing, they do not test. Returns
// how many threads have passed the one that was left out before.
int64_t emulator_without(const char *file, int line);

#ifdef __cplusplus
}
#endif

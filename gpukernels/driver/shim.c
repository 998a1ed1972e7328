//go:build cuda && cgo && linux && amd64

// The driver's functions, defined here as jumps through pointers, so that one binary runs on machines with and without a driver.
//
// Linked plainly, a binary that uses gorgonia.org/cu does not start where there is no libcuda.so.1, and where there is one without a
// device it prints to standard output and exits, since cu calls cuInit as it is loaded and takes any error for the end. Here cuInit
// says that all is well; taster_cuda_open opens the library and keeps the true answer for who asks (taster_cuda_reason).

#include <dlfcn.h>
#include <stdio.h>

#include "shim.h"

enum { no_device = 100 }; // CUDA_ERROR_NO_DEVICE

__attribute__((used, visibility("hidden"))) int taster_cuda_unresolved(void) { return no_device; }

#define SYMBOL(name)                                                                                                   \
  __attribute__((used, visibility("hidden"))) void *taster_to_##name = (void *)taster_cuda_unresolved;                 \
  __asm__(".text\n"                                                                                                    \
          ".globl " #name "\n"                                                                                         \
          ".hidden " #name "\n"                                                                                        \
          ".type " #name ", @function\n"                                                                               \
          #name ":\n"                                                                                                  \
          "\tendbr64\n"                                                                                                \
          "\tjmp *taster_to_" #name "(%rip)\n"                                                                         \
          ".size " #name ", . - " #name "\n");
#include "symbols.h"
#undef SYMBOL

static char reason[256] = "the driver was not looked for";

// Hidden, like the jumps: were they exported, the driver's own calls of its functions could end up here.
//
// What cu calls as it is loaded. Commands that need no device do not pay for a driver that starts.
__attribute__((visibility("hidden"))) int cuInit(unsigned flags) {
  (void)flags;
  return 0;
}

void taster_cuda_open(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    snprintf(reason, sizeof reason, "%s", why ? why : "libcuda.so.1 cannot be opened");
    return;
  }
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
  if (!init) {
    snprintf(reason, sizeof reason, "libcuda.so.1 has no cuInit");
    return;
  }
  int status = init(0);
  if (status) {
    const char *text = NULL;
    int (*describe)(int, const char **) = (int (*)(int, const char **))dlsym(library, "cuGetErrorString");
    if (!describe || describe(status, &text) || !text) text = "the driver does not start";
    snprintf(reason, sizeof reason, "%s (cuInit: %d)", text, status);
    return; // the pointers stay as they are: every call says that there is no device
  }
  void *found;
#define SYMBOL(name)                                                                                                   \
  if ((found = dlsym(library, #name))) taster_to_##name = found;
#include "symbols.h"
#undef SYMBOL
  reason[0] = 0;
}

const char *taster_cuda_reason(void) { return reason; }

extern int cuMemHostAlloc(void **, size_t, unsigned);
int taster_cuda_host_alloc(void **at, size_t bytes) { return cuMemHostAlloc(at, bytes, 1 /* CU_MEMHOSTALLOC_PORTABLE */); }

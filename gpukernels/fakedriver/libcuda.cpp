// A CUDA driver without a device: libcuda.so.1 for tests. It holds the functions that taster calls, keeps device memory in the
// processor's, and runs kernels on the emulator.
//
// It is as unkind as a driver may be. What is queued in a stream is done as late as it can be, so that whoever reads a result too
// soon, or writes to memory that a copy has still to read, gets it wrong. A stream that is asked for the first time is never ready.
// Calls on a thread without a context, copies that leave an allocation, and a kernel that the PTX lacks are errors.
//
// TASTER_FAKE_CUDA says what goes wrong, name=number with commas between, read at every call:
//
//	devices=N     how many there are (1)
//	init=CODE     what cuInit answers (0)
//	memory=BYTES  of a device (1 GiB)
//	launches=N    the device is lost at launch N since the context was made, counted from 0 (never)
//	compute=MN    the compute capability, ten times (80)
//	hang=N        from launch N on a stream is never ready (never)
//	seed=N        of the emulator's schedules (1)
//
// TASTER_FAKE_CUDA_LOG, if it is set, has errors and the number of launches told on standard error.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../emulator/emulator.h"

namespace {

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719 };

long setting(const char *name, long otherwise) {
  const char *all = getenv("TASTER_FAKE_CUDA");
  if (!all) return otherwise;
  std::string text = std::string(",") + all, key = std::string(",") + name + "=";
  size_t at = text.find(key);
  return at == std::string::npos ? otherwise : atol(text.c_str() + at + key.size());
}

struct Stream {
  uintptr_t context;
  std::deque<std::function<int()>> queue;
  bool asked = false;
};
struct Module {
  std::string image;
};
struct Function {
  std::string name;
  int parameters;
};
struct Memory {
  size_t bytes;
  uintptr_t context;
};
struct Context {
  long launched = 0;
  int broken = 0; // the error that every call answers once the device is lost
  std::set<Stream *> streams;
};

std::mutex lock;
std::map<uintptr_t, Memory> allocations; // device
std::map<uintptr_t, Memory> host;        // page-locked
std::map<uintptr_t, Context> contexts;
size_t used;
thread_local uintptr_t current;

int fail(int code, const char *what) {
  if (getenv("TASTER_FAKE_CUDA_LOG")) fprintf(stderr, "fake driver: %d: %s\n", code, what);
  return code;
}

int ready() {
  if (!current || !contexts.count(current)) return fail(INVALID_CONTEXT, "no context on this thread");
  return contexts[current].broken;
}

bool within(const std::map<uintptr_t, Memory> &all, const void *at, size_t bytes) {
  auto next = all.upper_bound((uintptr_t)at);
  if (next == all.begin()) return false;
  --next;
  return (uintptr_t)at + bytes <= next->first + next->second.bytes;
}

// step does the oldest thing of a stream.
int step(Stream *s) {
  if (s->queue.empty()) return OK;
  auto work = s->queue.front();
  s->queue.pop_front();
  int code = work();
  if (code) contexts[s->context].broken = code;
  return code;
}

} // namespace

#define API extern "C" __attribute__((visibility("default"))) int
#define ENTER                                  \
  std::lock_guard<std::mutex> hold(lock);      \
  if (int code = ready()) return code;

API cuInit(unsigned) { return (int)setting("init", setting("devices", 1) ? OK : NO_DEVICE); }

API cuGetErrorString(int code, const char **text) {
  switch (code) {
  case NO_DEVICE: *text = "no CUDA-capable device is detected"; return OK;
  case 999: *text = "unknown error"; return OK;
  }
  return INVALID_VALUE;
}

API cuDriverGetVersion(int *v) { *v = 12080; return OK; }
API cuDeviceGetCount(int *n) { *n = (int)setting("devices", 1); return OK; }
API cuDeviceGet(int *device, int n) {
  if (n < 0 || n >= setting("devices", 1)) return INVALID_DEVICE;
  *device = n;
  return OK;
}
API cuDeviceGetName(char *to, int room, int device) { snprintf(to, room, "emulated device %d", device); return OK; }
API cuDeviceTotalMem_v2(size_t *bytes, int) { *bytes = (size_t)setting("memory", 1l << 30); return OK; }
API cuDeviceGetAttribute(int *value, int what, int) {
  switch (what) {
  case 16: *value = 3; return OK;                                // MULTIPROCESSOR_COUNT
  case 75: *value = (int)setting("compute", 80) / 10; return OK; // COMPUTE_CAPABILITY_MAJOR
  case 76: *value = (int)setting("compute", 80) % 10; return OK; // COMPUTE_CAPABILITY_MINOR
  }
  return INVALID_VALUE;
}

API cuCtxCreate_v2(uintptr_t *context, unsigned, int) {
  std::lock_guard<std::mutex> hold(lock);
  static uintptr_t next;
  contexts[current = *context = ++next];
  return OK;
}
API cuCtxDestroy_v2(uintptr_t context) {
  std::lock_guard<std::mutex> hold(lock);
  if (!contexts.count(context)) return INVALID_CONTEXT;
  if (getenv("TASTER_FAKE_CUDA_LOG")) fprintf(stderr, "fake driver: %ld launches\n", contexts[context].launched);
  for (Stream *s : contexts[context].streams) delete s;
  for (auto *all : {&allocations, &host})
    for (auto a = all->begin(); a != all->end();) {
      if (a->second.context != context) {
        ++a;
        continue;
      }
      if (all == &allocations) used -= a->second.bytes;
      free((void *)a->first);
      a = all->erase(a);
    }
  contexts.erase(context);
  if (current == context) current = 0;
  return OK;
}

API cuMemGetInfo_v2(size_t *left, size_t *total) {
  ENTER
  *total = (size_t)setting("memory", 1l << 30);
  *left = *total > used ? *total - used : 0;
  return OK;
}
API cuMemAlloc_v2(uintptr_t *at, size_t bytes) {
  ENTER
  if (!bytes) return INVALID_VALUE;
  if (used + bytes > (size_t)setting("memory", 1l << 30)) return OUT_OF_MEMORY;
  void *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!p) return OUT_OF_MEMORY;
  memset(p, 0xff, bytes); // NaN, for who reads before writing
  allocations[*at = (uintptr_t)p] = {bytes, current};
  used += bytes;
  return OK;
}
API cuMemFree_v2(uintptr_t at) {
  ENTER
  auto found = allocations.find(at);
  if (found == allocations.end()) return fail(INVALID_VALUE, "freed what was not allocated");
  for (Stream *s : contexts[current].streams)
    while (!s->queue.empty())
      if (int code = step(s)) return code;
  used -= found->second.bytes;
  memset((void *)at, 0xff, found->second.bytes);
  free((void *)at);
  allocations.erase(found);
  return OK;
}
API cuMemHostAlloc(void **at, size_t bytes, unsigned) {
  ENTER
  *at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*at) return OUT_OF_MEMORY;
  host[(uintptr_t)*at] = {bytes, current};
  return OK;
}
API cuMemFreeHost(void *at) {
  ENTER
  if (!host.erase((uintptr_t)at)) return INVALID_VALUE;
  free(at);
  return OK;
}

API cuStreamCreate(Stream **s, unsigned) {
  ENTER
  *s = new Stream;
  (*s)->context = current;
  contexts[current].streams.insert(*s);
  return OK;
}
API cuStreamDestroy_v2(Stream *s) {
  ENTER
  if (!contexts[current].streams.erase(s)) return INVALID_HANDLE;
  delete s;
  return OK;
}
API cuStreamQuery(Stream *s) {
  ENTER
  if (!contexts[current].streams.count(s)) return INVALID_HANDLE;
  if (s->queue.empty()) return OK;
  if (contexts[current].launched > setting("hang", 1l << 62)) return NOT_READY;
  if (!s->asked) {
    s->asked = true;
    return NOT_READY;
  }
  s->asked = false;
  if (int code = step(s)) return code;
  return s->queue.empty() ? OK : NOT_READY;
}
API cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, Stream *s) {
  ENTER
  if (!within(host, from, bytes)) return fail(INVALID_VALUE, "a copy from memory that is not page-locked");
  s->queue.push_back([=] {
    if (!within(allocations, (void *)to, bytes)) return fail(ILLEGAL_ADDRESS, "a copy to the device leaves its allocation");
    memcpy((void *)to, from, bytes);
    return (int)OK;
  });
  return OK;
}
API cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, Stream *s) {
  ENTER
  if (!within(host, to, bytes)) return fail(INVALID_VALUE, "a copy to memory that is not page-locked");
  s->queue.push_back([=] {
    if (!within(allocations, (void *)from, bytes)) return fail(ILLEGAL_ADDRESS, "a copy from the device leaves its allocation");
    memcpy(to, (void *)from, bytes);
    return (int)OK;
  });
  return OK;
}

API cuModuleLoadData(Module **m, const void *image) {
  ENTER
  std::string text((const char *)image);
  if (text.find(".version") == std::string::npos || text.find(".target sm_") == std::string::npos) return fail(INVALID_IMAGE, "no PTX");
  *m = new Module{text};
  return OK;
}
API cuModuleGetFunction(Function **f, Module *m, const char *name) {
  ENTER
  size_t at = m->image.find(std::string(".visible .entry ") + name + "(");
  if (at == std::string::npos) return fail(NOT_FOUND, name);
  std::string list = m->image.substr(at, m->image.find(')', at) - at);
  int n = 0;
  for (size_t p = 0; (p = list.find(".param .", p)) != std::string::npos; p++, n++) {
    if (list.compare(p, 10, ".param .u6") && list.compare(p, 10, ".param .f6") && list.compare(p, 10, ".param .b6")) return fail(INVALID_IMAGE, "a parameter that has not 64 bits");
  }
  *f = new Function{name, n};
  return OK;
}

// The parameters are as many 64-bit values as the PTX says, copied now, as a driver does.
API cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Stream *s, void **params, void **extra) {
  ENTER
  if (!gx || !gy || !gz || !bx || gy > 65535 || gz > 65535 || bx * by * bz > 1024 || shared > 48 << 10 || extra) return fail(INVALID_VALUE, "a launch that no device takes");
  std::vector<uint64_t> values;
  for (int i = 0; i < f->parameters; i++) values.push_back(*(uint64_t *)params[i]);
  Context &c = contexts[current];
  if (c.launched++ >= setting("launches", 1l << 62)) return c.broken = fail(LAUNCH_FAILED, "lost, as was asked for");
  uint64_t seed = (uint64_t)(setting("seed", 1) + c.launched);
  std::string name = f->name;
  s->queue.push_back([=]() mutable {
    std::vector<void *> at;
    for (auto &v : values) at.push_back(&v);
    if (emulator_launch(name.c_str(), gx, gy, gz, bx, by, bz, shared, at.data(), seed)) return fail(LAUNCH_FAILED, emulator_error());
    return (int)OK;
  });
  return OK;
}

#include <stddef.h>

// The true result of cuInit, and what to tell about it; "" when it is 0.
int taster_cuda_status(void);
const char *taster_cuda_reason(void);

// Memory of the host that a device can read while the processor goes on; cu has no function for it.
int taster_cuda_host_alloc(void **at, size_t bytes);
int taster_cuda_host_free(void *at);

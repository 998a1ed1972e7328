#include <stddef.h>

// Opens the driver and resolves its functions. Call it once, before any of them; without it all say that there is no device.
void taster_cuda_open(void);

// Why there is no driver to call; "" when there is one.
const char *taster_cuda_reason(void);

// Memory of the host that a device can read while the processor goes on; cu has no function for it.
int taster_cuda_host_alloc(void **at, size_t bytes);

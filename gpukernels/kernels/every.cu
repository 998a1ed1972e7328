// All kernels in one module.
#include "rows.cu"

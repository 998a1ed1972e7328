// Every kernel, compiled for the CPU.
#include "../kernels/every.cu"

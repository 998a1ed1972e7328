// All kernels in one module.
#include "columns.cu"
#include "forest.cu"
#include "knn.cu"
#include "products.cu"
#include "rows.cu"

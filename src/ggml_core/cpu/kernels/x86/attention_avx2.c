#include "cpu/kernels/x86/vec_avx2.h"

enum { V_VECTORS = 2, V_COLUMNS = 4 };
#define V_LEVEL(name) name##_avx2
#include "cpu/kernels/x86/attention.h"

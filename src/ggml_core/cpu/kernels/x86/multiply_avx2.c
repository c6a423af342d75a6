#include "cpu/kernels/x86/vec_avx2.h"

enum { V_ROWS = 6, V_VECTORS = 2 };
#define V_LEVEL(name) name##_avx2
#include "cpu/kernels/x86/multiply.h"

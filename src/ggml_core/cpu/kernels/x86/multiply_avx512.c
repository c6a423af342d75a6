#include "cpu/kernels/x86/vec_avx512.h"

enum { V_ROWS = 12, V_VECTORS = 2 };
#define V_LEVEL(name) name##_avx512
#include "cpu/kernels/x86/multiply.h"

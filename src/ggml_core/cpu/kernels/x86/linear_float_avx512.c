#include "cpu/kernels/x86/vec_avx512.h"

enum { V_COLUMNS = 4 };
#define V_LEVEL(name) name##_avx512
#include "cpu/kernels/x86/linear_float.h"

#include "cpu/kernels/x86/vec_avx2.h"

enum { V_COLUMNS = 2 };
#define V_LEVEL(name) name##_avx2
#include "cpu/kernels/x86/linear_float.h"

#include "cpu/kernels/x86/vec_avx512.h"

enum { V_VECTORS = 4, V_COLUMNS = 4 };
#define V_LEVEL(name) name##_avx512
#include "cpu/kernels/x86/attention.h"

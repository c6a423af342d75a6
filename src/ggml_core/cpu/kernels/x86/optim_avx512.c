#include "cpu/kernels/x86/vec_avx512.h"

#define V_LEVEL(name) name##_avx512
#include "cpu/kernels/x86/optim.h"

#include "cpu/kernels/x86/vec_avx2.h"

#define V_LEVEL(name) name##_avx2
#include "cpu/kernels/x86/optim.h"

/* Quantising: searches and conversions. */
#include <float.h>
#include <math.h>

#include "types/blocks.h"
#include "types/f16.h"

#define V_LEVEL(name) name##_avx2
#include "cpu/kernels/x86/search.h"

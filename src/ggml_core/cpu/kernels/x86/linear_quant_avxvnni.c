/* linear over quantised weights in blocks of 32. */
#include "cpu/kernels/x86/lanes_avxvnni.h"

#include "cpu/kernels/x86/linear_quant.h"

/* linear over super-blocks of 256, and over the IQ4 types. */
#include "cpu/kernels/x86/lanes_avxvnni.h"

#include "cpu/kernels/x86/linear_k.h"

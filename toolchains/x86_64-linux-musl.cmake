# Static programs for 64-bit PCs, through zig. Without, for size, one level (processors that have it have AVX2) and the
# fast kernels of training.
set(NANOLLM_ZIG_TARGET x86_64-linux-musl CACHE STRING "")
set(NANOLLM_WITHOUT avxvnni training CACHE STRING "What to leave out")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

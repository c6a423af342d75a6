# Static programs for 64-bit PCs, through zig.
set(NANOLLM_ZIG_TARGET x86_64-linux-musl CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

# Static programs for 64-bit PCs, through zig. One level less than elsewhere, for size: processors that have it have AVX2.
set(NANOLLM_ZIG_TARGET x86_64-linux-musl CACHE STRING "")
set(NANOLLM_WITHOUT avxvnni CACHE STRING "Levels to leave out")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

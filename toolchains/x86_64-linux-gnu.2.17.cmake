# Dynamic programs for 64-bit PCs with glibc 2.17 or newer, through zig.
set(NANOLLM_ZIG_TARGET x86_64-linux-gnu.2.17 CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

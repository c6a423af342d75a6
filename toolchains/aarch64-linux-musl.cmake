# Static programs for 64-bit Arm, through zig: boards, and phones by adb.
set(NANOLLM_ZIG_TARGET aarch64-linux-musl CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

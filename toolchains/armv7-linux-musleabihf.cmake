# Static programs for 32-bit Arm with hardware floats, through zig: watches, old phones and boards.
# ARMv6 (the first Raspberry Pi and the Zero): add -DNANOLLM_ZIG_CPU=arm1176jzf_s.
set(NANOLLM_ZIG_TARGET arm-linux-musleabihf CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

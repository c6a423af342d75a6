# Static programs for 64-bit RISC-V (rv64gc), through zig.
set(NANOLLM_ZIG_TARGET riscv64-linux-musl CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/zig.cmake)

# Tegra X1 (Jetson TX1, Jetson Nano, Nintendo Switch): four Cortex-A57, ARMv8.0 without dot products. On the board
# itself, with the stock gcc 7.5 and CMake 3.10, this only says so to the compiler; elsewhere it is Debian's cross
# compiler, and programs run under qemu as a Cortex-A57.
if(NOT CMAKE_HOST_SYSTEM_PROCESSOR STREQUAL "aarch64")
    include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux-gnu.cmake)
    list(INSERT CMAKE_CROSSCOMPILING_EMULATOR 1 -cpu cortex-a57)
endif()
set(CMAKE_C_FLAGS_INIT "-march=armv8-a -mtune=cortex-a57")

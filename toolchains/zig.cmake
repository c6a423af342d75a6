# Zig as cross compiler: the files that include this one name a target. Zig is found as `zig` on the PATH, in the
# Python package ziglang (pip install ziglang), or where -DNANOLLM_ZIG=path says. CMake 3.19 or newer.
#
#   cmake -S . -B build/phone -DCMAKE_TOOLCHAIN_FILE=toolchains/aarch64-linux-musl.cmake
#
# musl targets make static programs that need nothing of the device's but its kernel, so they run on phones, too;
# gnu.2.17 targets make dynamic ones for any glibc from 2012 on.
set(NANOLLM_ZIG_TARGET aarch64-linux-musl CACHE STRING "Zig's name of the target")
set(NANOLLM_ZIG_CPU "" CACHE STRING "Zig's name of the oldest processor, as arm1176jzf_s; empty: any of the target")
find_program(NANOLLM_ZIG zig)
if(NOT NANOLLM_ZIG)
    find_program(NANOLLM_PYTHON NAMES python3 python)
    if(NANOLLM_PYTHON)
        execute_process(COMMAND ${NANOLLM_PYTHON} -c "import os, ziglang; print(os.path.dirname(ziglang.__file__), end='')"
            OUTPUT_VARIABLE zig_package ERROR_QUIET)
        find_program(NANOLLM_ZIG zig HINTS "${zig_package}")
    endif()
endif()
if(NOT NANOLLM_ZIG)
    message(FATAL_ERROR "zig not found: pip install ziglang, or pass -DNANOLLM_ZIG=path")
endif()
# Compiler checks configure projects of their own, which must see the same settings.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NANOLLM_ZIG NANOLLM_ZIG_TARGET NANOLLM_ZIG_CPU)

string(REGEX MATCH "^[^-]+" zig_processor "${NANOLLM_ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${zig_processor})
set(CMAKE_C_COMPILER ${NANOLLM_ZIG} cc -target ${NANOLLM_ZIG_TARGET})
if(NANOLLM_ZIG_CPU)
    list(APPEND CMAKE_C_COMPILER -mcpu=${NANOLLM_ZIG_CPU})
endif()
# Archiving asks for single programs, and zig's are subcommands.
set(CMAKE_C_ARCHIVE_CREATE "${NANOLLM_ZIG} ar qc <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_APPEND "${NANOLLM_ZIG} ar q <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "${NANOLLM_ZIG} ranlib <TARGET>")

# Checks compile and do not link: linking makes zig build libc anew for every new set of flags.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

# Zig adds debug information unless told to strip. Tables for unwinding and functions nobody calls are a tenth of a
# static program.
set(CMAKE_C_FLAGS_INIT "-ffunction-sections -fdata-sections -fno-unwind-tables -fno-asynchronous-unwind-tables")
set(CMAKE_C_FLAGS_RELEASE "-Os -DNDEBUG" CACHE STRING "Flags of release builds")
set(NANOLLM_HOT_FLAGS "-O2" CACHE STRING "Flags of files that compute")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-s -Wl,--gc-sections")
if(NANOLLM_ZIG_TARGET MATCHES "gnu")
    # Zig's headers of glibc use _Generic in string.h's macros, of which -std=c99 -Wpedantic complains.
    string(APPEND CMAKE_C_FLAGS_INIT " -Wno-error=c11-extensions")
else()
    set(CMAKE_EXE_LINKER_FLAGS_INIT "-s -static -Wl,--gc-sections")
endif()

# Programs of other processors run under qemu (package qemu-user-static); dynamic ones with Debian's cross libraries.
if(NOT zig_processor STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
    set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${zig_processor}-static)
    if(NANOLLM_ZIG_TARGET MATCHES "gnu")
        list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -L /usr/${zig_processor}-linux-gnu)
    endif()
endif()

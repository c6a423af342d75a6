# Zig as cross compiler (PyPI: ziglang; `zig` on the PATH, or -DNANOLLM_ZIG=path). -DNANOLLM_ZIG_TARGET names the
# target: aarch64-linux-musl makes static programs, aarch64-linux-gnu.2.17 dynamic ones for old glibc.
set(NANOLLM_ZIG_TARGET aarch64-linux-musl CACHE STRING "Zig's name of the target")
find_program(NANOLLM_ZIG zig)
if(NOT NANOLLM_ZIG)
    message(FATAL_ERROR "zig not found: install it, or pass -DNANOLLM_ZIG=path")
endif()
# Compiler checks configure projects of their own, which must see the same settings.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NANOLLM_ZIG NANOLLM_ZIG_TARGET)

string(REGEX MATCH "^[^-]+" zig_processor "${NANOLLM_ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${zig_processor})
set(CMAKE_C_COMPILER ${NANOLLM_ZIG} cc -target ${NANOLLM_ZIG_TARGET})
# Archiving asks for single programs, and zig's are subcommands.
set(CMAKE_C_ARCHIVE_CREATE "${NANOLLM_ZIG} ar qc <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_APPEND "${NANOLLM_ZIG} ar q <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "${NANOLLM_ZIG} ranlib <TARGET>")

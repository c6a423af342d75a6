#!/bin/sh
# Builds the C core for aarch64, runs its tests as processors of three kinds, and checks what the compiler cannot:
# that newer instructions stay in the files of their level, and that no intrinsic is used which GCC 7 lacks.
#
#   arm_qemu.sh BUILD_DIR      needs cmake, ninja, gcc-aarch64-linux-gnu, qemu-user-static
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 BUILD_DIR" >&2
    exit 2
fi
build=$1
core=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "arm_qemu: $*" >&2
    exit 1
}

cmake -S "$core" -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$core/../../toolchains/aarch64-linux-gnu.cmake" \
    -DNANOLLM_BUILD_TESTS=ON -DNANOLLM_WERROR=ON
cmake --build "$build" -j 2

# $1 must run with exactly the levels $2, and pass the tests that match $3.
run_as() {
    levels=$(QEMU_CPU=$1 qemu-aarch64-static -L /usr/aarch64-linux-gnu "$build/kerncheck" --filter scale)
    case $levels in
        "kerncheck: levels $2, "*) ;;
        *) fail "$1: found $levels, expected levels $2" ;;
    esac
    (cd "$build" && QEMU_CPU=$1 ctest --output-on-failure --no-tests=error -R "$3") || fail "$1: tests failed"
}
run_as cortex-a57 generic,neon .
run_as cortex-a76 generic,neon,dotprod 'kerncheck|session'
run_as a64fx generic,neon kerncheck # SVE, but no dot product: newer implies nothing

# Objects other than those named *$2.c.o must not hold the instruction $1; one of those must.
only_in() {
    found=0
    for object in $(find "$build" -name '*.o'); do
        if aarch64-linux-gnu-objdump -d --no-show-raw-insn "$object" | grep -qE "[[:space:]]$1[[:space:]]"; then
            case $object in
                *"$2.c.o") found=1 ;;
                *) fail "$object: found $1, expected only in files of level ${2#_}" ;;
            esac
        fi
    done
    [ "$found" = 1 ] || fail "no object holds $1"
}
only_in sdot _dotprod

if grep -rnE 'v(ld|st)1q?_\w+_x[234]' "$core/cpu/kernels"; then
    fail "GCC 7 lacks these intrinsics"
fi
echo "arm_qemu: passed"

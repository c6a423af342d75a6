#!/bin/sh
# Builds the C core for Arm, 64 and 32 bits, runs its tests as processors of several kinds, and checks what the compiler
# cannot: that newer instructions stay in the files of their level, and that no intrinsic is used which GCC 7 lacks.
#
#   arm_qemu.sh BUILD_DIR      needs cmake, ninja, qemu-user-static, gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf and
#                              Debian's libc6-dev-arm64-cross and libc6-dev-armhf-cross
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 BUILD_DIR" >&2
    exit 2
fi
core=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "arm_qemu: $*" >&2
    exit 1
}

for target in aarch64-linux-gnu arm-linux-gnueabihf; do
    cmake -S "$core" -B "$1/$target" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$core/../../toolchains/$target.cmake" \
        -DNANOLLM_BUILD_TESTS=ON -DNANOLLM_WERROR=ON
    cmake --build "$1/$target" -j 2
done

# As processor $1 the build must find exactly the levels $2, and pass the tests that match $3.
run_as() {
    levels=$(QEMU_CPU=$1 "$qemu" -L "/usr/$target" "$build/kerncheck" --filter scale)
    case $levels in
        "kerncheck: levels $2, "*) ;;
        *) fail "$1: found $levels, expected levels $2" ;;
    esac
    (cd "$build" && QEMU_CPU=$1 ctest -j 2 --output-on-failure --no-tests=error -R "$3") || fail "$1: tests failed"
}

target=aarch64-linux-gnu build=$1/$target qemu=qemu-aarch64-static
run_as cortex-a57 generic,neon .
run_as cortex-a76 generic,neon,dotprod 'kerncheck|session|levels'
run_as max generic,neon,dotprod,i8mm 'kerncheck|session|levels'
run_as a64fx generic,neon kerncheck # SVE, but no dot product: newer implies nothing

target=arm-linux-gnueabihf build=$1/$target qemu=qemu-arm-static
run_as cortex-a7 generic,neon .
run_as cortex-a9 generic 'levels' # NEON, but no fused multiply-add

# 64-bit objects in $1 other than those named *$3.c.o must not hold the instruction $2; one of those must.
only_in() {
    found=0
    for object in $(find "$1/aarch64-linux-gnu" -name '*.o'); do
        if aarch64-linux-gnu-objdump -d --no-show-raw-insn "$object" | grep -qE "[[:space:]]$2[[:space:]]"; then
            case $object in
                *"$3.c.o") found=1 ;;
                *) fail "$object: found $2, expected only in files of level ${3#_}" ;;
            esac
        fi
    done
    [ "$found" = 1 ] || fail "no object holds $2"
}
only_in "$1" sdot _dotprod
only_in "$1" smmla _i8mm

if grep -rnE 'v(ld|st)1q?_\w+_x[234]' "$core/cpu/kernels"; then
    fail "GCC 7 lacks these intrinsics"
fi
echo "arm_qemu: passed"

"""Cycles of the Arm kernels' hot loops, as llvm-mca models them.

    benchmarks/mca.py [--compiler clang-19] [--types Q8_0,Q4_K]

Needs Debian's clang-19 (or a gcc for aarch64, `--compiler aarch64-linux-gnu-gcc`), llvm-19 and libc6-dev-arm64-cross.

For every type and level one function is compiled that holds nothing but the tile in question; its loop is cut out of
the disassembly, loops inside it are repeated as often as they run, and llvm-mca says how many cycles one round takes.
The figures are a model's: caches, memory and the front end are not in it.

Decoding (one column) must read weights as fast as memory gives them, so bytes a cycle stand beside what a chip with
such a core offers each of the cores that share its memory. Prompts (many columns) are bound by arithmetic:
multiply-adds a cycle.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "src" / "ggml_core"

BLOCK_BYTES = {
    "Q8_0": 34, "Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "IQ4_NL": 18,
    "Q2_K": 84 / 8, "Q3_K": 110 / 8, "Q4_K": 144 / 8, "Q5_K": 176 / 8, "Q6_K": 210 / 8, "IQ4_XS": 136 / 8,
    "F16": 64, "F32": 128,
}  # fmt: skip
"""Bytes of 32 weights."""


@dataclass(frozen=True)
class Cpu:
    name: str
    model: str
    """llvm-mca's -mcpu: LLVM 19 models the A76 as an A57; the Neoverse N1 is the A76's sister and has a model of its
    own. The X2 goes by the Neoverse N2, with two vector pipes for the X2's four: a lower bound."""
    levels: tuple[str, ...]
    chip: str
    bytes_per_cycle: float
    """Peak memory bandwidth / cores that share it / clock."""


CPUS = (
    # NVIDIA, Jetson Nano data sheet DA-09366-001: 4 A57 at 1.43 GHz, LPDDR4 25.6 GB/s (1.9 GHz elsewhere: 3.4).
    Cpu("cortex-a57", "cortex-a57", ("neon",), "Tegra X1", 25.6 / 4 / 1.43),
    # Rockchip, RK3568 data sheet: 4 A55 at 2.0 GHz, 32 bits of LPDDR4X; at most 3200 MT/s: 12.8 GB/s.
    Cpu("cortex-a55", "cortex-a55", ("neon", "dotprod"), "RK3568", 12.8 / 4 / 2.0),
    # Raspberry Pi 5: BCM2712, 4 A76 at 2.4 GHz, 32 bits of LPDDR4X at 4267 MT/s: 17.1 GB/s.
    Cpu("cortex-a76", "neoverse-n1", ("dotprod",), "BCM2712", 17.1 / 4 / 2.4),
    # Qualcomm, Snapdragon 8 Gen 1: one X2 at 3.0 GHz with three A710, 64 bits of LPDDR5 at 6400 MT/s: 51.2 GB/s.
    Cpu("cortex-x2", "cortex-x2", ("dotprod", "i8mm"), "Snapdragon 8 Gen 1", 51.2 / 4 / 3.0),
)

FLAGS = {
    "neon": ["-march=armv8-a"],
    "dotprod": ["-march=armv8.2-a+dotprod"],
    "i8mm": ["-march=armv8.2-a+dotprod+i8mm"],
}
DOT = {"neon": r"s(mull|mlal)2?\s+v\d+\.8h", "dotprod": r"sdot\s", "i8mm": r"smmla\s"}
DOTS = {"neon": 16, "dotprod": 8, "i8mm": 4}
"""Such instructions for four rows, one column and 32 elements."""
TILE_COLUMNS = {"neon": 4, "dotprod": 8, "i8mm": 8}


def source(type_: str, level: str, prompt: bool) -> str:
    """A file with one function, `tile`."""
    arm = "cpu/kernels/arm"
    n_cols = TILE_COLUMNS[level] if prompt else 1
    if type_ in ("F32", "F16"):
        call = f"nano_float_tile{'4x4' if prompt else '8x1'}(NANO_TYPE_{type_}, a, 0, 0);"
        return f'#include "{arm}/linear_float_neon.c"\nvoid tile(const nano_linear_args *a) {{ {call} }}\n'
    if level == "i8mm":
        return (
            f'#include "{arm}/linear_i8mm.h"\n'
            "void tile(const nano_mm_rows *w, const nano_mm_columns *x, int n, float32x4_t acc[][2]) "
            f"{{ nano_mm_tile(NANO_TYPE_{type_}, w, x, n, NANO_MM_PAIRS, acc); }}\n"
        )
    if not is_k(type_):
        return (
            f'#include "{arm}/dot_{level}.h"\n#include "{arm}/linear_quant_arm.h"\n'
            f"void tile(const nano_linear_args *a) {{ nano_quant_tile(NANO_TYPE_{type_}, a, 0, 0, {n_cols}); }}\n"
        )
    head = f'#include "{arm}/dot_{level}.h"\n#include "{arm}/linear_k_arm.h"\n'
    if prompt:
        return head + (
            "void tile(const nano_linear_args *a, const nano_k_panel *panel, float32x4_t *acc) "
            f"{{ nano_k_tile(NANO_TYPE_{type_}, a, panel, 0, 0, {n_cols}, {n_cols}, acc); }}\n"
        )
    return head + (
        "float32x4_t tile(const nano_linear_args *a, const uint8_t *w[4]) "
        f"{{ return nano_k_direct(NANO_TYPE_{type_}, a, w); }}\n"
    )


def is_k(type_: str) -> bool:
    return type_.endswith("_K") or type_ == "IQ4_XS"


def instructions(compiler: str, text: str, level: str) -> list[tuple[int, str]]:
    """Addresses and texts of the instructions of `tile`."""
    with tempfile.TemporaryDirectory() as folder:
        file, obj = Path(folder) / "tile.c", Path(folder) / "tile.o"
        file.write_text(text)
        target = ["--target=aarch64-linux-gnu", "-isystem", "/usr/aarch64-linux-gnu/include"] * ("clang" in compiler)
        command = [compiler, *target, *FLAGS[level], "-std=c99", "-O3", "-ffp-contract=off", "-fPIC"]
        subprocess.run([*command, f"-I{CORE}", f"-I{CORE}/include", "-c", file, "-o", obj], check=True)
        dump = subprocess.run(
            ["llvm-objdump-19", "-d", "--no-show-raw-insn", "--disassemble-symbols=tile", obj],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    found = re.findall(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*$", dump, re.M)
    return [(int(address, 16), re.sub(r"\s*(<.*|//.*)", "", text)) for address, text in found]


def branch(text: str) -> tuple[str, int] | None:
    """What jumps, and to where."""
    m = re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s+(?:.*,\s*)?0x([0-9a-f]+)$", text)
    return (m[1], int(m[2], 16)) if m else None


def hot_loop(code: list[tuple[int, str]], dot: str, dots: int) -> list[str]:
    """One round of the loop with the dots; of the loop around it when that has only a part of `dots`, unrolled."""
    at = {address: i for i, (address, _) in enumerate(code)}
    loops = []
    for i, (_, text) in enumerate(code):
        target = branch(text)
        if target and target[1] in at and at[target[1]] <= i:
            loops.append((at[target[1]], i))

    def count(first: int, last: int) -> int:
        return sum(bool(re.match(dot, text)) for _, text in code[first : last + 1])

    def inside(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a != b and b[0] <= a[0] and a[1] <= b[1]

    innermost = [loop for loop in loops if not any(inside(other, loop) for other in loops)]
    body = max(innermost, key=lambda loop: count(*loop))
    first, last = body
    rounds = 1
    if count(*body) < dots:
        around = [loop for loop in loops if inside(body, loop)]
        if around:
            first, last = min(around, key=lambda loop: loop[1] - loop[0])
        others = [loop for loop in loops if inside(loop, (first, last)) and loop != body]
        if others:
            raise ValueError(f"{len(others)} more loops inside the loop: cannot tell how often they run")
        if around:
            rounds = (dots - count(first, last) + count(*body)) // count(*body)
    trace, i, left = [], first, rounds
    while i <= last:
        text = code[i][1]
        target = branch(text)
        if target is None:
            trace.append(text)
        elif i == body[1] and left > 1:
            left -= 1
            i = body[0]
            continue
        elif target[0] == "b" and at.get(target[1], 0) > i:
            i = at[target[1]]
            continue
        i += 1
    return trace


def cycles(trace: list[str], model: str) -> float:
    rounds = 100
    result = subprocess.run(
        ["llvm-mca-19", "-mtriple=aarch64-linux-gnu", "-mattr=+dotprod,+i8mm", f"-mcpu={model}",
         f"-iterations={rounds}", "-instruction-info=0", "-resource-pressure=0"],
        input="\n".join(trace), check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    m = re.search(r"Total Cycles:\s+(\d+)", result)
    assert m is not None
    return int(m[1]) / rounds


@dataclass(frozen=True)
class Result:
    type_: str
    level: str
    cpu: Cpu
    instructions: float
    """Of a block of 32 weights and a column."""
    cycles: float
    """Likewise."""


def model(compiler: str, type_: str, level: str, cpus: list[Cpu], prompt: bool) -> list[Result]:
    code = instructions(compiler, source(type_, level, prompt), level)
    if type_ in ("F32", "F16"):
        dot, n_cols = r"fmla\s", 4 if prompt else 1
        trace = hot_loop(code, dot, 0)
        blocks = sum(bool(re.match(dot, text)) for text in trace) / n_cols / 8
    else:
        dot, n_cols = DOT[level], TILE_COLUMNS[level] if prompt else 1
        trace = hot_loop(code, dot, DOTS[level] * 8 * n_cols if is_k(type_) else 0)
        blocks = 4 * sum(bool(re.match(dot, text)) for text in trace) / n_cols / DOTS[level]
    n = blocks * n_cols
    return [Result(type_, level, cpu, len(trace) / n, cycles(trace, cpu.model) / n) for cpu in cpus]


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compiler", default="clang-19")
    parser.add_argument("--types", default=",".join(BLOCK_BYTES), help="comma-separated")
    args = parser.parse_args()
    decode: list[Result] = []
    prompt: list[Result] = []
    for type_ in args.types.split(","):
        for level in FLAGS:
            cpus = [cpu for cpu in CPUS if level in cpu.levels]
            if type_ in ("F32", "F16"):
                cpus = list(CPUS) if level == "neon" else []
            if cpus and level != "i8mm":
                decode += model(args.compiler, type_, level, cpus, prompt=False)
            if cpus:
                prompt += model(args.compiler, type_, level, cpus, prompt=True)
        print(type_, end=" ", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = []
    for r in decode:
        rate = BLOCK_BYTES[r.type_] / r.cycles
        rows.append([r.type_, r.level, r.cpu.name, f"{r.instructions:.1f}", f"{r.cycles:.1f}",
                     f"{BLOCK_BYTES[r.type_]:g}", f"{rate:.2f}", f"{r.cpu.bytes_per_cycle:.2f}",
                     f"{rate / r.cpu.bytes_per_cycle:.2f}"])  # fmt: skip
    table("Decoding: one column", ["type", "level", "cpu", "instructions a block", "cycles a block", "bytes a block",
                                   "bytes a cycle", "memory's", "ratio"], rows)  # fmt: skip
    rows = [[r.type_, r.level, r.cpu.name, f"{r.instructions:.2f}", f"{r.cycles:.2f}", f"{32 / r.cycles:.1f}"]
            for r in prompt]  # fmt: skip
    table("Prompts: tiles of decoded weights", ["type", "level", "cpu", "instructions a block and column",
                                                "cycles", "multiply-adds a cycle"], rows)  # fmt: skip
    print("\nMemory: " + "; ".join(f"{c.name}: {c.chip}, {c.bytes_per_cycle:.2f} bytes a cycle and core" for c in CPUS))


if __name__ == "__main__":
    main()

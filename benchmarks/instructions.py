"""Instructions that the linear kernels of nanollm-run take for 32 weights, counted by valgrind: a figure that repeats.

Evaluates files of a small shape with one thread under callgrind, which counts inside the kernels alone, once for a
single token and once for a prompt. The levels are those that valgrind knows: generic and avx2.

    python benchmarks/instructions.py build/apps/run/nanollm-run Q8_0 Q4_0 Q4_K Q6_K
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path

from nanollm import _core

PROMPT = 32


def weights_of(path: Path) -> tuple[int, int]:
    """Weights that every token is multiplied with, and those of the output, which only the last one is."""
    with _core.Gguf.open(path) as gguf:
        matrices = {t.name: prod(t.shape) for t in gguf.tensors if len(t.shape) == 2}
    output = matrices.pop("output.weight", matrices["token_embd.weight"])
    return sum(n for name, n in matrices.items() if name.startswith("blk.")), output


def count(runner: Path, model: Path, level: str, n_prompt: int, n_generate: int) -> int:
    """Instructions inside the linear kernels of the level."""
    command = [
        *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
        f"--toggle-collect=nano_linear_*_{'ref' if level == 'generic' else level}",
        *(str(runner), "bench", "-m", str(model), "-t", "1", "-r", "1", "--no-warmup"),
        *("-p", str(n_prompt), "-n", str(n_generate)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NANOLLM_CPU": level})
    found = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode != 0 or found is None:
        raise SystemExit(f"{' '.join(command)}: {result.stderr.strip()[-300:]}")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runner", type=Path, help="nanollm-run, not stripped")
    parser.add_argument("types", nargs="+", help="tensor types")
    parser.add_argument("--level", choices=("generic", "avx2"), default="avx2")
    args = parser.parse_args()
    print("| type | decode | prompt |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.types:
            plain, model = Path(folder) / "plain.gguf", Path(folder) / "model.gguf"
            make = [sys.executable, str(Path(__file__).with_name("make_model.py")), "gpt2-2l", name, "--pure"]
            subprocess.run([*make, "-o", str(plain)], check=True, capture_output=True)
            export = [sys.executable, "-m", "nanollm.cli", "export", str(plain), "-o", str(model)]
            subprocess.run(export, check=True, capture_output=True)
            layers, output = weights_of(model)
            decode = count(args.runner, model, args.level, 0, 1) / ((layers + output) / 32)
            # The output meets one token of a prompt as it does in decoding.
            prompt = count(args.runner, model, args.level, PROMPT, 0) - decode * output / 32
            print(f"| {name} | {decode:.1f} | {prompt / (layers / 32 * PROMPT):.1f} |", flush=True)
            plain.unlink()
            model.unlink()


if __name__ == "__main__":
    main()

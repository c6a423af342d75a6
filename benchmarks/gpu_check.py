"""All that is to be checked on a GPU, with one command of some minutes: builds with CUDA, compares kernels, sessions,
the logits of GPT-2 and Llama shapes and a long greedy text with the processor's, runs compute-sanitizer where there is
one, and ends with a table and a verdict (exit code 1: something failed).

    python benchmarks/gpu_check.py                          a GPU, its driver, nvcc (10.2 or newer), cmake
    python benchmarks/gpu_check.py --quick --driver LIB     small, on another driver: the emulated one, without a GPU

Kernels are checked in every image that the device runs, among them the PTX of the oldest target that the nvcc knows
(compute_53 up to CUDA 12), compiled by the driver.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import gpu

sys.path.insert(0, str(gpu.ROOT / "src" / "ggml_core" / "cuda"))

SANITIZERS = ("memcheck", "racecheck", "initcheck")
# Largest distance of logits, as a part of the largest logit. Quantised weights meet 8-bit activations on both sides, in
# blocks of different sizes.
TOLERANCES = {"F32": 1e-4, "F16": 1e-2, "BF16": 1e-2}
TOLERANCE = 6e-2
QUICK_TYPES = ("F32", "Q8_0", "Q4_K")


@dataclass
class Check:
    """A row of the table. `ok` None: not run."""

    name: str
    ok: bool | None
    note: str = ""


# ------------------------------------------------------------------ native tests


def build(folder: Path, compiler: str | None) -> None:
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DNANOLLM_BUILD_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", *gpu.cmake_options(compiler)]
    subprocess.run(
        ["cmake", "-S", str(gpu.ROOT), "-B", str(folder), *generator, *options], check=True, stdout=sys.stderr
    )
    command = [
        "cmake",
        "--build",
        str(folder),
        "-j",
        str(os.cpu_count() or 1),
        "--target",
        "test_cuda",
        "test_cuda_kernels",
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)


def images(folder: Path, compiler: str | None) -> list[Path]:
    """The device code in files, as the library has it: sm_80.cubin, compute_53.ptx."""
    import build_images  # type: ignore[import-not-found]

    if compiler == "emulated":
        found = [build_images.Image(50, True, b"// emulated\0")]
    else:
        nvcc = compiler or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        with tempfile.TemporaryDirectory() as scratch:
            found = build_images.with_nvcc(nvcc, [], Path(scratch))
    paths = []
    for image in found:
        path = folder / f"{image.name}.{'ptx' if image.is_ptx else 'cubin'}"
        path.write_bytes(image.data)
        paths.append(path)
    return paths


def runs_on(image: str, capability: int) -> bool:
    """As the library chooses: a cubin on its major version from its minor one on, PTX on all above."""
    arch = int(image.rpartition("_")[2])
    return arch <= capability and (image.startswith("compute") or arch // 10 == capability // 10)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1][:100] if lines else f"exit code {done.returncode}"


def native(name: str, command: list[str], **settings: str) -> Check:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, timeout=400)
    except subprocess.TimeoutExpired:
        return Check(name, False, "no end after 400 s")
    return Check(name, done.returncode == 0, "" if done.returncode == 0 else last_line(done))


def native_checks(folder: Path, compiler: str | None, capability: int) -> list[Check]:
    tests = folder / "src" / "ggml_core"
    checks = []
    for path in images(folder, compiler):
        if not runs_on(path.stem, capability):
            checks.append(Check(f"kernels, {path.stem}", None, "not for this device"))
            continue
        checks.append(native(f"kernels, {path.stem}", [str(tests / "test_cuda_kernels"), str(path)]))
        checks.append(native(f"sessions, {path.stem}", [str(tests / "test_cuda")], NANOLLM_CUDA_IMAGE=path.stem))
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    for tool in SANITIZERS:
        if sanitizer is None or compiler == "emulated":
            checks.append(Check(f"compute-sanitizer {tool}", None, "no compute-sanitizer, or no device for it"))
        else:
            command = [sanitizer, "--tool", tool, "--error-exitcode", "9", str(tests / "test_cuda")]
            checks.append(native(f"compute-sanitizer {tool}", command))
    return checks


# ------------------------------------------------------------------ models: in a Python with the package


def matrix_types(quick: bool) -> list[str]:
    from nanollm import _core

    if quick:
        return list(QUICK_TYPES)
    names = (_core.type_name(number) for number in range(64) if _core.type_is_supported(number))
    return [name for name in names if re.fullmatch(r"(B?F\d+|I?Q\d.*|TQ.*|MXFP4.*)", name) and has_writer(name)]


def has_writer(name: str) -> bool:
    import numpy as np

    from nanollm import _core
    from nanollm.errors import NanoError

    try:
        _core.from_float(name, np.zeros((1, _core.type_block_size(name)), np.float32))
    except NanoError:
        return False
    return True


def logits_of(path: str, ids: list[int], n_gpu_layers: int, device: int, cache: str) -> object:
    from nanollm import Model

    with Model(path, n_ctx=len(ids), n_gpu_layers=n_gpu_layers, device=device, cache_type=cache) as model:
        return model.logits(ids).copy()


def check_logits(quick: bool, device: int, folder: Path) -> list[Check]:
    import make_model
    import numpy as np

    checks = []
    n_tokens = 12 if quick else 200
    for shape in ("llama-tiny", "gpt2-tiny") if quick else ("llama-50m", "gpt2-2l"):
        n_layers = make_model.SHAPES[shape].n_layer
        ids = np.random.default_rng(2).integers(0, make_model.SHAPES[shape].n_vocab - 1, n_tokens).tolist()
        for kind in matrix_types(quick):
            path = str(folder / "model.gguf")
            make_model.write(shape, path, lambda tensor, kind=kind: kind, distinct=kind == "F32" or quick)
            cache = "f32" if kind == "F32" else "f16"
            expected = np.asarray(logits_of(path, ids, 0, device, cache))
            worst = 0.0
            for layers in (n_layers // 2, n_layers):
                found = np.asarray(logits_of(path, ids, layers, device, cache))
                distance = float(np.abs(found - expected).max() / np.abs(expected).max())
                worst = max(worst, distance if np.isfinite(found).all() else float("inf"))
            limit = TOLERANCES.get(kind, TOLERANCE)
            checks.append(
                Check(f"logits, {shape} {kind}", worst <= limit, f"distance {worst:.1e}, at most {limit:.0e}")
            )
    return checks


def check_text(quick: bool, device: int, folder: Path) -> Check:
    """Greedy text on f32: the same tokens. Where two logits are closer than sums in another order are, says so."""
    import make_model
    import numpy as np

    from nanollm import Model

    shape, n = ("llama-tiny", 12) if quick else ("llama-50m", 2000)
    path = str(folder / "model.gguf")
    make_model.write(shape, path, lambda tensor: "F32", distinct=True)
    texts = []
    for layers in (0, make_model.SHAPES[shape].n_layer):
        with Model(path, n_ctx=n + 8, n_gpu_layers=layers, device=device, cache_type="f32") as model:
            generation = model.generate([1, 2, 3, 4], max_tokens=n, temperature=0, ignore_eos=True, repeat_penalty=1.0)
            for _ in generation:
                pass
            texts.append(generation.ids)
    name = f"greedy text of {n} tokens"
    first = next((i for i, (a, b) in enumerate(zip(*texts, strict=True)) if a != b), None)
    if first is None:
        return Check(name, len(texts[0]) == n, f"{len(set(texts[0]))} different tokens")
    with Model(path, n_ctx=n + 8, cache_type="f32") as model:
        row = np.asarray(model.logits([1, 2, 3, 4, *texts[0][:first]]))[-1]
    gap = float(abs(row[texts[0][first]] - row[texts[1][first]]) / np.abs(row).max())
    return Check(name, False, f"differs at token {first}, whose two logits are {gap:.1e} apart")


def check_models(args: argparse.Namespace) -> list[Check]:
    with tempfile.TemporaryDirectory() as folder:
        return [*check_logits(args.quick, args.device, Path(folder)), check_text(args.quick, args.device, Path(folder))]


# ------------------------------------------------------------------ the command


def main() -> int:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--driver", metavar="LIB", help="another libcuda; an emulated one is taken to be that")
    p.add_argument("--compiler", metavar="NVCC", help="default: the nvcc there is; emulated with an emulated driver")
    p.add_argument("--device", type=int, default=0, metavar="N")
    p.add_argument("--build", type=Path, default=gpu.BUILD, metavar="DIR", help="where to build (default: build/gpu)")
    p.add_argument("--quick", action="store_true", help="tiny models, few types, few tokens")
    p.add_argument("--json", action="store_true", help="the table as JSON")
    p.add_argument("--models", action="store_true", help=argparse.SUPPRESS)  # in the Python that has the package
    args = p.parse_args()
    gpu.use_driver(args.driver)
    if args.models:
        print(json.dumps([asdict(check) for check in check_models(args)]))
        return 0
    if args.compiler is None and "emulated" in os.environ.get("NANOLLM_CUDA_DRIVER", ""):
        args.compiler = "emulated"
    python = gpu.python_with_devices(args.compiler, args.build)
    listed = subprocess.run(
        [python, "-P", "-m", "nanollm.cli", "info", "--devices", "--json"], capture_output=True, text=True
    )
    device = json.loads(listed.stdout)[args.device]
    build(args.build, args.compiler)
    checks = native_checks(args.build, args.compiler, device["compute_capability"])
    words = [*(["--quick"] if args.quick else []), "--device", str(args.device)]
    models = subprocess.run([python, __file__, "--models", *words], stdout=subprocess.PIPE, text=True)
    if models.returncode == 0:
        checks += [Check(**row) for row in json.loads(models.stdout)]
    else:
        checks.append(Check("models", False, f"exit code {models.returncode}"))
    return report(args, device, checks)


def report(args: argparse.Namespace, device: dict[str, object], checks: list[Check]) -> int:
    failed = sum(check.ok is False for check in checks)
    skipped = sum(check.ok is None for check in checks)
    if args.json:
        gpu.emit_json({"device": device, "failed": failed, "checks": [asdict(check) for check in checks]})
    else:
        number = int(str(device["compute_capability"]))
        words = {True: "ok", False: "FAILED", None: "not run"}
        print(f"{device['name']}, compute capability {gpu.capability(number)}, device code {device['image']}\n")
        print(gpu.table([["check", "", ""], *([check.name, words[check.ok], check.note] for check in checks)]))
        print(f"\n{'FAILED' if failed else 'ok'}: {failed} of {len(checks)} failed, {skipped} were not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

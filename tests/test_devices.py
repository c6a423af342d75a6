"""Layers on a device: `-ngl`, `-dev`, `--list-devices`, `n_gpu_layers`. No GPU is needed: a build of the native program
with CUDA runs on a driver whose one device is the processor (src/ggml_core/cuda/emulate)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import write_tiny
from terminal import run

import nanollm
from nanollm import Model, _core
from nanollm.errors import ArgumentError, MemoryLimitError, NotFoundError, UnsupportedError
from nanollm.export import export

ROOT = Path(__file__).parents[1]
N_LAYERS = 2  # of the tiny model


@dataclass(frozen=True)
class Emulated:
    """A program built with CUDA, and a driver for it."""

    program: str
    driver: str

    def __call__(self, *args: object, driver: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs it; `settings` are environment variables of the driver."""
        env = os.environ | {"NANOLLM_CUDA_DRIVER": self.driver if driver is None else driver} | settings
        return run(self.program, *args, env=env)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    """$NANOLLM_EMULATED names a build folder that has both already."""
    built = os.environ.get("NANOLLM_EMULATED")
    folder = Path(built) if built else _build(tmp_path_factory.mktemp("emulated"))
    driver = folder / "src" / "ggml_core" / "libcuda_emulated_610.so"
    return Emulated(str(folder / "apps" / "run" / "nanollm-run"), str(driver))


def _build(folder: Path) -> Path:
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("cc") is None or shutil.which("c++") is None:
        pytest.skip("no cmake, no C or no C++ compiler: nothing to emulate a device with")
    if not (ROOT / "src" / "ggml_core" / "cuda").is_dir():
        pytest.skip("not in a checkout: the sources are not here")
    options = ("-DNANOLLM_BUILD_TESTS=ON", "-DNANOLLM_CUDA=ON", "-DNANOLLM_CUDA_COMPILER=emulated")
    quick = ("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O2")  # the kernels are the C++
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    for step in (
        (cmake, "-S", str(ROOT), "-B", str(folder), *generator, *options, *quick),
        (cmake, "--build", str(folder), "--target", "nanollm-run", "cuda_emulated_610", "-j", "2"),
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session")
def f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, matrices in F32, with its program inside."""
    folder = tmp_path_factory.mktemp("devices")
    export(write_tiny(folder / "plain.gguf"), folder / "tiny.gguf")
    return folder / "tiny.gguf"


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""


# ------------------------------------------------------------------ the native program


def test_the_text_is_the_same_wherever_layers_run(emulated: Emulated, f32: Path) -> None:
    args = ("-m", f32, "-p", "the", "-n", 6, "--temp", 0, "--ignore-eos", "-ctk", "f32", "-ctv", "f32", "--json")
    results = {}
    for n in ("0", "1", "99", "auto"):
        done = emulated(*args, "-ngl", n)
        assert done.returncode == 0, done.stderr
        results[n] = json.loads(done.stdout)
    texts = {n: result["text"] for n, result in results.items()}
    assert len(set(texts.values())) == 1, texts
    layers = {n: result["memory"]["limits"]["n_gpu_layers"] for n, result in results.items()}
    assert layers == {"0": 0, "1": 1, "99": N_LAYERS, "auto": N_LAYERS}
    memory = {n: result["memory"] for n, result in results.items()}
    assert memory["0"]["device"] == memory["0"]["device_available"] == 0
    assert 0 < memory["1"]["device_weights"] < memory["99"]["device_weights"] < memory["99"]["device"]
    assert memory["99"]["weights"] < memory["1"]["weights"] < memory["0"]["weights"]
    assert memory["99"]["cache"] == 0
    assert 2 * memory["1"]["device_cache"] == memory["99"]["device_cache"] == memory["0"]["cache"]


def test_devices_are_listed(emulated: Emulated) -> None:
    one = emulated("--list-devices")
    assert one.returncode == 0
    assert re.fullmatch(
        r"0: Emulated device, compute capability 6\.1, device code \w+, 1\.00 GiB free of 1\.00 GiB\n", one.stdout
    )
    shared = emulated("bench", "--list-devices", NANO_EMULATED_INTEGRATED="1", NANO_EMULATED_MEMORY=str(1 << 21))
    assert shared.stdout.endswith("2.00 MiB free of 2.00 MiB, shared with the processor\n")
    none = emulated("--list-devices", driver="/nope/libcuda.so")
    assert (none.returncode, none.stderr) == (0, "")
    assert none.stdout == "no device: cuda: no driver: /nope/libcuda.so cannot be loaded\n"


def test_what_cannot_be_had_is_refused(emulated: Emulated, f32: Path) -> None:
    args = ("-m", f32, "-p", "the", "-n", 1)
    refused(emulated(*args, "-ngl", 1, driver="/nope/libcuda.so"), 1, "no driver", "/nope/libcuda.so")
    refused(emulated(*args, "-ngl", 1, "-dev", 3), 1, "no device 3", "has 1")
    refused(emulated(*args, "-ngl", "most"), 2, "-ngl", "most")
    refused(emulated(*args, "-ngl", "-1"), 2, "-ngl", "-1")
    refused(emulated(*args, "-dev", "-1"), 2, "-dev")
    refused(emulated(*args, "-ngl", 1, NANO_EMULATED_FAIL="cuMemAlloc_v2:1"), 1, "cuda", "taking memory")
    without = emulated(*args, "-ngl", "auto", driver="/nope/libcuda.so")  # nothing to put layers on
    assert without.returncode == 0
    assert "gpu" not in without.stderr


def test_layers_that_do_not_fit(emulated: Emulated, f32: Path) -> None:
    def plan(*args: object, memory: int = 1 << 30) -> dict[str, int]:
        done = emulated("fit", f32, "--json", *args, NANO_EMULATED_MEMORY=str(memory))
        facts = json.loads(done.stdout)
        assert facts["fits"] == (done.returncode == 0)
        return {**facts, "layers": facts["limits"]["n_gpu_layers"]}

    one, both = plan("-ngl", 1)["device"], plan("-ngl", 2)["device"]
    assert one < both
    assert not plan("-ngl", 2, memory=both - 1)["fits"]
    assert plan("-ngl", 2, memory=both)["fits"]
    assert plan("-ngl", "auto", memory=both)["layers"] == 1  # a part is left to others
    assert plan("-ngl", "auto", memory=both * 20 // 19 + 1)["layers"] == N_LAYERS
    assert plan("-ngl", "auto", memory=one // 2)["layers"] == 0
    shorter = plan("-ngl", 2, memory=both - 1)["largest_n_ctx"]
    assert 0 < shorter < 128
    assert plan("-ngl", 2, "-c", shorter, memory=both - 1)["fits"]
    done = emulated("-m", f32, "-p", "the", "-ngl", 2, NANO_EMULATED_MEMORY=str(both - 1))
    refused(
        done, 1, "does not fit into the memory of device 0 (Emulated device)", "2 layers need", "1 layers would fit"
    )
    table = emulated("fit", f32, "-ngl", 2).stdout
    for word in ("gpu weights", "the last 2 layers", "gpu KV cache", "gpu total", "device 0, Emulated device"):
        assert word in table
    shared = emulated("fit", f32, "-ngl", 2, "--json", NANO_EMULATED_INTEGRATED="1")
    facts = json.loads(shared.stdout)
    assert facts["device_shares_memory"]
    assert facts["total"] == facts["weights"] + facts["allocated"] + facts["device"]


def test_bench_takes_a_list(emulated: Emulated, f32: Path) -> None:
    done = emulated("bench", "-m", f32, "-p", 2, "-n", 0, "-r", 1, "-ngl", "0,auto", "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["n_gpu_layers"] for row in rows] == [0, N_LAYERS]
    assert [row["backend"].split()[0] for row in rows] == ["CPU", "CUDA"]


# ------------------------------------------------------------------ the package, as it is built


def test_the_package_says_what_it_lacks(tiny: Path) -> None:
    """A machine without a driver, or a package built without CUDA: everything else works."""
    env = os.environ | {"NANOLLM_CUDA_DRIVER": "/nope/libcuda.so"}
    for command in (
        ("nanollm", "info", "--devices"),
        ("nanollm-cli", "--list-devices"),
        ("nanollm", "bench", "--list-devices"),
    ):
        done = run(*command, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"no device: (cuda: no driver: .*cannot be loaded|.*built without.*)\n", done.stdout)
    assert json.loads(run("nanollm", "info", "--devices", "--json", env=env).stdout) == []
    done = run("nanollm-cli", "-m", tiny, "-p", "the", "-n", 1, "-ngl", 1, env=env)
    refused(done, 1, "no driver" if "no driver" in done.stderr else "built without")
    assert run("nanollm-cli", "-m", tiny, "-p", "the", "-n", 1, "-ngl", "auto", env=env).returncode == 0
    for args in (("-ngl", "most"), ("-ngl", "-1"), ("-dev", "-1")):
        assert run("nanollm-cli", "-m", tiny, "-p", "the", *args, env=env).returncode == 2


@pytest.mark.skipif(_core.device_count() > 0, reason="this machine has a device")
def test_models_without_a_device(tiny: Path) -> None:
    assert nanollm.devices() == []
    with pytest.raises((NotFoundError, UnsupportedError)):
        _core.device(0)
    with pytest.raises((NotFoundError, UnsupportedError)):
        Model(tiny, n_gpu_layers=1)
    with Model(tiny, n_gpu_layers="auto") as model:
        assert model.memory.limits.n_gpu_layers == model.memory.device == 0
        assert "gpu" not in model.memory.table()
        expected = model.generate("the", max_tokens=3, temperature=0).text
    with Model(tiny) as model:
        assert model.generate("the", max_tokens=3, temperature=0).text == expected


def test_senseless_layers_and_devices(tiny: Path) -> None:
    for bad in ({"n_gpu_layers": -1}, {"n_gpu_layers": "all"}, {"device": -1}, {"n_gpu_layers": 1 << 40}):
        with pytest.raises(ArgumentError):
            Model(tiny, **bad)
    with pytest.raises(ArgumentError), Model(tiny) as model:
        _core.Plan(model._core, replace(model.memory.limits, n_gpu_layers=-2))


def test_the_report_of_a_device(tiny: Path) -> None:
    """What a device holds is in the table, and in the refusal."""
    report = Model.fit(tiny)
    limits = replace(report.limits, n_gpu_layers=2)
    held = replace(report, limits=limits, device=5 << 20, device_weights=3 << 20, device_cache=1 << 20)
    held = replace(held, device_available=4 << 20, device_name="A card", device_image="sm_53")
    assert report.fits
    assert not held.fits_device
    assert not held.fits
    lines = held.table().splitlines()[-5:]
    assert [line.split()[1] for line in lines] == ["weights", "KV", "rest", "total", "free"]
    assert "A card, device code sm_53" in lines[-1]
    text = held.device_refusal("m.gguf", 1)
    for word in ("device 0 (A card)", "2 layers need 5.0 MiB", "rest 1.0 MiB", "4.0 MiB are available", "1 layers"):
        assert word in text
    with Model(tiny) as model, pytest.raises(MemoryLimitError, match="A card"):
        nanollm.model.check_device(model._core, "m.gguf", held)

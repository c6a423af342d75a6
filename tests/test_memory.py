"""The plan tells the truth: what it predicts is what a process takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A process of its own, so that nothing else has touched memory; it reports its own growth.
MEASURE = """
import dataclasses, json, re, sys
from nanollm import _core
from nanollm.models import build_program

def status(key):
    with open("/proc/self/status") as f:
        return int(re.search(rf"^{key}:\\s+(\\d+) kB", f.read(), re.M).group(1)) * 1024

path, n_ctx, n_batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")  # the peak starts here
before = status("VmRSS")
with _core.Gguf.open(path) as gguf:
    limits = dataclasses.replace(_core.limits_default(), n_ctx=n_ctx, n_batch=n_batch, n_threads=1)
    plan = _core.Plan(_core.CoreModel(gguf, build_program(gguf)), limits)
    size = status("VmSize")
    with _core.Session(plan) as session:
        allocated = status("VmSize") - size
        for at in range(0, n_ctx, n_batch):
            session.eval([(7 * i) % 32000 for i in range(at, at + n_batch)])
        peak = status("VmHWM") - before
print(json.dumps({"allocated": allocated, "peak": peak, "plan": dataclasses.asdict(plan.memory)}))
"""


@pytest.fixture(scope="module")
def model_100m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 100 MB of random weights in the shape of a Llama."""
    path = tmp_path_factory.mktemp("memory") / "100m.gguf"
    script = ROOT / "benchmarks" / "make_model.py"
    subprocess.run([sys.executable, str(script), "llama-50m", "F16", "-o", str(path)], check=True, timeout=120)
    return path


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot reset the peak")
def test_the_plan_predicts_allocation_and_peak(model_100m: Path) -> None:
    assert model_100m.stat().st_size > 90e6
    run = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, str(model_100m), "512", "64"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    plan = found["plan"]
    assert found["allocated"] == plan["allocated"]
    assert plan["total"] == plan["weights"] + plan["allocated"]
    assert abs(found["peak"] - plan["total"]) <= max(1 << 20, 0.02 * plan["total"]), found


OPEN = """
import re, sys, nanollm
def resident():
    with open("/proc/self/status") as f:
        return int(re.search(r"^VmRSS:\\s+(\\d+) kB", f.read(), re.M).group(1)) * 1024
before = resident()
model = nanollm.Model(sys.argv[1], n_ctx=512)
print(resident() - before, model.memory.weights)
"""


@pytest.mark.skipif(not os.access("/proc/self/status", os.R_OK), reason="this system does not tell")
def test_opening_touches_no_weight(model_100m: Path) -> None:
    """What a file's size does not add to: time and memory until the first step."""
    run = subprocess.run(
        [sys.executable, "-P", "-c", OPEN, str(model_100m)], capture_output=True, text=True, timeout=300, check=True
    )
    grown, weights = map(int, run.stdout.split())
    assert weights > 90e6
    assert grown < weights / 5

"""Training sessions as the bindings give them: parameters, gradients, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanollm import _core, models, quantize
from nanollm._core import CoreModel, Gguf, Graph, Plan, Session
from nanollm.errors import ArgumentError, LimitError, UnsupportedError
from nanollm.train import ModelConfig, create_model

ROOT = Path(__file__).parents[1]
LIMITS = replace(
    _core.limits_default(), n_ctx=32, n_batch=64, n_slots=2, n_outputs=64, n_threads=2, type_k="F32", type_v="F32"
)


def train_program(gguf: Gguf, names: list[str] | None = None) -> bytes:
    """The model's program with the gradients of some weights, or of all."""
    graph = Graph.load(models.build_program(gguf)).adapt(None)
    found = [graph.find_weight(name) for name in names or [t.name for t in gguf.tensors]]
    graph.backward(graph.loss(), [i for i in found if i is not None])
    return graph.save()


def session(path: Path, optimizer: str = "adam", names: list[str] | None = None, **limits: object) -> Session:
    gguf = Gguf.open(path)
    plan = Plan(CoreModel(gguf, train_program(gguf, names)), replace(LIMITS, optimizer=optimizer, **limits))
    return Session(plan)


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 200, 40).astype(np.int32)
    return {"tokens": tokens, "slots": np.repeat([0, 1], 20).astype(np.int32), "targets": np.roll(tokens, -1)}


def test_parameters_are_the_sessions_memory(tiny: Path, batch: dict[str, np.ndarray]) -> None:
    gguf = Gguf.open(tiny)
    with session(tiny) as s:
        values, gradients, state = s.flat()
        assert values.shape == gradients.shape
        assert values.dtype == gradients.dtype == np.float32
        assert state.dtype == np.uint8
        assert state.nbytes == 2 * values.nbytes
        assert not state.any()
        params = s.params
        assert {p.name for p in params} <= {t.name for t in gguf.tensors}
        assert len(params) > 10
        for p in params:
            tensor = gguf.tensor(p.name)
            assert (p.file, p.type, p.value.shape) == (
                0,
                tensor.type,
                tensor.shape,
            )
            assert p.gradient.shape == p.value.shape
            assert np.array_equal(p.value, gguf.tensor_f32(p.name))
            assert np.shares_memory(p.value, values)
            assert np.shares_memory(p.gradient, gradients)
            assert p.offset % 16 == 0
            assert values[p.offset] == p.value.flat[0]
        loss = s.gradient(**batch)
        assert params[0].gradient.any()
        params[0].value[...] *= 0.5  # what is written there counts at once
        assert s.gradient(**batch) != loss
        s.zero_gradients()
        assert not gradients.any()
    assert values.any()  # the memory lives as long as its arrays


def test_gradients_add_up_over_micro_batches(tiny: Path, batch: dict[str, np.ndarray]) -> None:
    with session(tiny) as s:
        weights = np.full(40, 1 / 40, np.float32)
        _, gradients, _ = s.flat()
        whole = s.gradient(batch["tokens"], batch["slots"], batch["targets"], weights)
        expected = gradients.copy()
        assert s.gradient(**batch) == pytest.approx(whole, rel=1e-6)
        np.testing.assert_allclose(gradients, 2 * expected, rtol=1e-5, atol=1e-7)
        s.zero_gradients()
        parts = [
            s.gradient(batch["tokens"][half], None, batch["targets"][half], weights[half])
            for half in (slice(0, 20), slice(20, 40))
        ]
        assert sum(parts) == pytest.approx(whole, rel=1e-5)
        assert np.linalg.norm(gradients - expected) < 1e-4 * np.linalg.norm(
            expected
        )  # shorter steps add up in another order
        s.zero_gradients()
        assert s.gradient(batch["tokens"].tolist(), batch["slots"].tolist(), [-1] * 40) == 0.0
        assert not gradients.any()


def test_one_parameter_of_many(tiny: Path, batch: dict[str, np.ndarray]) -> None:
    with session(tiny) as s:
        s.gradient(**batch)
        expected = next(p.gradient for p in s.params if p.name == "output_norm.weight").copy()
    with session(tiny, names=["output_norm.weight"]) as s:
        s.gradient(**batch)
        assert [p.name for p in s.params] == ["output_norm.weight"]
        assert np.linalg.norm(s.params[0].gradient - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_plan_counts_what_training_keeps(tiny: Path) -> None:
    gguf = Gguf.open(tiny)
    model = CoreModel(gguf, train_program(gguf))
    none, adam, lbfgs = (
        Plan(model, replace(LIMITS, optimizer=optimizer, history=4)).memory for optimizer in ("none", "adam", "lbfgs")
    )
    n = none.parameters // 4
    assert none.weights == 0
    assert none.gradients == none.parameters > 0
    assert none.optimizer == 0
    assert adam.optimizer == 2 * adam.parameters
    assert abs(adam.total - none.total - adam.optimizer) < os.sysconf("SC_PAGESIZE")  # totals are whole pages
    assert 0 <= lbfgs.optimizer - _core.lbfgs_flat_bytes(n, 4) < 64
    assert adam.total == adam.allocated == sum(
        (adam.cache, adam.activations, adam.outputs, adam.scratch, adam.parameters, adam.gradients, adam.optimizer,
         adam.bookkeeping)
    )  # fmt: skip
    limits = replace(LIMITS, optimizer="adam")
    assert Plan(model, limits).limits.optimizer == "adam"
    assert Plan.fit(model, limits, adam.total) == LIMITS.n_ctx
    assert Plan.fit(model, limits, adam.optimizer) == 0


def test_refusals(tiny: Path, batch: dict[str, np.ndarray]) -> None:
    gguf = Gguf.open(tiny)
    model = CoreModel(gguf, train_program(gguf))
    with pytest.raises(UnsupportedError, match="F16 and F16, to be trained it must be F32"):
        Plan(model, replace(LIMITS, type_k="F16", type_v="F16"))
    with pytest.raises(ArgumentError, match="unknown optimizer 'sgd', expected one of none, adam, lbfgs"):
        Plan(model, replace(LIMITS, optimizer="sgd"))
    with session(tiny) as s:
        with pytest.raises(ArgumentError, match="40 tokens, but 3 targets"):
            s.gradient(batch["tokens"], batch["slots"], [1, 2, 3])
        with pytest.raises(ArgumentError, match="40 tokens, but 1 slots"):
            s.gradient(batch["tokens"], [0], batch["targets"])
        with pytest.raises(ArgumentError, match="40 tokens, but 2 weights"):
            s.gradient(**batch, weights=[1.0, 2.0])
        with pytest.raises(ArgumentError, match="target 0 is id 1000000"):
            s.gradient([1], None, [1000000])
        with pytest.raises(LimitError, match="slot 0 is full"):
            s.gradient(batch["tokens"], None, batch["targets"])
        with pytest.raises(ArgumentError, match="nano_session_gradient"):
            s.eval([1])
    with Session(Plan(CoreModel(gguf, models.build_program(gguf)), LIMITS)) as s:
        assert s.params == []
        assert all(part.size == 0 for part in s.flat())
        with pytest.raises(ArgumentError, match="not a loss"):
            s.gradient([1], None, [2])


# A process of its own, so that nothing else has touched memory; it reports its own growth.
MEASURE = """
import dataclasses, json, re, sys
import numpy as np
from nanollm import _core, optim
from nanollm.models import build_program

def status(key):
    with open("/proc/self/status") as f:
        return int(re.search(rf"^{key}:\\s+(\\d+) kB", f.read(), re.M).group(1)) * 1024

path, recompute = sys.argv[1], sys.argv[2] == "recompute"
tokens = (np.arange(128, dtype=np.int32) * 7) % 250
slots, targets = np.repeat(np.arange(4, dtype=np.int32), 32), np.roll(tokens, -1)
with _core.Gguf.open(path) as gguf:
    graph = _core.Graph.load(build_program(gguf)).adapt(None)
    found = [graph.find_weight(t.name) for t in gguf.tensors]
    graph.backward(graph.loss(), [i for i in found if i is not None], recompute)
    limits = dataclasses.replace(
        _core.limits_default(), n_ctx=32, n_batch=128, n_slots=4, n_outputs=128, n_threads=1, type_k="F32",
        type_v="F32", optimizer="adam",
    )
    plan = _core.Plan(_core.CoreModel(gguf, graph.save()), limits)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts here
    before, size = status("VmRSS"), status("VmSize")
    with _core.Session(plan) as session:
        allocated = status("VmSize") - size
        adam = optim.Adam(session)
        for step in range(2):
            session.zero_gradients()
            session.gradient(tokens, slots, targets)
            adam.step()
        peak = status("VmHWM") - before
print(json.dumps({"allocated": allocated, "peak": peak, "plan": dataclasses.asdict(plan.memory)}))
"""


@pytest.fixture(scope="module")
def model_f16(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of eleven million random weights."""
    folder = tmp_path_factory.mktemp("train-memory")
    create_model(folder / "f32.gguf", ModelConfig(architecture="llama", n_layer=6, n_embd=384, n_head=6), tiny)
    quantize(folder / "f32.gguf", folder / "f16.gguf", "f16")
    return folder / "f16.gguf"


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot reset the peak")
@pytest.mark.parametrize("mode", ["keep", "recompute"])
def test_the_plan_predicts_a_steps_peak(model_f16: Path, mode: str) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, str(model_f16), mode], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    plan = found["plan"]
    assert plan["parameters"] > 40e6
    assert plan["weights"] == 0
    assert plan["total"] == plan["allocated"]
    assert found["allocated"] == plan["allocated"]
    assert abs(found["peak"] - plan["total"]) <= max(1 << 20, 0.02 * plan["total"]), found

"""Gradients of graphs built by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanollm import ArgumentError, _core
from nanollm.graph import Graph, Tensor

N_ROWS, N_IN, N_HIDDEN, N_CLASSES = 30, 64, 8, 3
SHAPES = {
    "data": (N_ROWS, N_IN),
    "a.weight": (N_HIDDEN, N_IN),
    "a.bias": (N_HIDDEN,),
    "b.weight": (N_CLASSES, N_HIDDEN),
    "unread": (4,),
}


def classifier() -> tuple[Graph, Tensor]:
    """Rows of a table of data to classes."""
    g = Graph(SHAPES)
    hidden = g.linear(g.rows("data", g.tokens), g.w("a"), act="gelu")
    return g, g.cross_entropy(g.linear(g.wanted(hidden), g.w("b")))


def open_session(tmp_path: Path, program: bytes, data_type: str = "F32") -> _core.Session:
    rng = np.random.default_rng(4)
    path = tmp_path / "weights.gguf"
    with _core.GgufWriter(path) as w:
        for name, shape in SHAPES.items():
            w.add_tensor(name, shape, data_type if name == "data" else "F32")
        for name, shape in SHAPES.items():
            values = rng.standard_normal(shape).astype(np.float32) * (1.0 if name == "data" else 0.3)
            w.write(_core.from_float(data_type if name == "data" else "F32", values))
    limits = replace(
        _core.limits_default(), n_ctx=N_ROWS, n_batch=N_ROWS, n_outputs=N_ROWS, n_threads=1, type_k="F32", type_v="F32"
    )
    return _core.Session(_core.Plan(_core.CoreModel(_core.Gguf.open(path), program), limits))


def loss_and_gradients(values: dict[str, Any], x: Any, classes: Any, weights: Any) -> tuple[float, dict[str, Any]]:
    """The same in NumPy, derived by hand."""
    z = x @ values["a.weight"].T + values["a.bias"]
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (z + 0.044715 * z**3))
    hidden = 0.5 * z * (1 + t)
    logits = hidden @ values["b.weight"].T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.arange(len(x))
    d = p.copy()
    d[rows, classes] -= 1
    d *= weights[:, None]
    dz = d @ values["b.weight"] * (0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2))
    gradients = {"a.weight": dz.T @ x, "a.bias": dz.sum(0), "b.weight": d.T @ hidden}
    return -(weights * np.log(p[rows, classes])).sum(), gradients


@pytest.mark.parametrize("data_type", ["F32", "Q8_0"])
def test_classifier_over_a_table_of_data(tmp_path: Path, data_type: str) -> None:
    g, loss = classifier()
    g.backward(loss, [g.w("a"), g.w("b").weight])
    session = open_session(tmp_path, g.save(loss), data_type)
    assert [p.name for p in session.params] == ["a.weight", "a.bias", "b.weight"]
    with _core.Gguf.open(tmp_path / "weights.gguf") as gguf:
        x = _core.to_float(data_type, gguf.tensor_data("data"), N_ROWS * N_IN).reshape(N_ROWS, N_IN).astype(np.float64)
    classes = np.arange(N_ROWS) % N_CLASSES
    weights = np.linspace(0.1, 1.0, N_ROWS)
    values = {p.name: p.value.astype(np.float64) for p in session.params}
    expected_loss, expected = loss_and_gradients(values, x, classes, weights)
    for times in (1, 2):  # gradients add up
        found = session.gradient(list(range(N_ROWS)), None, classes, weights)
        assert found == pytest.approx(expected_loss, rel=1e-6)
        for p in session.params:
            error = np.linalg.norm(p.gradient - times * expected[p.name])
            assert error <= 1e-5 * np.linalg.norm(expected[p.name]), p.name


def test_a_failed_backward_changes_nothing() -> None:
    g, loss = classifier()
    unread, other = g.weight("unread"), g.linear(g.rows("data", g.tokens), g.w("a"))
    before = g.save(loss)
    with pytest.raises(ArgumentError, match="the loss does not depend on parameter unread"):
        g.backward(loss, ["a.weight", unread])
    with pytest.raises(ArgumentError, match="expected a weight"):
        g.backward(loss, [other])
    with pytest.raises(ArgumentError, match="is no loss"):
        g.backward(other, ["a.weight"])
    assert g.save(loss) == before
    g.backward(loss, ["a.weight"])
    assert len(g.save(loss)) > len(before)


def test_sum_is_a_loss(tmp_path: Path) -> None:
    g = Graph(SHAPES)
    loss = g.sum(g.linear(g.rows("data", g.tokens), g.w("a")), 0.5)
    g.backward(loss, [g.w("a")])
    session = open_session(tmp_path, g.save(loss))
    session.gradient([3, 5], None, [0, 0])
    bias = next(p for p in session.params if p.name == "a.bias")
    assert bias.gradient.tolist() == [1.0] * N_HIDDEN

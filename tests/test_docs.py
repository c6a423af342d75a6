"""The examples of docs/training.md run as they stand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanollm


def examples(section: str) -> list[str]:
    """The Python blocks below a heading."""
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    (body,) = (part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{section}\n"))
    return re.findall(r"^```python\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/training.md", "exec"), names)
    return names


def test_training_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = examples("Train from scratch")
    names = run(code)
    assert names["step"].loss < 6
    done, held_out = capsys.readouterr().out.splitlines()[-1].split()
    assert (int(done), float(held_out)) == (20, names["step"].held_out_loss)
    assert nanollm.Model("trained.gguf").logits([0]).std() > 0


def test_optimisers() -> None:
    (code,) = examples("Optimisers")
    names = run(code)
    x = np.column_stack([names["x"], np.ones(500)])
    best = np.linalg.lstsq(x, names["y"], rcond=None)[0]
    assert np.abs(np.append(names["w"], names["bias"]) - best).max() < 0.02
    assert names["adam"].n_steps == 200


def test_lbfgs_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    plain, graph = map(run, examples("L-BFGS by hand"))
    assert plain["found"].is_converged
    assert plain["found"].evaluations < 30
    assert np.abs(plain["loss"](plain["found"].x)[1]).max() < 1e-3
    w, fitted, data = graph["weights"], graph["fitted"], graph["weights"]["data"]
    assert graph["found"].f < 0.25
    assert not np.allclose(fitted["a.weight"], w["a.weight"], atol=1e-3)
    inner = data @ fitted["a.weight"].T + fitted["a.bias"]
    gelu = inner / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    logits = gelu @ fitted["b.weight"].T
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(150), graph["classes"]]
    assert losses.mean() == pytest.approx(graph["found"].f, rel=1e-4)
    assert capsys.readouterr().out.count("\n") == 2

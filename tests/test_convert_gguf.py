"""GGUF as a source: the same model again, with its program, in the same types or in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tiny

import nanollm
from nanollm import _core
from nanollm.convert import convert
from nanollm.models import PROGRAM_KEY, build_program


def quiet(source: Path, out: Path, *args: Any, **kwargs: Any) -> Any:
    return convert(source, out, *args, report=lambda note: None, **kwargs)


def written(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], **metadata: Any) -> Path:
    """A GGUF file with these tensors, all zero."""
    with _core.GgufWriter(path) as w:
        for key, value in metadata.items():
            w.set(key, "string" if isinstance(value, str) else "uint32", value)
        for name, (kind, shape) in tensors.items():
            w.add_tensor(name, shape, kind)
        for kind, shape in tensors.values():
            w.write(np.zeros(int(np.prod(shape[:-1])) * _core.type_row_bytes(kind, shape[-1]), np.uint8))
    return path


def test_the_program_goes_in_and_all_else_stays(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf", template="{{ x }}")
    quiet(source, tmp_path / "x.gguf")
    with _core.Gguf.open(source) as a, _core.Gguf.open(tmp_path / "x.gguf") as b:
        added = {PROGRAM_KEY, "general.size_label", "general.file_type", "general.quantization_version"}
        assert set(b.keys()) == set(a.keys()) | added
        for key in a.keys():  # noqa: SIM118 (a Gguf does not iterate)
            assert a.kind(key) == b.kind(key)
            assert np.array_equal(a[key], b[key])
        assert bytes(b[PROGRAM_KEY]) == build_program(a)
        for t in a.tensors:
            assert bytes(a.tensor_data(t.name)) == bytes(b.tensor_data(t.name))
    # Once more changes nothing.
    quiet(tmp_path / "x.gguf", tmp_path / "y.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()
    # Nor does writing over itself lose anything.
    quiet(tmp_path / "y.gguf", tmp_path / "y.gguf")
    assert (tmp_path / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()


def test_other_types_and_names(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "tiny.gguf")
    report = quiet(source, tmp_path / "x.gguf", "q8_0", name="another", description="a test")
    assert report.types["Q8_0"] > 0
    with _core.Gguf.open(tmp_path / "x.gguf") as g:
        assert (g["general.name"], g["general.description"], g["general.file_type"]) == ("another", "a test", 7)
    quiet(tmp_path / "x.gguf", tmp_path / "y.gguf")
    with _core.Gguf.open(tmp_path / "x.gguf") as a, _core.Gguf.open(tmp_path / "y.gguf") as b:
        assert [(t.name, t.type) for t in a.tensors] == [(t.name, t.type) for t in b.tensors]
        assert b["general.file_type"] == 7
        for t in a.tensors:
            assert bytes(a.tensor_data(t.name)) == bytes(b.tensor_data(t.name))
    quiet(tmp_path / "x.gguf", tmp_path / "f32.gguf", "f32")
    with _core.Gguf.open(tmp_path / "x.gguf") as a, _core.Gguf.open(tmp_path / "f32.gguf") as b:
        np.testing.assert_array_equal(a.tensor_f32("blk.0.attn_q.weight"), b.tensor_f32("blk.0.attn_q.weight"))
    with nanollm.Model(tmp_path / "x.gguf") as x, nanollm.Model(tmp_path / "f32.gguf") as y:
        np.testing.assert_allclose(x.logits([1, 5]), y.logits([1, 5]), atol=0.1 * np.abs(y.logits([1, 5])).max())


def test_files_that_are_no_models(tmp_path: Path, data_dir: Path) -> None:
    for source, error, text in (
        (written(tmp_path / "a.gguf", {}, **{"general.architecture": "mamba"}), nanollm.UnsupportedError, "mamba"),
        (written(tmp_path / "b.gguf", {}, **{"general.type": "adapter"}), nanollm.UnsupportedError, "adapter"),
        (written(tmp_path / "c.gguf", {}), nanollm.NotFoundError, "general.architecture"),
        (data_dir / "ggml-vocab-gpt-2.gguf", nanollm.NotFoundError, "token_embd.weight"),
    ):
        with pytest.raises(error, match=text):
            quiet(source, tmp_path / "out.gguf")
    (tmp_path / "d.gguf").write_bytes(b"GGUF")
    with pytest.raises(nanollm.FormatError, match=r"d\.gguf"):
        quiet(tmp_path / "d.gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()

"""GGUF files as a source: written again with the program inside, and in another type where one is asked for."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from nanollm import _core
from nanollm._types import TensorInfo
from nanollm.convert.source import FLOATS, Source, SourceTensor, elements, first_bytes
from nanollm.errors import UnsupportedError
from nanollm.models import Record, lookup

__all__ = ["read", "recognises"]


def recognises(path: Path) -> bool:
    """Does the file begin with GGUF's magic number?"""
    return first_bytes(path, 4) == b"GGUF"


def read(path: Path) -> Source:
    """All metadata is kept, and every tensor."""
    gguf = _core.Gguf.open(path)
    file = Record(gguf.get, str(path))
    kind = file.text("general.type", default="model")
    if kind != "model":
        raise UnsupportedError(f"{path}: general.type: found '{kind}', only models can be converted")
    return Source(
        path=path,
        architecture=lookup(file.text("general.architecture"), str(path)),
        metadata={},
        tensors=[_tensor(path, t) for t in gguf.tensors],
        name=file.text("general.name", default=path.stem),
        gguf=gguf,
    )


def _tensor(path: Path, t: TensorInfo) -> SourceTensor:
    if t.type in FLOATS:
        load = partial(elements, path, FLOATS[t.type], t.offset, t.shape)
    else:
        rows = (math.prod(t.shape[:-1]), _core.type_row_bytes(t.type, t.shape[-1]))
        load = partial(elements, path, "u1", t.offset, rows)
    return SourceTensor(t.name, t.shape, t.type, load, t.name)

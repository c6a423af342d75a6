"""Checkpoints: a run's state in one GGUF file, so that it is written as a whole or not at all.

It is the model's file (or the adapter's, where only that is trained) with its parameters as they are, f32, and two
tensors more: ``training.optimizer``, the optimiser's state as it lies in memory, and ``training.state``, JSON as bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import _core
from ..chat import template_source
from ..errors import FormatError, UnsupportedError
from ..export import TEMPLATE_KEY
from ..models import Record, known, lookup
from .options import TrainOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .._types import TensorInfo
    from ..convert import Outtype

__all__ = [
    "PREFIX",
    "State",
    "fingerprint",
    "optimizer_state",
    "read_state",
    "write_checkpoint",
    "write_model",
    "write_tensors",
]

Values: TypeAlias = "Mapping[str, NDArray[np.float32]]"

PREFIX = "training."
"""Of the tensors that a checkpoint has and a model has not."""
_STATE, _OPTIMIZER = f"{PREFIX}state", f"{PREFIX}optimizer"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run is, and all that it takes to go on."""

    step: int
    """Steps done; the place in the data follows from it."""
    options: TrainOptions
    files: list[str]
    held_out_files: list[str]
    digest: str
    """Of the data's tokens."""
    template: str | None
    """Chat template, where another than the file's was named."""
    base: str | None
    """The model that an adapter is trained for; None: this file is the model."""
    base_fingerprint: str | None
    n_tokens: int
    """Read so far."""
    mean_loss: float | None
    lowest_loss: float | None
    n_high: int
    level: str
    """Kernels that computed it: those of another level give other bits."""
    memo: dict[str, Any] = field(default_factory=dict)
    """The caller's own."""


def write_checkpoint(
    path: str | os.PathLike[str], gguf: _core.Gguf, values: Values, state: State, optimizer: NDArray[np.float32]
) -> None:
    """Writes `gguf` again with `values` in place of its parameters, and the state."""
    text = json.dumps({"version": _VERSION, **asdict(state)}).encode()
    extra: dict[str, NDArray[Any]] = {_OPTIMIZER: optimizer, _STATE: np.frombuffer(text, np.int8)}
    write_tensors(path, gguf, values, extra)


def write_tensors(
    path: str | os.PathLike[str], gguf: _core.Gguf, values: Values, extra: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Writes `gguf` again with `values` in place of its parameters, f32, and with `extra` as what a run keeps."""
    extra = extra or {}
    infos = [info for info in gguf.tensors if not info.name.startswith(PREFIX)]
    with _core.GgufWriter(path) as writer:
        for key in gguf.keys():  # noqa: SIM118 (no mapping)
            writer.copy(gguf, key)
        for info in infos:
            writer.add_tensor(info.name, info.shape, "F32" if info.name in values else info.type)
        for name, array in extra.items():
            writer.add_tensor(name, array.shape, "I8" if array.dtype == np.int8 else "F32")
        for info in infos:
            writer.write(values[info.name].data if info.name in values else gguf.tensor_data(info.name))
        for array in extra.values():
            writer.write(array.data)


def write_model(
    path: str | os.PathLike[str], gguf: _core.Gguf, values: Values, outtype: Outtype, template: str | None
) -> None:
    """Writes `gguf` as `nanollm.convert` does, with `values` in place of its parameters and `template` in it.

    A model that no definition is registered for, which carries its own program, is written with that, in f32 alone.
    """
    architecture = str(gguf["general.architecture"])
    if architecture not in known() and outtype == "f32":
        write_tensors(path, gguf, values)
        return
    from ..convert.source import FLOATS, Source, SourceTensor
    from ..convert.write import write

    def load(info: TensorInfo) -> NDArray[Any]:
        if info.name in values:
            return values[info.name]
        data = np.frombuffer(gguf.tensor_data(info.name), FLOATS.get(info.type, "u1"))
        return data.reshape(info.shape if info.type in FLOATS else (math.prod(info.shape[:-1]), -1))

    source = Source(
        path=Path(path),
        architecture=lookup(architecture, gguf.path),
        metadata={} if template is None else {TEMPLATE_KEY: template_source(template)},
        tensors=[
            SourceTensor(t.name, t.shape, "F32" if t.name in values else t.type, partial(load, t), t.name)
            for t in gguf.tensors
            if not t.name.startswith(PREFIX)
        ],
        name=str(gguf.get("general.name", Path(path).stem)),
        gguf=gguf,
    )
    write(source, Path(path), outtype, None, lambda note: None, None, None)


def read_state(gguf: _core.Gguf) -> State:
    """What `write_checkpoint` put in. Raises FormatError for a file that is no checkpoint."""
    if not gguf.has_tensor(_STATE) or not gguf.has_tensor(_OPTIMIZER):
        raise FormatError(f"{gguf.path}: not a checkpoint: it has no tensor '{_STATE}'")
    where = f"{gguf.path}: {_STATE}"
    try:
        values = json.loads(bytes(gguf.tensor_data(_STATE)))
        if not isinstance(values, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON: {error}") from None
    record = Record(values.get, where)
    version = record.integer("version")
    if version != _VERSION:
        raise UnsupportedError(f"{record.where('version')}: found {version}, expected {_VERSION}")
    options, memo = values.get("options"), values.get("memo")
    if not isinstance(options, dict) or not isinstance(memo, dict):
        raise FormatError(f"{where}: options, memo: expected objects")
    return State(
        step=record.integer("step"),
        options=TrainOptions.from_dict(options, where),
        files=_names(record, "files"),
        held_out_files=_names(record, "held_out_files"),
        digest=record.text("digest"),
        template=_optional(record, "template"),
        base=_optional(record, "base"),
        base_fingerprint=_optional(record, "base_fingerprint"),
        n_tokens=record.integer("n_tokens", high=2**63 - 1),
        mean_loss=None if record.get("mean_loss") is None else record.number("mean_loss"),
        lowest_loss=None if record.get("lowest_loss") is None else record.number("lowest_loss"),
        n_high=record.integer("n_high"),
        level=record.text("level"),
        memo=memo,
    )


def optimizer_state(gguf: _core.Gguf, n: int) -> NDArray[np.float32]:
    """The optimiser's state, f32 (n). Raises FormatError where there is another number."""
    info = gguf.tensor(_OPTIMIZER)
    if info.type != "F32" or info.shape != (n,):
        raise FormatError(f"{gguf.path}: tensor '{_OPTIMIZER}': found {info.type} {info.shape}, expected F32 ({n},)")
    return np.frombuffer(gguf.tensor_data(_OPTIMIZER), np.float32)


def fingerprint(gguf: _core.Gguf) -> str:
    """Tells models apart: a hash of each tensor's name, type, shape and first bytes."""
    digest = hashlib.sha256()
    for info in gguf.tensors:
        digest.update(f"{info.name}\0{info.type}{info.shape}\0".encode("utf-8", "replace"))
        digest.update(gguf.tensor_data(info.name)[:4096])
    return digest.hexdigest()


def _names(record: Record, key: str) -> list[str]:
    names = record.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(f"{record.where(key)}: expected a list of strings")
    return list(names)


def _optional(record: Record, key: str) -> str | None:
    return None if record.get(key) is None else record.text(key)

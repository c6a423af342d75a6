"""Quantising GGUF files: `quantize` writes a model again with its matrices in smaller types.

    nanollm.quantize("gpt2-f16.gguf", "gpt2-q4_k_m.gguf", "q4_k_m")

The types of single tensors follow llama.cpp's recipes for the same file types.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _core
from ._types import QuantizeStep
from .errors import ArgumentError, NanoError
from .export import TEMPLATE_KEY, chat_pieces
from .models import PROGRAM_KEY, build_program
from .pieces import PIECES_PREFIX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .imatrix import Importance

__all__ = ["QuantizeReport", "QuantizedTensor", "default_output", "quantize"]

Value = tuple[str, str, Sequence[Any], bool]
"""Metadata: key, kind of the items, items, whether it is an array."""


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """What became of one tensor."""

    name: str
    shape: tuple[int, ...]
    old_type: str
    type: str
    wanted: str
    """What the recipe or the caller chose."""
    old_bytes: int
    n_bytes: int
    has_importance: bool

    @property
    def is_fallback(self) -> bool:
        """Do its rows not fill the blocks of the type that was wanted?"""
        return self.type != self.wanted


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What was written, or would be."""

    path: Path | None
    """None for a dry run."""
    ftype: str
    """The file type's name."""
    tensors: tuple[QuantizedTensor, ...]
    notes: tuple[str, ...]
    """What a user should know."""

    @property
    def n_params(self) -> int:
        return sum(math.prod(t.shape) for t in self.tensors)

    @property
    def old_bytes(self) -> int:
        """Of the tensors."""
        return sum(t.old_bytes for t in self.tensors)

    @property
    def n_bytes(self) -> int:
        return sum(t.n_bytes for t in self.tensors)

    @property
    def old_bits(self) -> float:
        """Bits a weight, over all tensors."""
        return 8 * self.old_bytes / max(self.n_params, 1)

    @property
    def bits(self) -> float:
        return 8 * self.n_bytes / max(self.n_params, 1)

    @property
    def fallbacks(self) -> tuple[QuantizedTensor, ...]:
        return tuple(t for t in self.tensors if t.is_fallback)


def default_output(source: str | os.PathLike[str], type: str) -> Path:
    """Beside ``source``, with the type in its name: "model-f16.gguf" gives "model-q8_0.gguf"."""
    path = Path(source)
    name = _name_of(_core.ftype_from_name(type)).lower()
    known = "|".join(_core.ftypes())
    stem = re.sub(rf"(?i)[-._](?:{known})$", "", path.stem)
    return path.parent / f"{stem}-{name}{path.suffix or '.gguf'}"


def quantize(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    type: str = "q4_k_m",
    *,
    n_threads: int = 0,
    allow_requantize: bool = False,
    leave_output_tensor: bool = False,
    pure: bool = False,
    imatrix: str | os.PathLike[str] | Importance | None = None,
    include_weights: Sequence[str] = (),
    exclude_weights: Sequence[str] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    tensor_types: Sequence[tuple[str, str]] = (),
    override_kv: Mapping[str, int | float | bool | str] | None = None,
    dry_run: bool = False,
    no_fallback: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> QuantizeReport:
    """Writes the GGUF file ``source`` again as ``type``, in one pass and atomically.

    ``type``: a file type's name in any case ("q4_k_m", "COPY") or its number ("15"). ``out``: `default_output` where
    it is None. ``n_threads``: 0 is one per fast core; the result does not depend on it.
    ``allow_requantize``: take matrices that are quantised already. ``leave_output_tensor``: output.weight stays.
    ``pure``: one type for every matrix. ``imatrix``: a file of importances, or these; ``include_weights`` and
    ``exclude_weights`` say for which tensors they count, by parts of names. ``tensor_types``: (regular expression,
    type), searched in tensor names, the first match counts. ``override_kv``: metadata to set.
    ``no_fallback``: fail where a row is not whole blocks of its type, instead of taking another.
    ``progress(bytes done, bytes in all, tensor)`` is called often; an exception from it ends the work.

    A file without a program gets one. Raises ArgumentError, FileError, FormatError, UnsupportedError or ShapeError,
    before anything is written where that can be known.
    """
    ftype = _core.ftype_from_name(type)
    notes: list[str] = []
    steps: list[QuantizeStep] = []
    with _core.Gguf.open(source) as gguf:
        total = sum(tensor.n_bytes for tensor in gguf.tensors)

        def on_step(step: QuantizeStep) -> None:
            if step.is_done:
                steps.append(step)
            if progress is not None:
                progress(step.n_read, total, step.tensor.name)

        path = None if dry_run else Path(out) if out is not None else default_output(source, type)
        if path is not None and path.exists() and path.samefile(source):
            raise ArgumentError(f"{path}: the file to write is the file to read")
        values = [_override(gguf, key, value) for key, value in (override_kv or {}).items()]
        values += _program(gguf, notes)
        values += _chat(gguf, notes, override_kv or {})
        importance = None
        if imatrix is not None:
            importance, described = _importance(gguf, imatrix, include_weights, exclude_weights, notes)
            values += described
        elif include_weights or exclude_weights:
            raise ArgumentError("include_weights and exclude_weights choose from an imatrix, and there is none")
        _core.quantize_file(
            gguf,
            path,
            ftype,
            n_threads=n_threads,
            allow_requantize=allow_requantize,
            pure=pure,
            leave_output=leave_output_tensor,
            no_fallback=no_fallback,
            dry_run=dry_run,
            output_type=output_tensor_type,
            token_embedding_type=token_embedding_type,
            types=_chosen(gguf, tensor_types),
            importance=importance,
            values=values,
            progress=on_step,
        )
    return QuantizeReport(path, _name_of(ftype), tuple(map(_tensor, steps)), tuple(notes))


def _tensor(step: QuantizeStep) -> QuantizedTensor:
    t = step.tensor
    return QuantizedTensor(
        t.name, t.shape, t.type, step.type, step.wanted, t.n_bytes, step.n_bytes, step.has_importance
    )


def _name_of(ftype: int) -> str:
    return next(name for name, number in _core.ftypes().items() if number == ftype)


def _chosen(gguf: _core.Gguf, tensor_types: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Each tensor's type by the first expression that its name matches."""
    chosen: dict[str, str] = {}
    for expression, wanted in tensor_types:
        try:
            pattern = re.compile(expression)
        except re.error as error:
            raise ArgumentError(f"{expression!r}: no regular expression: {error}") from None
        names = [tensor.name for tensor in gguf.tensors if pattern.search(tensor.name)]
        if not names:
            raise ArgumentError(f"{expression!r}: no tensor of {gguf.path} matches")
        for name in names:
            chosen.setdefault(name, wanted)
    return chosen


def _override(gguf: _core.Gguf, key: str, value: int | float | bool | str) -> Value:
    """The value in the kind that the file has for the key, otherwise in the usual one of its own."""
    import numpy as np

    if isinstance(value, bool):
        return key, "bool", [value], False
    if isinstance(value, str):
        return key, "string", [value], False
    known = gguf.kind(key)[0] if key in gguf else ""
    if isinstance(value, float) or known in ("float32", "float64"):
        kind = "float64" if known == "float64" else "float32"
        if abs(value) > float(np.finfo(kind).max) and value not in (math.inf, -math.inf):
            raise ArgumentError(f"{key}: {value} is too large for {kind}")
        return key, kind, [float(value)], False
    for kind in (known, "uint32", "int32", "uint64", "int64"):
        if kind.removeprefix("u").startswith("int") and np.iinfo(kind).min <= value <= np.iinfo(kind).max:
            return key, kind, [value], False
    raise ArgumentError(f"{key}: {value} has more than 64 bits")


def _program(gguf: _core.Gguf, notes: list[str]) -> list[Value]:
    """The program for a file that lacks one, so that it runs without Python."""
    if PROGRAM_KEY in gguf:
        return []
    try:
        program = list(build_program(gguf))
    except NanoError as error:
        notes.append(f"the file gets no program: {error}")
        return []
    return [(PROGRAM_KEY, "uint8", program, True)]


def _chat(gguf: _core.Gguf, notes: list[str], overrides: Mapping[str, object]) -> list[Value]:
    """The chat pieces for a file that lacks them, or whose template is replaced."""
    template = overrides.get(TEMPLATE_KEY)
    has_pieces = any(key.startswith(PIECES_PREFIX) for key in (*gguf.keys(), *overrides))
    if has_pieces and template is None:
        return []
    pieces = chat_pieces(gguf, notes, template if isinstance(template, str) else None)
    values = pieces.metadata() if pieces is not None else {}
    return [
        (key, "bool" if isinstance(value, bool) else "string", [value], False)
        for key, value in values.items()
        if key not in overrides
    ]


def _importance(
    gguf: _core.Gguf,
    imatrix: str | os.PathLike[str] | Importance,
    include: Sequence[str],
    exclude: Sequence[str],
    notes: list[str],
) -> tuple[dict[str, NDArray[np.float32]], list[Value]]:
    """The importances that count, by tensor, and the metadata that tells where they are from."""
    from .imatrix import Importance

    if include and exclude:
        raise ArgumentError("include_weights and exclude_weights exclude each other")
    name = "memory" if isinstance(imatrix, Importance) else os.fspath(imatrix)
    entries = imatrix if isinstance(imatrix, Importance) else Importance.read(imatrix)
    used = {
        tensor: values.ravel()
        for tensor, values in entries.values.items()
        if gguf.has_tensor(tensor)
        and (not include or any(part in tensor for part in include))
        and not any(part in tensor for part in exclude)
    }
    if not used:
        raise ArgumentError(f"{name}: no importances for the tensors of {gguf.path}")
    left = len(entries.values) - len(used)
    if left:
        notes.append(f"{name}: {left} of {len(entries.values)} entries are not used")
    described: list[Value] = [
        ("quantize.imatrix.file", "string", [name], False),
        ("quantize.imatrix.entries_count", "uint32", [len(used)], False),
        ("quantize.imatrix.chunks_count", "uint32", [entries.chunk_count], False),
    ]
    if entries.datasets:
        described.append(("quantize.imatrix.dataset", "string", [", ".join(entries.datasets)], False))
    return used, described

"""LoRA adapters (Hu et al., 2021, arXiv:2106.09685) as GGUF files: made to be trained, read, written, bound to a model.

    nanollm.lora.create("model.gguf", "adapter.gguf", rank=8, targets="attention")
    nanollm.Model("model.gguf", adapters=["adapter.gguf", ("other.gguf", 0.5)])

A weight W (n_out, n_in) becomes W + scale * alpha / r * B A. In the file A (r, n_in) is ``<W>.lora_a``, B (n_out, r)
``<W>.lora_b``, and alpha ``adapter.lora.alpha``. For a table of rows, W (n_rows, n), they lie the other way round:
``lora_a`` (n_rows, r), ``lora_b`` (n, r), and W gets lora_a lora_b^T.
"""

from __future__ import annotations

import fnmatch
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _core
from .errors import ArgumentError, NanoError, NotFoundError, ShapeError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._types import TensorInfo

__all__ = [
    "TARGETS",
    "Adapter",
    "AdapterLike",
    "Pair",
    "bind",
    "check_base",
    "create",
    "is_table",
    "named",
    "open_all",
    "read",
    "write_peft",
]

AdapterLike: TypeAlias = "str | os.PathLike[str] | tuple[str | os.PathLike[str], float]"
"""A file, or a file and what its addition is multiplied with."""

TARGETS = ("all",)
"""What `create` makes matrices for where nothing is named."""

ALPHA = "adapter.lora.alpha"
_A, _B = ".lora_a", ".lora_b"
_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
# Matrices of a layer that a linear reads, by the names that all architectures share.
_MATRIX = re.compile(r"blk\.\d+\.((?:attn|ffn)_\w+)\.weight")
_GROUPS = {"all": "*", "attention": "attn_*", "ffn": "ffn_*"}
_TABLES = ("token_embd.weight", "position_embd.weight")
_TRAINING = "training."  # tensors of a checkpoint that are the optimiser's


def is_table(weight: str) -> bool:
    """Is the weight one whose rows are looked up?"""
    return weight in _TABLES


# ------------------------------------------------------------------ binding


def named(adapters: Iterable[AdapterLike]) -> list[tuple[str, float]]:
    """Each adapter's file and scale. Raises ArgumentError for scales that are not finite."""
    out: list[tuple[str, float]] = []
    for adapter in adapters:
        path, scale = adapter if isinstance(adapter, tuple) else (adapter, 1.0)
        if not math.isfinite(scale) or abs(scale) > 1e30:
            raise ArgumentError(f"{os.fspath(path)}: scale: found {scale}, expected a finite number")
        out.append((os.fspath(path), float(scale)))
    return out


def open_all(adapters: Iterable[AdapterLike]) -> list[tuple[_core.Gguf, float]]:
    """Each adapter's file, opened, and its scale."""
    return [(_core.Gguf.open(path), scale) for path, scale in named(adapters)]


def bind(gguf: _core.Gguf, program: bytes, adapters: Sequence[tuple[_core.Gguf, float]]) -> _core.CoreModel:
    """The model with all the adapters, each added to what the others make of it.

    Raises UnsupportedError for a file that is no LoRA adapter, ArgumentError for one of another architecture,
    NotFoundError for a matrix that the model has no weight for, ShapeError for one that does not go with it.
    """
    if not adapters:
        return _core.CoreModel(gguf, program)
    graph = _core.Graph.load(program)
    for number, (adapter, scale) in enumerate(adapters, 1):
        _core.adapter_check(adapter, gguf)
        graph = graph.adapt(adapter, number, scale)
    return _core.CoreModel([gguf, *(adapter for adapter, _ in adapters)], graph.save())


# ------------------------------------------------------------------ reading and writing


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices of one weight, float32, as the file has them."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]

    @property
    def rank(self) -> int:
        return int(self.b.shape[1])


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter's file holds."""

    path: str
    architecture: str
    alpha: float
    pairs: dict[str, Pair]
    """By the weight's name."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The file's other keys."""

    def factor(self, weight: str, scale: float = 1.0) -> float:
        """What the product of the weight's matrices is multiplied with; an alpha of 0 stands for the rank."""
        return scale * self.alpha / self.pairs[weight].rank if self.alpha else scale

    def write(self, out: str | os.PathLike[str], type: str = "f32") -> None:
        """Writes the file, atomically; matrices in ``type``: "f32", "f16" or "bf16"."""
        values = {f"{name}{end}": m for name, p in self.pairs.items() for end, m in ((_A, p.a), (_B, p.b))}
        kind = _type(type)
        with _core.GgufWriter(out) as w:
            w.set("general.architecture", "string", self.architecture)
            w.set("general.type", "string", "adapter")
            w.set("adapter.type", "string", "lora")
            w.set(ALPHA, "float32", self.alpha)
            for key, value in self.metadata.items():
                w.set(key, "string" if isinstance(value, str) else "uint32", value)
            for name, matrix in values.items():
                w.add_tensor(name, matrix.shape, kind)
            for matrix in values.values():
                w.write(_core.from_float(kind, matrix.ravel()).data)


def read(path: str | os.PathLike[str]) -> Adapter:
    """All of an adapter's matrices, as float32. What a checkpoint of a training has besides is passed over."""
    with _core.Gguf.open(path) as gguf:
        _core.adapter_check(gguf)
        architecture, alpha = gguf.get("general.architecture"), gguf.get(ALPHA)
        if not isinstance(architecture, str):
            raise NotFoundError(f"{gguf.path}: general.architecture: found {architecture!r}, expected a string")
        if not isinstance(alpha, float):
            raise NotFoundError(f"{gguf.path}: {ALPHA}: found {alpha!r}, expected a number")
        names = [t.name for t in gguf.tensors if not t.name.startswith(_TRAINING)]
        weights = dict.fromkeys(name.removesuffix(_A).removesuffix(_B) for name in names)
        for name in names:
            if not name.endswith((_A, _B)):
                raise UnsupportedError(f"{gguf.path}: tensor '{name}' is left over: no matrix of a LoRA adapter")
        pairs = {weight: _pair(gguf, weight) for weight in weights}
        if not pairs:
            raise NotFoundError(f"{gguf.path}: no tensors")
        own = ("general.architecture", "general.type", "adapter.type", ALPHA)
        return Adapter(gguf.path, architecture, alpha, pairs, _strings(gguf, own))


def _strings(gguf: _core.Gguf, without: Sequence[str]) -> dict[str, Any]:
    """What tells where the file is from: its general.* keys that are texts and counts."""
    kept = (key for key in gguf.keys() if key.startswith("general.") and key not in without)  # noqa: SIM118
    return {key: gguf[key] for key in kept if gguf.kind(key) in (("string", False), ("uint32", False))}


def _pair(gguf: _core.Gguf, weight: str) -> Pair:
    for end in (_A, _B):
        if not gguf.has_tensor(f"{weight}{end}"):
            raise NotFoundError(f"{gguf.path}: tensor '{weight}{end}' is missing")
    shapes = [gguf.tensor(f"{weight}{end}").shape for end in (_A, _B)]
    rank_at = 1 if is_table(weight) else 0
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][rank_at] != shapes[1][1]:
        raise ShapeError(
            f"{gguf.path}: tensor '{weight}{_A}': found {list(shapes[0])}, which does not go with {list(shapes[1])}"
        )
    a, b = (gguf.tensor_f32(f"{weight}{end}").reshape(s) for end, s in zip((_A, _B), shapes, strict=True))
    return Pair(a, b)


def _type(name: str) -> str:
    if name not in _TYPES:
        raise ArgumentError(f"type: found {name!r}, expected one of {', '.join(_TYPES)}")
    return _TYPES[name]


# ------------------------------------------------------------------ making


def create(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rank: int = 8,
    alpha: float | None = None,
    targets: str | Sequence[str] = TARGETS,
    seed: int = 0,
    type: str = "f32",
) -> Adapter:
    """Writes an adapter for ``model`` that changes nothing yet, to be trained: A random, B zero. Returns it.

    ``alpha``: what a product B A is multiplied with, times ``rank``; None takes twice the rank. ``targets``: "all"
    matrices of the layers, those of "attention", of "ffn", or short names and patterns of them: "attn_q", "ffn_*",
    "blk.0.*"; "output" and "token_embd" must be named. Several at once in a sequence, or with commas.
    A is drawn from the uniform distribution over ± 1 / sqrt(n_in), as PEFT does (Kaiming's with a = sqrt(5)), of a
    table's pair B from the standard normal one; a matrix's numbers depend on ``seed`` and its name alone.

    Raises ArgumentError for targets that the model has no matrix for.
    """
    if not 1 <= rank <= 1 << 16:
        raise ArgumentError(f"rank: found {rank}, expected 1 to {1 << 16}")
    alpha = 2.0 * rank if alpha is None else float(alpha)
    if not (math.isfinite(alpha) and alpha > 0):
        raise ArgumentError(f"alpha: found {alpha}, expected a number above 0")
    if seed < 0:
        raise ArgumentError(f"seed: found {seed}, expected 0 or more")
    _type(type)
    if Path(out).exists() and Path(out).samefile(model):
        raise ArgumentError(f"{out}: the file to write is the file to read")
    with _core.Gguf.open(model) as gguf:
        chosen = _chosen(gguf, targets)
        pairs = {t.name: _initial(t, rank, seed) for t in chosen}
        metadata: dict[str, Any] = {"general.name": Path(out).stem}
        if isinstance(name := gguf.get("general.name"), str):
            metadata |= {"general.base_model.count": 1, "general.base_model.0.name": name}
        architecture = str(gguf.get("general.architecture", ""))
        made = Adapter(os.fspath(out), architecture, alpha, pairs, metadata)
        made.write(out, type)
        _check_made(gguf, made)
    return made


def _check_made(gguf: _core.Gguf, made: Adapter) -> None:
    """What was made goes with the model's own graph; a file that does not is taken away again."""
    from .models import build_program

    try:
        with _core.Gguf.open(made.path) as file:
            bind(gguf, build_program(gguf), [(file, 1.0)]).close()
    except NanoError:
        Path(made.path).unlink(missing_ok=True)
        raise


def _chosen(gguf: _core.Gguf, targets: str | Sequence[str]) -> list[TensorInfo]:
    """The matrices that targets name, in the file's order."""
    words = [w.strip() for text in ([targets] if isinstance(targets, str) else targets) for w in text.split(",")]
    matrices = {t.name: t for t in gguf.tensors if len(t.shape) == 2}
    chosen: set[str] = set()
    for word in words:
        found = {name for name in matrices if _matches(name, _GROUPS.get(word, word))}
        if not found:
            short = sorted({m[1] for name in matrices if (m := _MATRIX.fullmatch(name))})
            raise ArgumentError(f"targets: {gguf.path} has no matrix {word!r}; it has {', '.join(short) or 'none'}")
        chosen |= found
    return [t for name, t in matrices.items() if name in chosen]


def _matches(name: str, pattern: str) -> bool:
    """Does a short name, or a whole one, match? Outside the layers only what is spelt out does."""
    bare = name.removesuffix(".weight")
    if (found := _MATRIX.fullmatch(name)) is None:
        return pattern == bare and (is_table(name) or bare == "output")
    return fnmatch.fnmatchcase(found[1], pattern) or fnmatch.fnmatchcase(bare, pattern)


def _initial(t: TensorInfo, rank: int, seed: int) -> Pair:
    import numpy as np

    rng = np.random.default_rng([seed, zlib.crc32(t.name.encode())])
    n_rows, n = t.shape
    if is_table(t.name):
        normal = rng.standard_normal((n, rank), dtype=np.float32)
        return Pair(np.zeros((n_rows, rank), np.float32), normal)
    bound = 1.0 / math.sqrt(n)
    a = rng.uniform(-bound, bound, (rank, n)).astype(np.float32)
    return Pair(a, np.zeros((n_rows, rank), np.float32))


def write_peft(
    adapter: str | os.PathLike[str] | Adapter, folder: str | os.PathLike[str], model: str | os.PathLike[str]
) -> list[Path]:
    """Writes an adapter as Hugging Face's PEFT has it: adapter_config.json and adapter_model.safetensors in a folder.

    ``model``: what the adapter is for, a GGUF file, a Hugging Face folder or its name on the hub: names, and the order
    of rows, are Hugging Face's. Returns the files. Raises UnsupportedError for an architecture without such names,
    NotFoundError or ShapeError where the adapter does not go with the model.
    """
    from .convert import peft

    return peft.write(adapter if isinstance(adapter, Adapter) else read(adapter), Path(folder), Path(model))


def check_base(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], model: str) -> None:
    """Raises NotFoundError or ShapeError for matrices that do not go with the model's weights."""
    for weight, pair in adapter.pairs.items():
        if weight not in shapes:
            raise NotFoundError(f"{adapter.path}: tensor '{weight}{_A}': {model} has no tensor '{weight}'")
        ends = (pair.a.shape[0], pair.b.shape[0]) if is_table(weight) else (pair.b.shape[0], pair.a.shape[1])
        if ends != tuple(shapes[weight]):
            raise ShapeError(
                f"{adapter.path}: tensor '{weight}{_A}': for a weight {list(ends)}, in {model} it is "
                f"{list(shapes[weight])}"
            )

"""Importance of the columns of a model's matrices, as files hold it.

`Importance.read` takes llama.cpp's GGUF form (`general.type` = "imatrix") and its older one without a magic number;
`Importance.write` writes the GGUF form.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import _core
from .errors import FileError, FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Importance"]

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Importance:
    """What each matrix of a model was multiplied with, by the matrix's tensor name."""

    values: dict[str, NDArray[np.float32]]
    """Mean squares of the columns, f32 (n_matrices, n_columns); a weight of two dims is one matrix. Columns of a
    matrix that nothing was multiplied with are 1."""
    counts: dict[str, NDArray[np.float32]]
    """Rows that went into each mean, f32 (n_matrices)."""
    chunk_size: int = 0
    """Tokens in a chunk of the text; 0: not told."""
    chunk_count: int = 0
    datasets: tuple[str, ...] = field(default=())
    """Names of the texts."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Importance:
        """Reads either form. Raises FormatError for what is neither, or damaged."""
        try:
            with Path(path).open("rb") as file:
                is_gguf = file.read(4) == b"GGUF"
        except OSError as error:
            raise FileError(f"{os.fspath(path)}: {error.strerror}") from error
        return _read_gguf(path) if is_gguf else _read_dat(Path(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the GGUF form, atomically."""
        with _core.GgufWriter(path) as writer:
            writer.set("general.type", "string", "imatrix")
            writer.set("imatrix.datasets", "string", list(self.datasets))
            writer.set("imatrix.chunk_count", "uint32", self.chunk_count)
            writer.set("imatrix.chunk_size", "uint32", self.chunk_size)
            for name, values in self.values.items():
                writer.add_tensor(name + _SUMS, values.shape, "F32")
                writer.add_tensor(name + _COUNTS, (len(values), 1), "F32")
            for name, values in self.values.items():
                counts = self.counts[name].astype(np.float32)
                writer.write((values * counts[:, None]).astype(np.float32).data)
                writer.write(counts.data)


def _read_gguf(path: str | os.PathLike[str]) -> Importance:
    values: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, NDArray[np.float32]] = {}
    with _core.Gguf.open(path) as gguf:
        where = gguf.path
        if gguf.get("general.type") != "imatrix":
            raise FormatError(f"{where}: general.type: found {gguf.get('general.type')!r:.100}, expected 'imatrix'")
        for tensor in gguf.tensors:
            if not tensor.name.endswith(_SUMS):
                continue
            name = tensor.name.removesuffix(_SUMS)
            if tensor.type != "F32" or not gguf.has_tensor(name + _COUNTS):
                raise FormatError(f"{where}: {tensor.name}: found {tensor.type}, expected F32 with {name}{_COUNTS}")
            n = gguf.tensor_f32(name + _COUNTS).ravel()
            sums = gguf.tensor_f32(tensor.name)
            if n.size == 0 or sums.size % n.size:
                raise FormatError(f"{where}: {tensor.name}: {sums.size} sums do not divide into {n.size} matrices")
            sums = sums.reshape(n.size, -1)
            values[name] = np.where(n[:, None] > 0, sums / np.maximum(n, 1)[:, None], 1).astype(np.float32)
            counts[name] = n
            _check(where, name, values[name], n)
        datasets = gguf.get("imatrix.datasets", [])
        size, count = (gguf.get(f"imatrix.{key}", 0) for key in ("chunk_size", "chunk_count"))
    if not values:
        raise FormatError(f"{where}: holds no importances: no tensor's name ends in {_SUMS}")
    return Importance(
        values,
        counts,
        chunk_size=size if isinstance(size, int) else 0,
        chunk_count=count if isinstance(count, int) else 0,
        datasets=tuple(map(str, datasets)) if isinstance(datasets, list) else (),
    )


def _read_dat(path: Path) -> Importance:
    """The older form: the number of entries, then for each the length of its name, the name, the number of calls, the
    number of columns, and the mean squares times the calls; after them the number of chunks and the text's name."""
    data = path.read_bytes()
    numbers = _Numbers(str(path), data)
    values: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, NDArray[np.float32]] = {}
    for _ in range(numbers.integer("entries")):
        name = numbers.bytes(numbers.integer("name's length")).decode("utf-8", "replace")
        n_calls, n = numbers.integer("calls"), numbers.integer("columns")
        sums = np.frombuffer(numbers.bytes(4 * n), dtype="<f4")
        values[name] = (sums / n_calls if n_calls else np.ones(n)).astype(np.float32)[None, :]
        counts[name] = np.array([n_calls], dtype=np.float32)
        _check(str(path), name, values[name], counts[name])
    if not values:
        raise FormatError(f"{path}: holds no importances")
    chunk_count, datasets = 0, tuple[str, ...]()
    if numbers.n_left >= 8:
        chunk_count = numbers.integer("chunks")
        datasets = (numbers.bytes(numbers.integer("text's name")).decode("utf-8", "replace"),)
    return Importance(values, counts, chunk_count=chunk_count, datasets=datasets)


class _Numbers:
    """Takes what is next in the bytes of a file."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path = path
        self._data = data
        self._at = 0

    @property
    def n_left(self) -> int:
        return len(self._data) - self._at

    def bytes(self, n: int) -> bytes:
        if n > self.n_left:
            raise FormatError(f"{self._path}: byte {self._at}: {n} bytes expected, the file has {self.n_left} more")
        self._at += n
        return self._data[self._at - n : self._at]

    def integer(self, what: str) -> int:
        value: int = struct.unpack("<i", self.bytes(4))[0]
        if value < 0:
            raise FormatError(f"{self._path}: byte {self._at - 4}: {what}: found {value}, expected a count")
        return value


def _check(path: str, name: str, values: NDArray[np.float32], counts: NDArray[np.float32]) -> None:
    if not (np.isfinite(values).all() and (values >= 0).all() and np.isfinite(counts).all()):
        raise FormatError(f"{path}: {name}: found what is no mean of squares")

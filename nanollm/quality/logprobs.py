"""A file of a model's log-probabilities for a text, to measure other models' divergence from it.

A GGUF file (`general.type` = "logprobs"; the layout is in docs/quality.md): the tokens, the windows, and for each
scored token its exact -log p and how far each token's log-probability is below the largest. That distance d, in nats,
is cut at 24 and kept in 16 bits as round(65535 * sqrt(d / 24)): fine where probability is, off by at most 0.0004
anywhere, weighted with the probabilities by less than 0.0001.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _core
from ..errors import ArgumentError, FormatError, UnsupportedError
from .windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Model
    from .reduce import Softmax

__all__ = ["Logprobs", "LogprobsWriter"]

_KIND = "logprobs"
_VERSION = 1
_FARTHEST = 24.0  # nats
_CODES = 65535


def vocabulary_hash(model: Model) -> str:
    """SHA-256 of all spellings: models with the same vocabulary have the same."""
    digest = hashlib.sha256()
    for i in range(model.tokenizer.n_tokens):
        digest.update(model.spelling(i).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


class LogprobsWriter:
    """Writes the file beside its place as rows come; leaving the `with` block without an exception puts it there."""

    def __init__(self, path: str | os.PathLike[str], model: Model, windows: Windows) -> None:
        self._nll: list[NDArray[np.float64]] = []
        self._writer = _core.GgufWriter(path)
        writer, n_vocab = self._writer, model.n_vocab
        writer.set("general.type", "string", _KIND)
        writer.set("general.name", "string", str(model.metadata.get("general.name", Path(model.path).name)))
        writer.set("logprobs.version", "uint32", _VERSION)
        writer.set("logprobs.vocabulary", "string", vocabulary_hash(model))
        for key in ("n_ctx", "step", "n_scored", "n_windows"):
            writer.set(f"logprobs.{key}", "uint32", getattr(windows, key))
        if windows.bos is not None:
            writer.set("logprobs.bos", "uint32", windows.bos)
        writer.add_tensor("tokens", (windows.n_tokens,), "I32")
        writer.add_tensor("distances", (windows.n_rows, n_vocab), "I16")
        writer.add_tensor("nll", (windows.n_rows,), "F32")
        writer.write(windows.tokens[: windows.n_tokens].data)

    @staticmethod
    def size(model: Model, windows: Windows) -> int:
        """Bytes of the tensors that the file will have; metadata and padding add about a thousand."""
        return 4 * windows.n_tokens + windows.n_rows * (2 * model.n_vocab + 4)

    def write(self, softmax: Softmax, nll: NDArray[np.float64]) -> None:
        """Adds rows, with -log p of the tokens they predict."""
        distances = np.minimum(-softmax.shifted, _FARTHEST)
        codes = np.sqrt(distances / _FARTHEST, out=distances)
        codes *= _CODES
        codes += 0.5
        self._writer.write(codes.astype(np.uint16).data)
        self._nll.append(nll.copy())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writer.abort()
            return
        self._writer.write(np.concatenate(self._nll).astype(np.float32).data)
        self._writer.finish()


class Logprobs:
    """Such a file, opened and checked. Rows are mapped: only those asked for are read.

    Raises FormatError for a file that is none or damaged, UnsupportedError for a version that this build lacks.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._gguf = _core.Gguf.open(path)
        self.path = self._gguf.path
        kind = self._gguf.get("general.type")
        if kind != _KIND:
            raise FormatError(f"{self.path}: general.type: found {kind!r}, expected {_KIND!r}")
        version = self._number("version")
        if version != _VERSION:
            raise UnsupportedError(f"{self.path}: logprobs.version: found {version}, expected {_VERSION}")
        self._vocabulary = self._gguf.get("logprobs.vocabulary")
        tokens = self._array("tokens", "I32", np.dtype("<i4"), 1)
        self._distances = self._array("distances", "I16", np.dtype("<u2"), 2)
        self.nll: NDArray[np.float64] = self._array("nll", "F32", np.dtype("<f4"), 1).astype(np.float64)
        """-log p of each scored token, f64 (n_rows)."""
        self.n_vocab = int(self._distances.shape[1])
        bos = self._number("bos") if "logprobs.bos" in self._gguf else None
        sizes = {key: self._number(key) for key in ("n_ctx", "step", "n_scored", "n_windows")}
        try:
            self.windows = Windows(tokens=tokens, bos=bos, **sizes)
        except ArgumentError as error:
            raise FormatError(f"{self.path}: {error}") from None
        n_rows = self.windows.n_rows
        if len(self._distances) != n_rows or len(self.nll) != n_rows:
            found = f"{len(self._distances)} rows of distances, {len(self.nll)} of nll"
            raise FormatError(f"{self.path}: found {found}, expected {n_rows} of each")
        if tokens.min() < 0 or max(tokens.max(), bos or 0) >= self.n_vocab:
            raise FormatError(f"{self.path}: tokens: an id is out of the vocabulary of {self.n_vocab}")
        if not (np.isfinite(self.nll) & (self.nll >= -1e-4)).all():
            raise FormatError(f"{self.path}: nll: found what is no -log p of a token")

    def close(self) -> None:
        """Lets go of the file; arrays handed out stay valid."""
        self._gguf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, model: Model) -> None:
        """Raises ArgumentError where `model` has another vocabulary."""
        if model.n_vocab != self.n_vocab:
            raise ArgumentError(
                f"{model.path}: vocabulary of {model.n_vocab}, {self.path} was made with {self.n_vocab}"
            )
        if vocabulary_hash(model) != self._vocabulary:
            raise ArgumentError(f"{model.path}: another vocabulary than that which {self.path} was made with")

    def rows(self, at: slice) -> NDArray[np.float32]:
        """Log-probabilities less the largest of each row, f32 (n, n_vocab)."""
        rows = self._distances[at].astype(np.float32)
        rows *= 1.0 / _CODES
        np.square(rows, out=rows)
        rows *= -_FARTHEST
        return rows

    def _number(self, name: str) -> int:
        value = self._gguf.get(f"logprobs.{name}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
            raise FormatError(f"{self.path}: logprobs.{name}: found {value!r:.100}, expected a number of 31 bits")
        return value

    def _array(self, name: str, type: str, dtype: np.dtype[Any], n_dims: int) -> NDArray[Any]:
        if not self._gguf.has_tensor(name):
            raise FormatError(f"{self.path}: tensor {name!r}: not found")
        info = self._gguf.tensor(name)
        # GGUF keeps no leading dims of 1.
        shape = (1,) * (n_dims - len(info.shape)) + info.shape
        if info.type != type or len(shape) != n_dims or 0 in shape:
            raise FormatError(
                f"{self.path}: tensor {name!r}: found {info.type} {info.shape}, expected {type}, {n_dims} dims"
            )
        return np.frombuffer(self._gguf.tensor_data(name), dtype=dtype).reshape(shape)

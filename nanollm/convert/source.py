"""What a source format hands to the writer: metadata, a vocabulary, and tensors that are read when their turn comes."""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanollm import _core
from nanollm.errors import FileError, FormatError, UnsupportedError
from nanollm.models import Architecture, Array, Record, Value

__all__ = [
    "FLOATS",
    "Entry",
    "Source",
    "SourceTensor",
    "elements",
    "first_bytes",
    "map_file",
    "read_json",
    "read_record",
    "write_atomically",
]

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Types whose elements NumPy can hold, and as what: bf16 is the upper half of an f32."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor under its GGUF name.

    ``load`` gives its elements in its shape, bf16 as uint16; of any type but those of FLOATS the bytes of its rows,
    uint8 (n_rows, n_bytes). What it gives is a mapped view where it can be, and is let go before the next is asked
    for, so that no more than one tensor is in memory.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    """As _core names it."""
    load: Callable[[], Array]
    origin: str
    """Its name in the source."""
    floats: Callable[[], Array] | None = None
    """Its elements as float32, where the source has them more exactly than ``type`` can."""


@dataclass(slots=True)
class Source:
    """A model read from some other format."""

    path: Path
    architecture: Architecture[Any]
    metadata: dict[str, Value]
    """Full keys: ``<architecture>.*`` and ``tokenizer.*``; those of ``general.*`` go before the writer's own."""
    tensors: list[SourceTensor]
    name: str
    notes: list[str] = field(default_factory=list)
    """What a user should know: things left out or made up."""
    original_name: Callable[[str], str] = str
    """A GGUF name as the source would spell it."""
    gguf: _core.Gguf | None = None
    """A file whose metadata is kept but where ``metadata`` says otherwise."""
    is_adapter: bool = False
    """Without a graph of its own: no program goes with it."""


def first_bytes(path: Path, n: int) -> bytes:
    """What a file begins with; nothing for what is no file. Raises FileError."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as f:
            return f.read(n)
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None


def map_file(path: Path) -> memoryview:
    """A file's bytes, mapped. Raises FileError, or FormatError for an empty file."""
    try:
        with path.open("rb") as f:
            return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    except ValueError:
        raise FormatError(f"{path}: found an empty file") from None


def elements(path: Path, dtype: str, offset: int, shape: tuple[int, ...]) -> Array:
    """Elements of a file whose size the caller has checked, as a view of a mapping that ends with it."""
    if not math.prod(shape):
        return np.empty(shape, dtype)
    try:
        return np.asarray(np.memmap(path, dtype, "r", offset, shape))
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    except ValueError as e:
        raise FormatError(f"{path}: {e}: the file has changed") from None


def write_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file beside the target, synced, and renames it. Raises FileError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as f:
            f.writelines(parts)
            f.flush()
            os.fsync(f.fileno())
        draft.replace(path)
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    finally:
        draft.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """A JSON file. Raises FileError or FormatError."""
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{path}: not JSON: {e}") from None


def read_record(path: Path) -> Record:
    """A JSON file that holds an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise FormatError(f"{path}: expected a JSON object")
    return Record(value.get, str(path))


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a mapped file. ``type`` is a name of FLOATS, or says which other type it has."""

    path: Path
    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    noun: str = "tensor"
    """What its format calls it."""

    def check_type(self) -> None:
        """Raises UnsupportedError for a type that no weight is read from."""
        if self.type not in FLOATS:
            known = ", ".join(FLOATS)
            raise UnsupportedError(f"{self.path}: {self.noun} '{self.name}': {self.type}, only {known} are supported")

    def load(self) -> Array:
        """Its elements as a view of the file; bf16 as uint16. For types that ``check_type`` accepts."""
        return elements(self.path, FLOATS[self.type], self.offset, self.shape)

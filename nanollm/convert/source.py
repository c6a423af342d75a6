"""What a source format hands to the writer: metadata, a vocabulary, and tensors that are read when their turn comes."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanollm.errors import FileError, FormatError
from nanollm.models import Architecture, Array, Record, Value

__all__ = ["Source", "SourceTensor", "elements", "map_file", "read_json", "read_record"]


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor under its GGUF name. ``load`` gives its elements, bf16 as uint16; a mapped view where it can."""

    name: str
    shape: tuple[int, ...]
    type: str
    """F32, F16 or BF16."""
    load: Callable[[], Array]
    origin: str
    """Its name in the source."""


@dataclass(slots=True)
class Source:
    """A model read from some other format."""

    path: Path
    architecture: Architecture[Any]
    metadata: dict[str, Value]
    """Full keys: ``<architecture>.*`` and ``tokenizer.*``."""
    tensors: list[SourceTensor]
    name: str
    notes: list[str] = field(default_factory=list)
    """What a user should know: things left out or made up."""
    original_name: Callable[[str], str] = str
    """A GGUF name as the source would spell it."""


def map_file(path: Path) -> memoryview:
    """A file's bytes, mapped. Raises FileError, or FormatError for an empty file."""
    try:
        with path.open("rb") as f:
            return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
    except ValueError:
        raise FormatError(f"{path}: found an empty file") from None


def elements(data: memoryview, dtype: str, offset: int, shape: tuple[int, ...]) -> Array:
    """A view of mapped elements; the caller has checked that they are inside."""
    return np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)


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

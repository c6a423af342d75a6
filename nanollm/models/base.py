"""What a model definition is made of: typed hyper-parameters, a build function, names in Hugging Face files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from nanollm.errors import ArgumentError, FormatError, NotFoundError, UnsupportedError
from nanollm.graph import Graph, Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Architecture",
    "Array",
    "HuggingFace",
    "Record",
    "Rule",
    "Value",
    "halves_to_pairs",
    "known",
    "lookup",
    "lookup_model_type",
    "register",
]

C = TypeVar("C")
# Strings: defining a model does not import NumPy, converting one does.
Array: TypeAlias = "npt.NDArray[Any]"

# What metadata may hold; Python's int becomes GGUF's u32, float f32.
Value: TypeAlias = "bool | int | float | str | list[str] | Array"

_MISSING: Any = object()


class Record:
    """Typed look-ups in a file's keys: GGUF metadata or a JSON object. Messages name the file and the key.

    ``get`` returns a key's value or None; ``prefix`` is put before every key.
    """

    def __init__(self, get: Callable[[str], object], source: str, prefix: str = "") -> None:
        self._get = get
        self.source = source
        self.prefix = prefix

    def section(self, prefix: str) -> Record:
        """The same file, ``prefix`` before every key."""
        return Record(self._get, self.source, self.prefix + prefix)

    def get(self, key: str) -> object:
        """The value as it is; None when absent (or null)."""
        return self._get(self.prefix + key)

    def where(self, key: str) -> str:
        """``file: key``, for messages."""
        return f"{self.source}: {self.prefix}{key}"

    def integer(self, key: str, low: int = 0, high: int = 2**31 - 1, default: int = _MISSING) -> int:
        """An integer within [low, high]."""
        value = self._value(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError(f"{self.where(key)}: found {_show(value)}, expected an integer")
        if not low <= value <= high:
            raise FormatError(f"{self.where(key)}: found {value}, expected {low} to {high}")
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf, default: float = _MISSING) -> float:
        """A finite number within [low, high]."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FormatError(f"{self.where(key)}: found {_show(value)}, expected a number")
        if not (low <= value <= high and math.isfinite(value)):
            raise FormatError(f"{self.where(key)}: found {value}, expected {low} to {high}")
        return float(value)

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.where(key)}: found {_show(value)}, expected true or false")
        return value

    def text(self, key: str, default: str = _MISSING) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise FormatError(f"{self.where(key)}: found {_show(value)}, expected a string")
        return value

    def expect(self, key: str, *values: object) -> None:
        """Refuses a key that is present with a value other than ``values``: a variant that is not offered."""
        value = self.get(key)
        if value is not None and (not isinstance(value, (int, float, str, list, dict)) or value not in values):
            wanted = " or ".join(_show(v) for v in values)
            raise UnsupportedError(f"{self.where(key)}: found {_show(value)}, only {wanted} is supported")

    def _value(self, key: str, default: object) -> object:
        value = self.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise NotFoundError(f"{self.where(key)} is missing")
        return default


def _show(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True)
class Rule(Generic[C]):
    """A tensor's GGUF name and how its values lie elsewhere: ``transposed`` (n_in, n_out), or in another order.

    ``change(array, hyper-parameters)`` puts them in order; it keeps the shape and does no arithmetic.
    """

    name: str
    change: Callable[[Array, C], Array] | None = None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class HuggingFace(Generic[C]):
    """How an architecture looks in a Hugging Face folder. In names ``{i}`` stands for the layer's number.

    ``tensors``: name there (without ``prefixes``) -> name in GGUF, or a Rule.
    ``metadata``: config.json -> GGUF metadata, keys without ``<architecture>.``.
    ``ignored``: tensors that are no parameters: masks, tables.
    ``required``: config.json -> GGUF names that the graph could do without, but this model must have.
    ``derived``: config.json -> further float32 tensors.
    ``tied``: is the output the embeddings' where config.json says nothing of it, whatever tensors there are?
    """

    model_types: tuple[str, ...]
    tensors: Mapping[str, str | Rule[C]]
    metadata: Callable[[Record], dict[str, Value]]
    prefixes: tuple[str, ...] = ("model.",)
    ignored: tuple[str, ...] = ()
    required: Callable[[Record], Sequence[str]] = field(default=lambda config: ())
    derived: Callable[[Record], dict[str, Array]] = field(default=lambda config: {})
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Architecture(Generic[C]):
    """A model definition.

    ``name``: as ``general.architecture`` has it. ``read``: GGUF metadata (a Record that puts ``<name>.`` before
    keys) -> hyper-parameters. ``build``: graph and hyper-parameters -> logits (W, n_vocab).
    ``ignored``: tensors that GGUF files may hold and the graph does without.
    """

    name: str
    read: Callable[[Record], C]
    build: Callable[[Graph, C], Tensor]
    huggingface: HuggingFace[C] | None = None
    ignored: tuple[str, ...] = ()


_registry: dict[str, Architecture[Any]] = {}


def register(architecture: Architecture[C]) -> Architecture[C]:
    """Makes an architecture known; one of the same name is replaced. Returns it."""
    if not architecture.name:
        raise ArgumentError("an architecture needs a name")
    _registry[architecture.name] = architecture
    return architecture


def known() -> list[str]:
    """Names of all registered architectures, sorted."""
    return sorted(_registry)


def lookup(name: str, source: str) -> Architecture[Any]:
    """The architecture of this name. Raises UnsupportedError that lists what is known."""
    if name not in _registry:
        raise UnsupportedError(
            f"{source}: general.architecture: found '{name}', known are {', '.join(known())}"
            " (nanollm.models.register adds one)"
        )
    return _registry[name]


def lookup_model_type(model_type: str, source: str) -> Architecture[Any]:
    """The architecture that reads Hugging Face's ``model_type``. Raises UnsupportedError that lists what is known."""
    by_type = {t: a for a in _registry.values() if a.huggingface is not None for t in a.huggingface.model_types}
    if model_type not in by_type:
        raise UnsupportedError(f"{source}: model_type: found '{model_type}', known are {', '.join(sorted(by_type))}")
    return by_type[model_type]


def halves_to_pairs(rows: Array, n_head: int) -> Array:
    """Reorders a Q or K projection's rows (or its bias) so that components turned together are neighbours.

    Hugging Face keeps (i, i + n/2) together, GGUF's ``llama`` (2i, 2i + 1). rows: (n_head * head_dim, ...).
    """
    import numpy as np

    heads = rows.reshape(n_head, 2, rows.shape[0] // n_head // 2, *rows.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(rows.shape)

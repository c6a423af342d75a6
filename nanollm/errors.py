"""The exceptions of the package: one class a status code of the core.

Every message is one line that names the file, the key or the tensor, what was found and what was expected.
Each class also derives from the built-in exception that a caller would expect, so ``except MemoryError`` or
``except OSError`` work as they do elsewhere.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CancelledError",
    "FileError",
    "FormatError",
    "InternalError",
    "LimitError",
    "MemoryLimitError",
    "NanoError",
    "NotFoundError",
    "ShapeError",
    "UnsupportedError",
    "error_from_status",
]


class NanoError(Exception):
    """Base of everything nanollm raises on purpose."""


class ArgumentError(NanoError, ValueError):
    """The caller's mistake: a value out of its documented range."""


class FileError(NanoError, OSError):
    """The operating system refused to open, read, write or map a file."""


class FormatError(NanoError, ValueError):
    """Damaged or malicious data: a file, a program, a tokenizer, a chat template."""


class UnsupportedError(NanoError, NotImplementedError):
    """Well-formed, but a type, version or feature that this build lacks."""


class NotFoundError(NanoError, LookupError):
    """A key or a tensor that must be there is not."""


class ShapeError(NanoError, ValueError):
    """Tensors that do not go together."""


class MemoryLimitError(NanoError, MemoryError):
    """The model does not fit into the memory that this process may use."""


class LimitError(NanoError, RuntimeError):
    """A planned limit is reached: the context is full, or a step has too many tokens."""


class CancelledError(NanoError, RuntimeError):
    """The evaluation was cancelled from another thread."""


class InternalError(NanoError, RuntimeError):
    """A broken invariant inside the core: please report it."""


# In the order of enum nano_status in ggml_core.h, from 1 on.
_BY_STATUS: tuple[type[NanoError], ...] = (
    ArgumentError,
    FileError,
    FormatError,
    UnsupportedError,
    NotFoundError,
    ShapeError,
    MemoryLimitError,
    LimitError,
    CancelledError,
    InternalError,
)


def error_from_status(status: int, message: str) -> NanoError:
    """The exception for a status code (1 … 10) of the core; an unknown one is an InternalError."""
    known = 1 <= status <= len(_BY_STATUS)
    return (_BY_STATUS[status - 1] if known else InternalError)(message)

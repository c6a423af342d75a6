"""Model definitions: one file an architecture, found by ``general.architecture``.

A definition of one's own is a Python file that calls ``register``; importing it is all it takes:

    from nanollm.models import Architecture, register

    register(Architecture("mymodel", read=read, build=build))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nanollm import _core
from nanollm.errors import FormatError, UnsupportedError
from nanollm.graph import Graph

from .base import (
    Architecture,
    Array,
    HuggingFace,
    Record,
    Rule,
    Value,
    halves_to_pairs,
    known,
    lookup,
    lookup_model_type,
    register,
)

# Importing a definition registers it.
from . import gpt2, llama, qwen2, qwen3  # noqa: F401  isort: skip

__all__ = [
    "PROGRAM_KEY",
    "Architecture",
    "Array",
    "Graph",
    "HuggingFace",
    "Record",
    "Rule",
    "Value",
    "build",
    "build_program",
    "halves_to_pairs",
    "known",
    "lookup",
    "lookup_model_type",
    "pattern",
    "register",
]

PROGRAM_KEY = "nanollm.program"
"""Metadata key of the program that travels in a file: an array of uint8."""


def pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Matches any of ``names``, in which ``{i}`` stands for a number."""
    return re.compile("|".join(re.escape(n).replace(r"\{i\}", r"\d+") for n in names) or r"(?!)")


def build_program(gguf: _core.Gguf) -> bytes:
    """The program for a file: its architecture's definition over the tensors that the file has.

    A file of an architecture that is not registered must carry its own program. Raises UnsupportedError for an
    architecture that neither knows, and for tensors that the definition has no use for (the result would be
    wrong without them); NotFoundError, FormatError or ShapeError for files that do not go with the definition.
    """
    file = Record(gguf.get, gguf.path)
    name = file.text("general.architecture")
    if name not in known() and PROGRAM_KEY in gguf:
        program = gguf[PROGRAM_KEY]
        try:
            return bytes(bytearray(program))
        except (TypeError, ValueError):
            raise FormatError(f"{gguf.path}: {PROGRAM_KEY}: expected an array of uint8") from None
    architecture = lookup(name, gguf.path)
    return build(architecture, file, {t.name: t.shape for t in gguf.tensors})


def build(
    architecture: Architecture[Any],
    file: Record,
    shapes: Mapping[str, Sequence[int]],
    origin: Callable[[str], str | None] | None = None,
) -> bytes:
    """The program of ``architecture`` for metadata and tensors that need not be in a file yet."""
    graph = Graph(shapes, source=file.source, origin=origin)
    c = architecture.read(file.section(f"{architecture.name}."))
    program = graph.save(architecture.build(graph, c))
    ignored = pattern(architecture.ignored)
    left = [n for n in graph.unused() if not ignored.fullmatch(n)]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        there = origin(left[0]) if origin else None
        where = f" (there: '{there}')" if there else ""
        raise UnsupportedError(
            f"{file.source}: tensor '{left[0]}'{where}{more}: the definition of '{architecture.name}' has no use for it"
        )
    return program

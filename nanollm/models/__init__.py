"""Model definitions: one file an architecture, found by ``general.architecture``.

A definition of one's own is a Python file that calls ``register``; importing it is all it takes:

    from nanollm.models import Architecture, register

    register(Architecture("mymodel", read=read, build=build))
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanollm import _core
from nanollm.errors import ArgumentError, FileError, FormatError, NanoError, NotFoundError, UnsupportedError
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
    "checked_bytes",
    "halves_to_pairs",
    "known",
    "load_definition",
    "lookup",
    "lookup_model_type",
    "pattern",
    "register",
    "sidecar_path",
]

PROGRAM_KEY = "nanollm.program"
"""Metadata key of the program that travels in a file: an array of uint8."""


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Where the program of a file is that has none inside: a GGUF file without tensors."""
    return Path(f"{os.fspath(path)}.nanollm")


def load_definition(path: str | os.PathLike[str]) -> list[str]:
    """Runs a Python file that registers architectures; their names.

    Raises FileError where there is no such file, ArgumentError when it fails or registers nothing.
    """
    file = Path(path)
    if not file.is_file():
        raise FileError(f"{file}: no such file")
    before = {name: lookup(name, "") for name in known()}
    name = f"nanollm_definition_{len(sys.modules)}_{re.sub(r'[^0-9A-Za-z_]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"{file}: no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file may do anything
        del sys.modules[name]
        raise ArgumentError(f"{file}: {type(error).__name__}: {error}") from error
    new = [name for name in known() if before.get(name) is not lookup(name, "")]
    if not new:
        raise ArgumentError(f"{file}: registers no architecture (nanollm.models.register)")
    return new


def pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Matches any of ``names``, in which ``{i}`` stands for a number."""
    return re.compile("|".join(re.escape(n).replace(r"\{i\}", r"\d+") for n in names) or r"(?!)")


def build_program(gguf: _core.Gguf) -> bytes:
    """The program for a file: its architecture's definition over the tensors that the file has.

    A file of an architecture that is not registered must carry its own program, or have it in a sidecar. Raises
    UnsupportedError for an architecture that none of them knows, and for tensors that the definition has no use for
    (the result would be wrong without them); NotFoundError, FormatError or ShapeError for files that do not go with
    the definition.
    """
    file = Record(gguf.get, gguf.path)
    if gguf.get("general.type") == "adapter":
        raise UnsupportedError(
            f"{gguf.path}: general.type: found 'adapter', expected a model: an adapter is applied to one (--lora)"
        )
    name = file.text("general.architecture")
    if name not in known():
        program = _carried_program(gguf)
        if program is not None:
            return program
    architecture = lookup(name, gguf.path)
    return build(architecture, file, {t.name: t.shape for t in gguf.tensors})


def _carried_program(gguf: _core.Gguf) -> bytes | None:
    """The program that a file has inside, or beside it; None where there is none."""
    if PROGRAM_KEY in gguf:
        return _checked_program(gguf)
    sidecar = sidecar_path(gguf.path)
    if not sidecar.is_file():
        return None
    with _core.Gguf.open(sidecar) as beside:
        if PROGRAM_KEY not in beside:
            raise NotFoundError(f"{sidecar}: {PROGRAM_KEY}: not found")
        return _checked_program(beside)


def _checked_program(gguf: _core.Gguf) -> bytes:
    program = checked_bytes(gguf, PROGRAM_KEY)
    try:
        _core.Graph.load(program)
    except NanoError as error:
        raise type(error)(f"{gguf.path}: {PROGRAM_KEY}: {error}") from None
    return program


def checked_bytes(gguf: _core.Gguf, key: str) -> bytes:
    """An array of uint8 as bytes. Raises FormatError for anything else."""
    kind, is_array = gguf.kind(key)
    if (kind, is_array) != ("uint8", True):
        raise FormatError(f"{gguf.path}: {key}: found {kind}, expected an array of uint8")
    return bytes(gguf[key])


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

"""LoRA adapters of PEFT: adapter_config.json and adapter_model.safetensors (Hu et al., 2021, arXiv:2106.09685).

A weight W (n_out, n_in) becomes W + scale * B A, with A (r, n_in) and B (n_out, r). In GGUF the scale is
``adapter.lora.alpha`` / r, and A and B are ``<name of the weight>.lora_a`` and ``.lora_b``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanollm import _core
from nanollm.convert import gguf, hub, huggingface, safetensors
from nanollm.convert.source import Source, SourceTensor, read_record
from nanollm.errors import FileError, FormatError, NotFoundError, ShapeError, UnsupportedError
from nanollm.models import Architecture, Array, Record, Rule, Value, lookup

__all__ = ["read", "recognises"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
# Ways to begin the training that leave the base model's own weights as they are.
_INITS = (True, False, "gaussian", "eva", "loftq", "orthogonal")


@dataclass(frozen=True, slots=True)
class Base:
    """The model that the adapter is for. ``shapes`` is empty where its weights are not there."""

    architecture: Architecture[Any]
    hyperparameters: object
    shapes: dict[str, tuple[int, ...]]
    is_tied: bool


def recognises(path: Path) -> bool:
    """Is it a folder with an adapter_config.json?"""
    return (path / _CONFIG).is_file()


def read(folder: Path, base: Path | None = None) -> Source:
    """``base``: a Hugging Face folder, its name on the hub, or a GGUF file; by default what the adapter names."""
    config = read_record(folder / _CONFIG)
    _refuse_variants(config)
    base_name = config.text("base_model_name_or_path", default="")
    model = _base(folder, base, base_name)
    entries = _pairs(folder)
    rank, alpha = config.integer("r", 1, 1 << 16), config.number("lora_alpha", 0.0)
    per_root = config.flag("use_rslora", default=False)
    if alpha == 0:
        raise FormatError(f"{config.where('lora_alpha')}: found 0: the adapter would do nothing")
    # GGUF has one alpha, and a scale of alpha / r: what differs from that goes into B.
    common = alpha * math.sqrt(rank) if per_root else alpha
    rename = huggingface.renamer(_huggingface(model.architecture))
    tensors: list[SourceTensor] = []
    notes: list[str] = []
    for module, (a, b) in entries.items():
        name, rule = rename(f"{module}.weight")
        if rule is None:
            raise UnsupportedError(
                f"{a.path}: tensor '{a.name}' is left over: '{model.architecture.name}' has no place for it"
            )
        if name == "token_embd.weight" or (name == "output.weight" and model.is_tied):
            raise UnsupportedError(f"{a.path}: tensor '{a.name}': adapters of the embeddings are not supported")
        if model.shapes and name not in model.shapes:
            raise NotFoundError(f"{a.path}: tensor '{a.name}': the base model has no weight '{module}.weight'")
        r = _rank(a, b, model.shapes.get(name))
        if r != rank and not config.get("rank_pattern"):
            raise ShapeError(f"{a.path}: tensor '{a.name}': found rank {r}, {_CONFIG} says {rank}")
        wanted = _alpha(config, module, alpha) / (math.sqrt(r) if per_root else r)
        factor = wanted / (common / r)
        if math.isclose(factor, 1.0, rel_tol=1e-6):
            factor = 1.0
        else:
            notes.append(f"tensor '{b.name}' is multiplied by {factor:.6g}: its scale is not the others'")
        tensors += _tensors(name, rule, model.hyperparameters, a, b, factor)
    metadata: dict[str, Value] = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": common}
    if base_name:
        metadata |= {"general.base_model.count": 1, "general.base_model.0.name": base_name}
    return Source(
        path=folder,
        architecture=model.architecture,
        metadata=metadata,
        tensors=tensors,
        name=folder.resolve().name,
        notes=notes,
        is_adapter=True,
    )


def _refuse_variants(config: Record) -> None:
    config.expect("peft_type", "LORA")
    for key in ("use_dora", "lora_bias", "use_qalora", "layer_replication", "modules_to_save", "target_parameters"):
        config.expect(key, False, [])
    config.expect("trainable_token_indices", [], {})
    config.expect("alora_invocation_tokens", [])
    config.expect("bias", "none")
    config.expect("init_lora_weights", *_INITS)


def _huggingface(architecture: Architecture[Any]) -> Any:
    if architecture.huggingface is None:
        raise UnsupportedError(f"architecture '{architecture.name}' has no names in Hugging Face files")
    return architecture.huggingface


def _base(folder: Path, base: Path | None, named: str) -> Base:
    path = Path(named) if base is None else base
    if gguf.recognises(path):
        with _core.Gguf.open(path) as file:
            values = Record(file.get, str(path))
            architecture = lookup(values.text("general.architecture"), str(path))
            shapes = {t.name: t.shape for t in file.tensors}
            c = architecture.read(values.section(f"{architecture.name}."))
            return Base(architecture, c, shapes, "output.weight" not in shapes)
    if not (named or base):
        raise FileError(f"{folder / _CONFIG}: base_model_name_or_path is missing: name the model with --base")
    if hub.is_name(path):
        try:
            path = hub.fetch(str(path), hub.CONFIG)
        except FileError as e:
            raise FileError(f"{e}: the adapter's base model; --base names it, as a folder or a GGUF file") from None
    if not huggingface.recognises(path):
        raise FileError(
            f"{path}: neither a Hugging Face folder nor a GGUF file, and no name on the hub: the adapter's base model; "
            "--base names it"
        )
    return Base(*huggingface.read_base(path))


def _pairs(folder: Path) -> dict[str, tuple[safetensors.Entry, safetensors.Entry]]:
    """Module in the base model -> its A and B."""
    path = folder / _WEIGHTS
    if not path.exists():
        others = sorted(p.name for p in folder.glob("adapter_model.*"))
        hint = f" (found {others[0]}: PyTorch's pickles are not read; save as safetensors)" if others else ""
        raise FileError(f"{path}: no such file{hint}")
    parts: dict[str, dict[str, safetensors.Entry]] = {}
    for origin, entry in safetensors.read_file(path).items():
        found = _NAME.fullmatch(origin)
        if found is None:
            kind = "an embedding's" if "lora_embedding" in origin else "no LoRA matrix of a linear layer"
            raise UnsupportedError(f"{path}: tensor '{origin}' is left over: {kind}, for which GGUF has no place")
        parts.setdefault(found["module"], {})[found["part"]] = entry
    if not parts:
        raise NotFoundError(f"{path}: found no tensors")
    for module, pair in parts.items():
        for part in "AB":
            if part not in pair:
                raise NotFoundError(f"{path}: tensor 'base_model.model.{module}.lora_{part}.weight' is missing")
            pair[part].check_type()
    return {module: (pair["A"], pair["B"]) for module, pair in parts.items()}


def _rank(a: safetensors.Entry, b: safetensors.Entry, shape: tuple[int, ...] | None) -> int:
    """r, when A (r, n_in) and B (n_out, r) go together, and with the base's weight (n_out, n_in)."""
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or not a.shape[0]:
        raise ShapeError(f"{a.path}: tensor '{a.name}': found {list(a.shape)}, which does not go with {list(b.shape)}")
    if shape is not None and (b.shape[0], a.shape[1]) != shape:
        found = [b.shape[0], a.shape[1]]
        raise ShapeError(f"{a.path}: tensor '{a.name}': for a weight {found}, the base model's is {list(shape)}")
    return a.shape[0]


def _alpha(config: Record, module: str, default: float) -> float:
    """The module's alpha: ``alpha_pattern`` names exceptions by the end of a module's name, or with ^ by all of it."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise FormatError(f"{config.where('alpha_pattern')}: expected an object")
    exceptions = Record(patterns.get, config.where("alpha_pattern"))
    for key in patterns:
        name = key.removeprefix("^").replace(r"\.", ".")
        if not re.fullmatch(r"[\w.]+", name):
            raise UnsupportedError(f"{exceptions.where(key)}: only names are supported, no expressions")
        if module == name or (not key.startswith("^") and module.endswith(f".{name}")):
            return exceptions.number(key)
    return default


def _tensors(
    name: str, rule: Rule[Any], c: object, a: safetensors.Entry, b: safetensors.Entry, factor: float
) -> tuple[SourceTensor, SourceTensor]:
    # A and B are a linear layer's even where the weight itself is kept transposed. What reorders the weight's rows
    # does so with B's.
    load_b = partial(_load_b, b, rule, c, factor)
    type_b = b.type if factor == 1.0 else "F32"
    return (
        SourceTensor(f"{name}.lora_a", a.shape, a.type, a.load, a.name),
        SourceTensor(f"{name}.lora_b", b.shape, type_b, load_b, b.name),
    )


def _load_b(entry: safetensors.Entry, rule: Rule[Any], c: object, factor: float) -> Array:
    array = entry.load()
    if rule.change is not None:
        array = rule.change(array, c)
    if factor == 1.0:
        return array
    values = (array.astype(np.uint32) << 16).view(np.float32) if entry.type == "BF16" else array
    return values.astype(np.float32) * np.float32(factor)

"""LoRA adapters of PEFT, in and out: adapter_config.json and adapter_model.safetensors (Hu et al., 2021,
arXiv:2106.09685).

A weight W (n_out, n_in) becomes W + scale * B A, with A (r, n_in) and B (n_out, r). In GGUF the scale is
``adapter.lora.alpha`` / r, and A and B are ``<name of the weight>.lora_a`` and ``.lora_b``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanollm import _core, lora
from nanollm.convert import gguf, hub, huggingface, safetensors
from nanollm.convert.source import Source, SourceTensor, read_record, write_atomically
from nanollm.errors import FileError, FormatError, NotFoundError, ShapeError, UnsupportedError
from nanollm.models import Architecture, Array, Record, Rule, Value, lookup

__all__ = ["read", "recognises", "write"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Of a linear layer or, without a ".weight", of a table of embeddings: A (r, n_rows), B (n, r).
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?:(?P<part>[AB])\.weight|embedding_(?P<table>[AB]))")
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
        is_embedding = ".lora_embedding_" in a.name
        if is_embedding != (name == "token_embd.weight") or (name == "output.weight" and model.is_tied):
            raise UnsupportedError(f"{a.path}: tensor '{a.name}': this is not how the weight is used")
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
        tensors += _tensors(name, None if is_embedding else rule, model.hyperparameters, a, b, factor)
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
            raise UnsupportedError(f"{path}: tensor '{origin}' is left over: no LoRA matrix, GGUF has no place for it")
        part = found["part"] or found["table"]
        pair = parts.setdefault(found["module"], {})
        if part in pair:
            raise UnsupportedError(f"{path}: tensors '{pair[part].name}' and '{origin}' have one place")
        pair[part] = entry
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
    found = [a.shape[1], b.shape[0]] if ".lora_embedding_" in a.name else [b.shape[0], a.shape[1]]
    if shape is not None and tuple(found) != shape:
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
    name: str, rule: Rule[Any] | None, c: object, a: safetensors.Entry, b: safetensors.Entry, factor: float
) -> tuple[SourceTensor, SourceTensor]:
    # No rule: a table's, whose A lies the other way round in GGUF, a row of the table a row.
    if rule is None:
        first = SourceTensor(f"{name}.lora_a", a.shape[::-1], a.type, lambda: a.load().T, a.name)
    else:
        first = SourceTensor(f"{name}.lora_a", a.shape, a.type, a.load, a.name)
    # A and B are a linear layer's even where the weight itself is kept transposed. What reorders the weight's rows
    # does so with B's.
    load_b = partial(_load_b, b, rule, c, factor)
    type_b = b.type if factor == 1.0 else "F32"
    return (
        first,
        SourceTensor(f"{name}.lora_b", b.shape, type_b, load_b, b.name),
    )


def _load_b(entry: safetensors.Entry, rule: Rule[Any] | None, c: object, factor: float) -> Array:
    array = entry.load()
    if rule is not None and rule.change is not None:
        array = rule.change(array, c)
    if factor == 1.0:
        return array
    values = (array.astype(np.uint32) << 16).view(np.float32) if entry.type == "BF16" else array
    return values.astype(np.float32) * np.float32(factor)


# ------------------------------------------------------------------ writing


def write(adapter: lora.Adapter, folder: Path, base: Path) -> list[Path]:
    """Writes an adapter into a folder, made where there is none; returns the two files. ``base``: as read's."""
    model = _base(folder, base, "")
    hf = _huggingface(model.architecture)
    if adapter.architecture != model.architecture.name:
        raise UnsupportedError(
            f"{adapter.path}: general.architecture: found '{adapter.architecture}', expected "
            f"'{model.architecture.name}' as in {base}"
        )
    if model.shapes:
        lora.check_base(adapter, model.shapes, str(base))
    rename = huggingface.renamer(hf)
    tensors: dict[str, Array] = {}
    modules: dict[str, int] = {}  # and their ranks
    is_transposed = False
    for weight, pair in adapter.pairs.items():
        origin = huggingface.original_name(hf, weight)
        name, rule = rename(origin)
        if rule is None or name != weight:
            raise UnsupportedError(f"{adapter.path}: tensor '{weight}': no name for it in Hugging Face files")
        module = origin.removesuffix(".weight")
        modules[module] = pair.rank
        is_transposed |= rule.transposed
        stem = f"base_model.model.{module}.lora_"
        if lora.is_table(weight):
            tensors[f"{stem}embedding_A"] = np.ascontiguousarray(pair.a.T)
            tensors[f"{stem}embedding_B"] = pair.b
        else:
            tensors[f"{stem}A.weight"] = pair.a
            tensors[f"{stem}B.weight"] = _in_their_order(pair.b, rule, model.hyperparameters)
    everywhere = [huggingface.original_name(hf, name).removesuffix(".weight") for name in model.shapes]
    config = _config(adapter, modules, everywhere, str(base), is_transposed)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write_file(folder / _WEIGHTS, tensors, {"format": "pt"})
    write_atomically(folder / _CONFIG, [f"{json.dumps(config, indent=2)}\n".encode()])
    return [folder / _CONFIG, folder / _WEIGHTS]


def _in_their_order(rows: Array, rule: Rule[Any], c: object) -> Array:
    """Undoes what a rule does to the order of rows."""
    if rule.change is None:
        return rows
    numbers = np.arange(rows.shape[0], dtype=np.int64)[:, None]
    out = np.empty_like(rows)
    out[rule.change(numbers, c)[:, 0]] = rows
    return out


def _config(
    adapter: lora.Adapter, modules: dict[str, int], everywhere: list[str], base: str, is_transposed: bool
) -> dict[str, Any]:
    rank = Counter(modules.values()).most_common(1)[0][0]
    named = adapter.metadata.get("general.base_model.0.name")
    # An alpha of 0 stands for each matrix's rank.
    alphas = {} if adapter.alpha else {m: r for m, r in modules.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": named if isinstance(named, str) and "/" in named else base,
        "r": rank,
        "lora_alpha": adapter.alpha or rank,
        "lora_dropout": 0.0,
        "target_modules": _targets(modules, everywhere),
        "rank_pattern": {f"^{m}": r for m, r in modules.items() if r != rank},
        "alpha_pattern": {f"^{m}": r for m, r in alphas.items()},
        "bias": "none",
        "fan_in_fan_out": is_transposed,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _targets(modules: dict[str, int], everywhere: list[str]) -> list[str]:
    """The modules by the last part of their names, where that means no others; else in full."""
    out: dict[str, None] = {}
    for module in modules:
        last = module.rpartition(".")[2]
        is_all = bool(everywhere) and all(m in modules for m in everywhere if m.rpartition(".")[2] == last)
        out[last if is_all else module] = None
    return sorted(out)

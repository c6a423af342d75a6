"""`nanollm info`: what is in a GGUF file, and what it takes to run it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .. import _core
from .._types import TensorInfo
from ..errors import NanoError, NotFoundError
from ..model import MemoryReport, Model, default_model_path, devices
from ..models import PROGRAM_KEY, checked_bytes
from ..pieces import PIECES_PREFIX
from .common import EXIT_OK, ArgumentParser, emit, format_bytes
from .report import aligned, device_lines, file_rows, shortened

_EPILOG = """\
examples:
  nanollm info model.gguf
  nanollm info model.gguf --tensors | grep ffn_down
  nanollm info model.gguf --json | jq .memory
  nanollm info --devices

Files that hold no model are explained, too: vocabularies, LoRA adapters, importance matrices,
log-probabilities.
"""

_SPECIAL = re.compile(r"tokenizer\.ggml\.(\w+)_token_id")
_FLAGS = ("add_bos_token", "add_eos_token", "add_space_prefix")


def main(argv: Sequence[str]) -> int:
    """Prints metadata, types, the tokenizer, the memory that a model needs, and tensors on request."""
    parser = ArgumentParser(
        "nanollm info",
        "Explains a GGUF file: metadata, tensors by type, tokenizer, the memory it takes to run. No weight is read.",
        _EPILOG,
        usage="nanollm info [FILE] [options]",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="GGUF file (default: the model in the package)")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--devices", action="store_true", help="list the devices that can run layers, and no file")
    parser.add_argument("--json", action="store_true", help="print one JSON line, sizes in bytes; tensors included")
    parser.add_argument("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    if args.devices:
        emit(json.dumps([asdict(d) for d in devices()]) + "\n" if args.json else device_lines() + "\n")
        return EXIT_OK
    with _core.Gguf.open(default_model_path() if args.file is None else args.file) as gguf:
        facts = _facts(gguf)
        values = {key: gguf[key] for key in gguf.keys()}  # noqa: SIM118 (a Gguf does not iterate)
        emit(json.dumps(facts) + "\n" if args.json else _text(gguf, facts, values, args.tensors))
    return EXIT_OK


# ------------------------------------------------------------------ what there is to say


def _facts(gguf: _core.Gguf) -> dict[str, Any]:
    tensors = gguf.tensors
    n_parameters = sum(math.prod(t.shape) for t in tensors)
    n_bytes = sum(t.n_bytes for t in tensors)
    kind = _kind(gguf, tensors)
    needs = _needs(gguf) if kind == "model" else []
    return {
        "file": gguf.path,
        "size": gguf.file_size,
        "version": gguf.version,
        "kind": kind,
        "metadata": {key: _short(gguf[key]) for key in gguf.keys()},  # noqa: SIM118 (a Gguf does not iterate)
        "parameters": n_parameters,
        "bits_per_weight": round(8 * n_bytes / n_parameters, 3) if n_parameters else None,
        "types": _types(tensors),
        "tokenizer": _tokenizer(gguf),
        "chat_templates": _chat_templates(gguf),
        "program": _program(gguf),
        "chat_pieces": _chat_pieces(gguf),
        "memory": [] if isinstance(needs, str) else [{**asdict(r), "fits": r.fits} for r in needs],
        "cannot_run": needs if isinstance(needs, str) else None,
        **({"adapter": _adapter(gguf, tensors)} if kind == "adapter" else {}),
        "tensors": [asdict(tensor) for tensor in tensors],
    }


def _kind(gguf: _core.Gguf, tensors: Sequence[TensorInfo]) -> str:
    named = gguf.get("general.type")
    if named in ("adapter", "imatrix", "logprobs", "sidecar"):
        return str(named)
    return "model" if tensors else "vocabulary"


def _types(tensors: Sequence[TensorInfo]) -> dict[str, dict[str, Any]]:
    """By type: how many tensors, elements and bytes, and can they be computed with?"""
    out: dict[str, dict[str, Any]] = {}
    for t in sorted(tensors, key=lambda t: t.type):
        row = out.setdefault(
            t.type, {"tensors": 0, "parameters": 0, "bytes": 0, "supported": _core.type_is_supported(t.type)}
        )
        row["tensors"] += 1
        row["parameters"] += math.prod(t.shape)
        row["bytes"] += t.n_bytes
    return dict(sorted(out.items(), key=lambda item: -int(item[1]["bytes"])))


def _tokenizer(gguf: _core.Gguf) -> dict[str, Any] | None:
    """What the file says of its tokenizer; None where it has none."""
    tokens = gguf.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        return None
    special = {}
    for key in gguf.keys():  # noqa: SIM118 (a Gguf does not iterate)
        found, i = _SPECIAL.fullmatch(key), gguf[key] if _SPECIAL.fullmatch(key) else None
        if found and isinstance(i, int):
            special[found[1]] = {"id": i, "text": tokens[i] if 0 <= i < len(tokens) else None}
    problem = None
    try:
        _core.Tokenizer(gguf)
    except NanoError as error:
        problem = str(error)
    return {
        "model": _short(gguf.get("tokenizer.ggml.model", "")),
        "pre": _short(gguf.get("tokenizer.ggml.pre", "")),
        "n_tokens": len(tokens),
        "n_merges": _length(gguf.get("tokenizer.ggml.merges")),
        "special": special,
        **{flag: gguf[f"tokenizer.ggml.{flag}"] for flag in _FLAGS if f"tokenizer.ggml.{flag}" in gguf},
        "problem": problem,
    }


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _chat_templates(gguf: _core.Gguf) -> dict[str, str]:
    """Templates by name; the one that a chat uses is "default"."""
    key = "tokenizer.chat_template"
    found = {k.removeprefix(f"{key}.") if k != key else "default": gguf[k] for k in gguf.keys() if k.startswith(key)}  # noqa: SIM118
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _program(gguf: _core.Gguf) -> dict[str, Any] | None:
    """The program in the file: its version and bytes, and what is wrong with it; None where there is none."""
    if PROGRAM_KEY not in gguf:
        return None
    out: dict[str, Any] = {"version": None, "bytes": _length(gguf[PROGRAM_KEY]), "problem": None}
    try:
        data = checked_bytes(gguf, PROGRAM_KEY)
        out["version"] = _core.program_version(data)
        _core.Graph.load(data)
    except NanoError as error:
        out["problem"] = str(error)
    return out


def _chat_pieces(gguf: _core.Gguf) -> dict[str, Any] | None:
    """Whether the literal pieces of the file's chat template take a system message; None where it has no pieces."""
    try:
        _core.Chat(gguf)
    except NotFoundError:
        return None
    except NanoError as error:
        return {"system": False, "problem": str(error)}
    return {"system": f"{PIECES_PREFIX}system_open" in gguf, "problem": None}


def _needs(gguf: _core.Gguf) -> list[MemoryReport] | str:
    """What the model needs with the context that it is opened with, and with its own; or why it cannot run."""
    out: list[MemoryReport] = []
    try:
        for n_ctx in (None, 0):
            report = Model.fit(gguf.path, n_ctx=n_ctx, n_outputs=1)
            if not out or out[0].limits.n_ctx != report.limits.n_ctx:
                out.append(report)
    except NanoError as error:
        if not out:
            return str(error)
    return out


def _adapter(gguf: _core.Gguf, tensors: Sequence[TensorInfo]) -> dict[str, Any]:
    second = [t for t in tensors if t.name.endswith(".lora_b")]
    return {
        "type": _short(gguf.get("adapter.type", "")),
        "alpha": _short(gguf.get("adapter.lora.alpha", "")),
        "ranks": sorted({t.shape[-1] for t in second}),
        "weights": len(second),
        "targets": sorted({re.sub(r"^blk\.\d+\.|\.weight\.lora_b$", "", t.name) for t in second}),
    }


# ------------------------------------------------------------------ as text


def _text(gguf: _core.Gguf, facts: Mapping[str, Any], values: Mapping[str, Any], with_tensors: bool) -> str:
    rows = [("file", f"{gguf.path}, {format_bytes(gguf.file_size)}, GGUF version {gguf.version}")]
    rows += [("kind", _KINDS[facts["kind"]])]
    rows += file_rows(values, gguf.tensors, None)
    if facts["bits_per_weight"] is not None:
        rows.append(("bits/weight", f"{facts['bits_per_weight']:.2f}"))
    if "adapter" in facts:
        a = facts["adapter"]
        ranks = ", ".join(map(str, a["ranks"]))
        rows.append(("adapter", shortened(f"{a['type']} for {a['weights']} weights, rank {ranks}, alpha {a['alpha']}")))
        rows.append(("targets", shortened(", ".join(a["targets"]))))
    rows += _export_rows(facts)
    lines = [aligned(rows), *_type_lines(facts["types"]), *_tokenizer_lines(facts["tokenizer"])]
    for name, text in facts["chat_templates"].items():
        lines += ["", f"chat template '{shortened(name)}' ({len(text)} characters)", f"  {shortened(text)}"]
    lines += _memory_lines(facts)
    lines += ["", f"metadata ({len(facts['metadata'])} keys)"]
    lines += [aligned([(key, str(value)) for key, value in facts["metadata"].items()], 44)]
    if with_tensors:
        lines += ["", f"tensors ({len(gguf.tensors)})", *map(_tensor_line, gguf.tensors)]
    return "\n".join(lines) + "\n"


_KINDS = {
    "model": "model",
    "adapter": "adapter: changes another model's weights",
    "imatrix": "importance matrix: what quantising a model should spare",
    "logprobs": "log-probabilities of a text: what a model's divergence is measured from",
    "sidecar": "program and chat pieces for the model that it lies beside",
    "vocabulary": "vocabulary: a tokenizer, and no weights",
}


def _export_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is inside for programs without Python."""
    if facts["kind"] not in ("model", "sidecar"):
        return []
    program, pieces = facts["program"], facts["chat_pieces"]
    rows = []
    if program is None:
        rows.append(("program", "none inside (nanollm export adds it)"))
    else:
        text = f"version {program['version']}, {format_bytes(program['bytes'])}"
        rows.append(("program", shortened(program["problem"] or text)))
    if pieces is None:
        rows.append(("chat pieces", "none inside"))
    else:
        rows.append(("chat pieces", shortened(pieces["problem"] or f"inside, {_SYSTEM[pieces['system']]}")))
    return rows


_SYSTEM = {True: "system messages too", False: "without system messages"}


def _type_lines(types: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not types:
        return []
    lines = ["", f"{'type':<10}{'tensors':>8}{'parameters':>16}{'bits/weight':>13}{'size':>14}"]
    for name, row in types.items():
        bits = 8 * row["bytes"] / row["parameters"] if row["parameters"] else 0.0
        line = f"{name:<10}{row['tensors']:>8}{row['parameters']:>16,}{bits:>13.2f}{format_bytes(row['bytes']):>14}"
        lines.append(line if row["supported"] else f"{line}  cannot be computed with")
    return lines


def _tokenizer_lines(tokenizer: Mapping[str, Any] | None) -> list[str]:
    if tokenizer is None:
        return []
    t = tokenizer
    merges = f", {t['n_merges']:,} merges" if t["n_merges"] else ""
    pre = f", pre-tokenizer {t['pre']}" if t["pre"] else ""
    rows = [("model", f"{t['model']}{pre}")]
    rows += [("tokens", f"{t['n_tokens']:,}{merges}")]
    rows += [(role, f"{s['id']} {shortened(repr(s['text']))}") for role, s in t["special"].items()]
    rows += [(flag, str(t[flag]).lower()) for flag in _FLAGS if flag in t]
    if t["problem"]:
        rows.append(("problem", t["problem"]))
    return ["", "tokenizer", aligned([(f"  {shortened(name)}", value) for name, value in rows], 20)]


def _memory_lines(facts: Mapping[str, Any]) -> list[str]:
    if facts["cannot_run"]:
        return ["", f"cannot run: {shortened(facts['cannot_run'])}"]
    lines = []
    for row in facts["memory"]:
        parts = {"weights": row["weights"], "KV cache": row["cache"], "rest": row["allocated"] - row["cache"]}
        sizes = ", ".join(f"{name} {format_bytes(n)}" for name, n in parts.items())
        verdict = "fits" if row["fits"] else "does not fit"
        lines.append(f"  context {row['limits']['n_ctx']:<8}{format_bytes(row['total'])} ({sizes}): {verdict}")
    if not lines:
        return []
    first = facts["memory"][0]
    steps = f"steps of at most {first['limits']['n_batch']} tokens, {format_bytes(first['available'])} are available"
    return ["", f"to run it ({steps})", *lines]


def _tensor_line(tensor: TensorInfo) -> str:
    shape = " x ".join(map(str, tensor.shape))
    return f"{tensor.name:<36} {tensor.type:<6} {shape:>18} {format_bytes(tensor.n_bytes):>12}"


def _short(value: Any) -> Any:
    """A value for people, and for JSON: arrays by their length and start, long texts by their start."""
    if isinstance(value, str):
        return shortened(value)
    if hasattr(value, "__len__"):
        start = ", ".join(repr(item) if isinstance(item, str) else str(item) for item in value[:4])
        return shortened(f"[{start}{', …' if len(value) > 4 else ''}] ({len(value)} items)")
    return value if math.isfinite(value) else str(value)

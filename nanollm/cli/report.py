"""What the commands print about a model: a short table of its file, its sampler's chain, its timings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import _core
from ..errors import NanoError
from .common import format_bytes

if TYPE_CHECKING:
    from .._types import SamplerParams, TensorInfo
    from ..generation import Generation, Timings
    from ..model import MemoryReport

_MAX_SHOWN = 200  # characters of a value

# Name printed: key in the metadata, after the architecture's name.
_HYPERPARAMETERS = {
    "n_ctx_train": "context_length",
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
    "n_head_kv": "attention.head_count_kv",
    "n_ff": "feed_forward_length",
}


def file_rows(metadata: Mapping[str, Any], tensors: Iterable[TensorInfo], n_vocab: int | None) -> list[tuple[str, str]]:
    """(name, value) rows: what a file is, in a glance."""
    architecture = metadata.get("general.architecture", "unknown")
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    n_parameters = 0
    for tensor in tensors:
        count[tensor.type] += 1
        size[tensor.type] += tensor.n_bytes
        n_parameters += math.prod(tensor.shape)
    types = ", ".join(f"{count[name]} {name}" for name, _ in size.most_common())
    rows = [("name", metadata.get("general.name")), ("description", metadata.get("general.description"))]
    rows += [("architecture", architecture)]
    if count:
        held = f"{sum(count.values())} ({types}), {format_bytes(sum(size.values()))}"
        rows += [("parameters", f"{n_parameters:,}"), ("tensors", held)]
    rows += [("n_vocab", n_vocab)]
    rows += [(name, metadata.get(f"{architecture}.{key}")) for name, key in _HYPERPARAMETERS.items()]
    return [(name, shortened(value)) for name, value in rows if value is not None]


def shortened(value: object) -> str:
    """A value in one line of bounded length."""
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def aligned(rows: Sequence[tuple[str, str]], width: int = 14) -> str:
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)


def sampler_lines(params: SamplerParams) -> str:
    """The seed, the parameters and the chain as it will run."""
    p = params
    seen = f"repeat_penalty {p.repeat_penalty:g}, presence {p.presence_penalty:g}, frequency {p.frequency_penalty:g}"
    lines = [
        ("seed", str(p.seed)),
        ("sampler", f"temperature {p.temperature:g}, top_k {p.top_k}, top_p {p.top_p:g}, min_p {p.min_p:g}, "
                    f"typical_p {p.typical_p:g}"),
        ("", f"{seen} over the last {'whole context' if p.penalty_last_n < 0 else p.penalty_last_n}"),
        ("chain", " -> ".join(_chain(p))),
    ]  # fmt: skip
    if p.mirostat:
        lines.insert(3, ("", f"mirostat {p.mirostat}, eta {p.mirostat_eta:g}, tau {p.mirostat_tau:g}"))
    return aligned(lines)


def _chain(p: SamplerParams) -> list[str]:
    penalises = p.penalty_last_n != 0 and (p.repeat_penalty, p.presence_penalty, p.frequency_penalty) != (1, 0, 0)
    steps = [(bool(p.logit_bias), "logit bias"), (penalises, "penalties")]
    if p.temperature <= 0:
        steps.append((True, "greedy"))
    elif p.mirostat:
        steps += [(True, "temperature"), (True, f"mirostat {p.mirostat}"), (True, "draw")]
    else:
        steps += [(p.top_k > 0, "top-k"), (p.typical_p < 1, "typical"), (p.top_p < 1, "top-p"), (p.min_p > 0, "min-p")]
        steps += [(True, "temperature"), (True, "draw")]
    return [name for is_on, name in steps if is_on]


def device_lines() -> str:
    """The devices that can run layers, a line each; or why there is none."""
    lines = []
    for i in range(_core.device_count()):
        try:
            d = _core.device(i)
        except NanoError as error:
            lines.append(f"{i}: {error}")
            continue
        free = f"device code {d.image}, {format_bytes(d.memory_available)} free of {format_bytes(d.memory_total)}"
        free += ", shared with the processor" if d.shares_memory else ""
        major, minor = divmod(d.compute_capability, 10)
        code = free if d.image else "no device code for it in this build"
        lines.append(f"{i}: {d.name}, compute capability {major}.{minor}, {code}")
    if not lines:
        try:
            _core.device(0)
        except NanoError as error:
            lines.append(f"no device: {error}")
    return "\n".join(lines)


def timing_block(timings: Timings) -> str:
    """The block at the end of a run, peak memory included."""
    return f"{timings.table()}\n{'peak memory':>12}      = {_core.memory_peak() / (1 << 20):11.2f} MiB"


def memory_dict(memory: MemoryReport) -> dict[str, Any]:
    """For JSON: bytes by kind, the limits planned for, the peak so far."""
    return {**asdict(memory), "peak": _core.memory_peak()}


def result_dict(path: str, generation: Generation, text: str, timings: Timings, memory: MemoryReport) -> dict[str, Any]:
    """For JSON: what a run did."""
    return {
        "model": path,
        "text": text,
        "n_prompt": len(generation.prompt_ids),
        "n_generated": len(generation.ids),
        "finish_reason": generation.finish_reason,
        "seed": generation.sampler_params.seed,
        "timings": asdict(timings),
        "memory": memory_dict(memory),
        "cpu": _core.cpu_level(),
        "version": _core.version(),
    }

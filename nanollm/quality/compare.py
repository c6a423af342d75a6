"""Several files of one model side by side: size, quality, speed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, CancelledError
from ..model import Model
from .divergence import Divergence, Tally
from .logprobs import vocabulary_hash
from .perplexity import Progress, check_vocabulary, rows_per_step, so_far, steps, targets
from .reduce import Softmax, blocks
from .windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Comparison", "compare"]

_Step = tuple[int, int, "NDArray[np.float32]"]

_N_DECODED = 32  # tokens, for the speed of decoding


@dataclass(frozen=True, slots=True)
class Comparison:
    """One file of several."""

    path: str
    file_size: int
    """Bytes."""
    bits_per_weight: float
    """Bits of all tensors over the number of their elements."""
    quality: Divergence
    """Against the first file; the first itself is at 0."""
    prompt_speed: float
    """Tokens a second in the steps that make up the text's windows."""
    decode_speed: float
    """Tokens a second in steps of one; NaN where the context has no room for any."""


def compare(
    paths: Sequence[str | os.PathLike[str]],
    text: str,
    *,
    n_ctx: int = 512,
    n_windows: int | None = None,
    progress: Progress | None = None,
    on_open: Callable[[Model], None] | None = None,
    **options: Any,
) -> list[Comparison]:
    """Scores all files on `text`, a window at a time and in step, so that the first file's logits need no place.

    `options` are others of `Model`; `on_open` is told of each. All files must have one vocabulary.
    """
    if not paths:
        raise ArgumentError("no file to compare")
    with ExitStack() as stack:
        models = []
        for path in paths:
            n_outputs = rows_per_step(path, n_ctx)
            models.append(stack.enter_context(Model(path, n_ctx=n_ctx, n_outputs=n_outputs, **options)))
            if on_open is not None:
                on_open(models[-1])
        _check_same_vocabulary(models)
        windows = Windows.of(models[0], text, n_ctx, n_windows=n_windows)
        scored = targets(windows)
        check_vocabulary(models[0], scored)
        tallies = [Tally(windows.n_rows) for _ in models]
        seconds = [0.0] * len(models)
        n_tokens = windows.n_windows * (windows.n_ctx - 1)
        for i in range(windows.n_windows):
            timed = [_timed(steps(model, windows, i), seconds, k) for k, model in enumerate(models)]
            for (n_done, at, base), *others in zip(*timed, strict=True):
                for part in blocks(*base.shape):
                    here = slice(at + part.start, at + part.stop)
                    _add(tallies, here, scored[here], [base[part], *(rows[part] for _, _, rows in others)])
                if progress is not None:
                    progress(n_done, n_tokens, so_far(tallies[0].total, at + len(base)))
        decode = [_decode_speed(model, windows.ids(0)) for model in models]
        return [
            Comparison(
                path=model.path,
                file_size=Path(model.path).stat().st_size,
                bits_per_weight=_bits_per_weight(model),
                quality=tally.result(windows.n_windows, n_tokens, elapsed),
                prompt_speed=n_tokens / elapsed,
                decode_speed=speed,
            )
            for model, tally, elapsed, speed in zip(models, tallies, seconds, decode, strict=True)
        ]


def _add(tallies: list[Tally], at: slice, ids: NDArray[np.int32], rows: list[NDArray[np.float32]]) -> None:
    base = Softmax(rows[0])
    tallies[0].add(at, ids, base, base)
    for tally, own in zip(tallies[1:], rows[1:], strict=True):
        tally.add(at, ids, base, Softmax(own))


def _timed(items: Iterator[_Step], seconds: list[float], k: int) -> Iterator[_Step]:
    """The items, the time that making them takes added to seconds[k]."""
    while True:
        start = time.perf_counter()
        item = next(items, None)
        seconds[k] += time.perf_counter() - start
        if item is None:
            return
        yield item


def _decode_speed(model: Model, ids: Sequence[int]) -> float:
    """Tokens a second one by one, after some of a text: from the median step, since others may be disturbed. NaN where
    the context leaves no room."""
    n = min(_N_DECODED, len(ids) // 2)
    ends: list[float] = []

    def note(ids: Sequence[int], logits: NDArray[np.float32]) -> None:
        ends.append(generation.timings.eval_ms)

    generation = model.generate(ids[:n], max_tokens=n + 1, temperature=0, ignore_eos=True, logits_processor=note)
    for _ in generation:
        pass
    if generation.finish_reason == "cancelled":
        raise CancelledError(f"{model.path}: cancelled")
    return 1000 / float(np.median(np.diff(ends))) if len(ends) > 1 else math.nan


def _bits_per_weight(model: Model) -> float:
    n = sum(math.prod(tensor.shape) for tensor in model.tensors)
    return 8 * sum(tensor.n_bytes for tensor in model.tensors) / n


def _check_same_vocabulary(models: Sequence[Model]) -> None:
    first = models[0]
    expected = vocabulary_hash(first)
    for model in models[1:]:
        if model.n_vocab != first.n_vocab or vocabulary_hash(model) != expected:
            raise ArgumentError(f"{model.path}: another vocabulary than that of {first.path}")

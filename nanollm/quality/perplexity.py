"""Perplexity: e to the mean of -log p over the scored tokens of a text."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError
from ..model import Model
from .reduce import Estimate, Softmax, blocks, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .logprobs import LogprobsWriter
    from .windows import Windows

__all__ = ["Perplexity", "Progress", "perplexity", "rows_per_step"]

_LOGITS_BYTES = 16 << 20

Progress = Callable[[int, int, float], None]
"""Called after each step with the tokens evaluated, how many there are, and the estimate so far (NaN: none yet)."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """What a model's predictions of a text are worth. Errors hold as if its tokens were independent."""

    perplexity: Estimate
    nll: Estimate
    """Mean of -log p, in nats a token."""
    n_scored: int
    """Tokens scored."""
    n_windows: int
    n_evaluated: int
    """Tokens evaluated."""
    seconds: float
    """Time of the evaluation, reductions included."""

    @property
    def tokens_per_second(self) -> float:
        return self.n_evaluated / self.seconds


def rows_per_step(path: str | os.PathLike[str], n_ctx: int) -> int:
    """The `n_outputs` to open a model with for scoring: logits of at most 16 MiB, since short steps are slow ones."""
    return max(1, _LOGITS_BYTES // Model.fit(path, n_ctx=n_ctx, n_outputs=1).outputs)


def exponential(estimate: Estimate) -> Estimate:
    """e to an estimate, its error to first order."""
    try:
        value = math.exp(estimate.value)
    except OverflowError:
        value = math.inf
    return Estimate(value, value * estimate.error)


def so_far(total: float, n: int) -> float:
    """The perplexity that `n` tokens with `total` nats have; NaN for none."""
    return exponential(Estimate(total / n, 0)).value if n else math.nan


def steps(model: Model, windows: Windows, i: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Evaluates window `i`. Gives after each step how many of all windows' tokens are evaluated, which of all scored
    tokens the first row is for, and the rows. The window's last token is not read: it predicts nothing that is scored.
    """
    for end, rows in model.logit_rows(windows.ids(i)[:-1], windows.first_row):
        yield i * (windows.n_ctx - 1) + end, i * windows.n_scored + max(0, end - len(rows) - windows.first_row), rows


def targets(windows: Windows) -> NDArray[np.int32]:
    """The scored tokens of all windows in turn, i32 (n_rows)."""
    starts = np.arange(windows.n_windows) * windows.step + windows.first_row + 1
    ids: NDArray[np.int32] = windows.tokens[(starts[:, None] + np.arange(windows.n_scored)).ravel()]
    return ids


def check_vocabulary(model: Model, ids: NDArray[np.int32]) -> None:
    """Raises FormatError where a token has no logit."""
    if ids.min() < 0 or ids.max() >= model.n_vocab:
        raise FormatError(f"{model.path}: token {ids.max()} of the text: the model has logits for {model.n_vocab}")


def perplexity(
    model: Model, windows: Windows, *, progress: Progress | None = None, writer: LogprobsWriter | None = None
) -> Perplexity:
    """Scores `model` on `windows`, each at most its context long. `writer` gets the log-probabilities."""
    scored = targets(windows)
    check_vocabulary(model, scored)
    nll = np.empty(windows.n_rows, dtype=np.float64)
    n_tokens, total = windows.n_windows * (windows.n_ctx - 1), 0.0
    start = time.perf_counter()
    for i in range(windows.n_windows):
        for n_done, at, rows in steps(model, windows, i):
            for part in blocks(*rows.shape):
                softmax = Softmax(rows[part])
                here = slice(at + part.start, at + part.stop)
                nll[here] = softmax.nll(scored[here])
                total += float(nll[here].sum())
                if writer is not None:
                    writer.write(softmax, nll[here])
            if progress is not None:
                progress(n_done, n_tokens, so_far(total, at + len(rows)))
    seconds = time.perf_counter() - start
    nats = mean(nll)
    return Perplexity(exponential(nats), nats, windows.n_rows, windows.n_windows, n_tokens, seconds)

"""How far a model's predictions are from another's, token by token."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError
from .perplexity import Perplexity, Progress, exponential, so_far, steps, targets
from .reduce import Estimate, Softmax, blocks, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Model
    from .logprobs import Logprobs

__all__ = ["Divergence", "Tally", "divergence"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class Divergence:
    """How a model differs from a base, over the scored tokens of a text. Divergences are in nats a token."""

    perplexity: Perplexity
    """The model's own."""
    base_perplexity: Estimate
    ratio: Estimate
    """Perplexity over the base's; the error knows that both read the same tokens."""
    kl: Estimate
    """Mean divergence of the model from the base."""
    kl_quantiles: Mapping[float, float]
    """Divergence of the token at each of QUANTILES; 1 is the largest."""
    same_top: Estimate
    """Share of the tokens where both think the same one most probable."""
    rms_delta_p: Estimate
    """Root of the mean square of the change in the probability of the text's own token."""


class Tally:
    """What is known of each of `n` scored tokens, filled in as rows come."""

    def __init__(self, n: int) -> None:
        self.nll = np.empty(n, dtype=np.float64)
        self.base_nll = np.empty(n, dtype=np.float64)
        self.kl = np.empty(n, dtype=np.float64)
        self.is_same_top = np.empty(n, dtype=np.bool_)
        self.total = 0.0

    def add(self, at: slice, ids: NDArray[np.int32], base: Softmax, other: Softmax) -> None:
        """Takes in rows of the base and of the model for the scored tokens `at`, which are `ids`."""
        self.nll[at] = other.nll(ids)
        self.base_nll[at] = base.nll(ids)
        self.kl[at] = base.kl(other)
        self.is_same_top[at] = base.top == other.top
        self.total += float(self.nll[at].sum())

    def result(self, n_windows: int, n_evaluated: int, seconds: float) -> Divergence:
        """The estimates, once every token is in."""
        if not np.isfinite(self.kl).all():
            raise FormatError("the models give logits that cannot be compared: infinite ones")
        nats = mean(self.nll)
        changes = mean(np.square(np.exp(-self.nll) - np.exp(-self.base_nll)))
        rms = math.sqrt(changes.value)
        return Divergence(
            perplexity=Perplexity(exponential(nats), nats, len(self.nll), n_windows, n_evaluated, seconds),
            base_perplexity=exponential(mean(self.base_nll)),
            ratio=exponential(mean(self.nll - self.base_nll)),
            kl=mean(self.kl),
            kl_quantiles=dict(zip(QUANTILES, np.quantile(self.kl, QUANTILES).tolist(), strict=True)),
            same_top=mean(self.is_same_top.astype(np.float64)),
            rms_delta_p=Estimate(rms, changes.error / (2 * rms) if rms else 0.0),
        )


def divergence(
    model: Model, base: Logprobs, *, n_windows: int | None = None, progress: Progress | None = None
) -> Divergence:
    """How `model` differs from the model that `base` was made with, on the same tokens in the same windows, or the
    first `n_windows` of them."""
    base.check(model)
    windows = base.windows
    if n_windows is not None:
        windows = replace(windows, n_windows=min(n_windows, windows.n_windows))
    scored = targets(windows)
    tally = Tally(windows.n_rows)
    n_tokens = windows.n_windows * (windows.n_ctx - 1)
    start = time.perf_counter()
    for i in range(windows.n_windows):
        for n_done, at, rows in steps(model, windows, i):
            for part in blocks(*rows.shape):
                here = slice(at + part.start, at + part.stop)
                tally.add(here, scored[here], Softmax(base.rows(here)), Softmax(rows[part]))
                tally.base_nll[here] = base.nll[here]
            if progress is not None:
                progress(n_done, n_tokens, so_far(tally.total, at + len(rows)))
    return tally.result(windows.n_windows, n_tokens, time.perf_counter() - start)

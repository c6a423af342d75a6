"""Sums over rows of logits, and what is estimated from many tokens.

Rows are taken a few at a time, so that the passes over them find them in the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "Softmax", "blocks", "mean"]

_BLOCK = 1 << 16  # logits


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        """With three digits of the error."""
        if not 1e-4 <= self.error < math.inf:
            return f"{self.value:.5g} ± {self.error:.2g}"
        n = max(0, 2 - math.floor(math.log10(self.error)))
        return f"{self.value:.{n}f} ± {self.error:.{n}f}"


def mean(values: NDArray[np.float64]) -> Estimate:
    """The mean of independent `values`. Its error is NaN for a single one."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), error)


def blocks(n_rows: int, n_vocab: int) -> Iterator[slice]:
    """Slices that cover `n_rows` rows, each of about as many logits as a core's cache holds."""
    n = max(1, _BLOCK // n_vocab)
    return (slice(i, min(i + n, n_rows)) for i in range(0, n_rows, n))


class Softmax:
    """The parts of the softmax of each row of logits: f32 (n, n_vocab), which are overwritten.

    `top`: the index of the largest, i64 (n). `shifted`: the logits less the largest. `powers`: e to those.
    `log_sums`: the logarithms of the powers' sums, f64 (n), so that log p = shifted - log_sum.
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.top = logits.argmax(axis=1)
        largest = np.take_along_axis(logits, self.top[:, None], axis=1)
        with np.errstate(invalid="ignore"):  # inf - inf; the check below speaks of it
            self.shifted: NDArray[np.float32] = np.subtract(logits, largest, out=logits)
        self.powers: NDArray[np.float32] = np.exp(self.shifted)
        self._sums = self.powers.sum(axis=1).astype(np.float64)
        if not np.isfinite(self._sums).all():
            raise FormatError("the model gives logits that are no numbers")
        self.log_sums: NDArray[np.float64] = np.log(self._sums)

    def nll(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """-log p of a token a row, f64 (n)."""
        picked = np.take_along_axis(self.shifted, ids[:, None], axis=1)[:, 0]
        return self.log_sums - picked

    def kl(self, other: Softmax) -> NDArray[np.float64]:
        """The Kullback-Leibler divergence of `other` from this, a row, in nats: sum of p * (log p - log p_other)."""
        difference = self.shifted - other.shifted
        weighted = np.vecdot(self.powers, difference).astype(np.float64) / self._sums
        return np.asarray(weighted - (self.log_sums - other.log_sums))

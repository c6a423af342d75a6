"""A text as windows of tokens, and which tokens of each window are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import Model

__all__ = ["Windows"]


@dataclass(frozen=True, eq=False)
class Windows:
    """`tokens`, i32, cut into windows of `n_ctx`: window i starts at token i * `step`.

    A model reads each window from an empty context and is scored on its last `n_scored` tokens. Where `bos` is
    not None it stands in for each window's first token, which is never scored.
    """

    tokens: NDArray[np.int32]
    n_ctx: int
    step: int
    n_scored: int
    n_windows: int
    bos: int | None

    def __post_init__(self) -> None:
        if not 2 <= self.n_ctx <= len(self.tokens):
            raise ArgumentError(
                f"windows of {self.n_ctx} tokens: the text has {len(self.tokens)}, at least 2 are needed"
            )
        if not 1 <= self.n_scored < self.n_ctx:
            raise ArgumentError(
                f"{self.n_scored} tokens scored in a window of {self.n_ctx}: expected 1 to {self.n_ctx - 1}"
            )
        most = (len(self.tokens) - self.n_ctx) // self.step + 1 if self.step > 0 else 0
        if not 1 <= self.n_windows <= most:
            raise ArgumentError(f"{self.n_windows} windows: the text has {most}")

    @classmethod
    def of(
        cls, model: Model, text: str, n_ctx: int, *, stride: int | None = None, n_windows: int | None = None
    ) -> Windows:
        """The windows of `text` in the tokens of `model`, at most `n_windows` of them.

        Without `stride` they lie end to end and the second half of each is scored, so that each scored token has
        at least n_ctx / 2 tokens before it; with it, each begins `stride` tokens after the one before and its last
        `stride` tokens are scored. Raises ArgumentError when the text does not fill a window.
        """
        tokenizer = model.tokenizer
        ids = model.tokenize(text)
        if tokenizer.adds_eos and ids and ids[-1] == tokenizer.eos:
            ids.pop()
        if n_ctx < 2:
            raise ArgumentError(f"n_ctx {n_ctx}: a window has at least 2 tokens")
        if stride is not None and not 1 <= stride < n_ctx:
            raise ArgumentError(f"a stride of {stride}: expected 1 to {n_ctx - 1}, less than a window")
        if len(ids) < n_ctx:
            raise ArgumentError(
                f"the text has {len(ids)} tokens, a window has {n_ctx}: give a longer text or a shorter context"
            )
        if n_windows is not None and n_windows < 1:
            raise ArgumentError(f"{n_windows} windows: expected at least 1")
        step = n_ctx if stride is None else stride
        most = (len(ids) - n_ctx) // step + 1
        return cls(
            tokens=np.array(ids, dtype=np.int32),
            n_ctx=n_ctx,
            step=step,
            n_scored=max(1, (n_ctx - 1) // 2) if stride is None else stride,
            n_windows=most if n_windows is None else min(n_windows, most),
            bos=tokenizer.bos if tokenizer.adds_bos else None,
        )

    @property
    def n_rows(self) -> int:
        """How many tokens are scored in all."""
        return self.n_windows * self.n_scored

    @property
    def n_tokens(self) -> int:
        """How many tokens the windows cover."""
        return (self.n_windows - 1) * self.step + self.n_ctx

    @property
    def first_row(self) -> int:
        """The first index into a window whose logits predict a scored token."""
        return self.n_ctx - 1 - self.n_scored

    def ids(self, i: int) -> list[int]:
        """The tokens of window `i` as a model reads them."""
        start = i * self.step
        ids: list[int] = self.tokens[start : start + self.n_ctx].tolist()
        return ids if self.bos is None else [self.bos, *ids[1:]]

    def is_same(self, other: Sequence[int] | NDArray[np.int32]) -> bool:
        """Whether these windows' tokens are those of `other`."""
        n = self.n_tokens
        return len(other) >= n and np.array_equal(self.tokens[:n], np.asarray(other[:n], dtype=np.int32))

"""How to train: numbers with their defaults, and which of them a resumed run may change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..errors import ArgumentError, FormatError
from ..optim import Schedule

__all__ = ["TrainOptions"]

# Of no consequence for the parameters: a resumed run may have others.
_FREE = frozenset({"recompute", "n_threads", "eval_every", "save_every"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Options of a training run. A step reads `batch_size` * `accumulate` sequences of at most `n_ctx` tokens."""

    n_steps: int | None = None
    """Steps in all; None: as many as `epochs` take."""
    epochs: float = 1.0
    """How often each sequence is read, where `n_steps` is None."""
    batch_size: int = 8
    """Sequences side by side."""
    accumulate: int = 1
    """Batches whose gradients are added up before a step: the same as a larger batch, in less memory."""
    n_ctx: int | None = None
    """Tokens a sequence; None: the model's context, at most 256."""
    rate: float = 1e-3
    """Learning rate, the highest."""
    schedule: Schedule = "cosine"
    """What becomes of the rate after the warm-up."""
    floor: float = 0.1
    """The part of the rate that is left at the last step."""
    warmup: int | None = None
    """Steps in which the rate grows to its highest; None: a tenth of all, at most 100."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    decay: float = 0.1
    """AdamW's, of matrices."""
    max_norm: float = 1.0
    """Gradients whose norm, all together, is larger are scaled down to it; 0: never."""
    seed: int = 0
    """Of the order of the sequences."""
    held_out: float = 0.05
    """The part of the data, its end, that is not learnt but evaluated; at most 65,536 tokens of it."""
    pack: bool = True
    """Texts lie end to end, so that every sequence is full; else each text begins one of its own."""
    separator: str | None = None
    """What stands between the texts of a file that is no JSON; None: a file is one text."""
    recompute: bool | None = None
    """Compute activations again for the gradients rather than keep them; None: where only that fits."""
    n_threads: int = 0
    """0: one per fast core."""
    eval_every: int | None = None
    """Steps between two evaluations; None: a tenth of all. There is one at the end, too; 0: none."""
    save_every: int | None = None
    """Steps between two checkpoints; None: a tenth of all. There is one at the end, too."""

    def __post_init__(self) -> None:
        for name, low, high in (
            *((name, 1, 1 << 30) for name in ("batch_size", "accumulate")),
            *((name, 0, 1 << 62) for name in ("seed", "n_threads")),
            *((name, 0.0, math.inf) for name in ("rate", "decay", "max_norm")),
            ("epochs", 0.0, 1e9),
            *((name, 0.0, 1.0) for name in ("floor", "held_out")),
            *((name, 0.0, 1 - 1e-9) for name in ("beta1", "beta2")),
            ("eps", 1e-30, 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not low <= value <= high or value == math.inf:
                expected = f"{low} or more, finite" if high == math.inf else f"{low} to {high}"
                raise ArgumentError(f"{name}: {value}, expected {expected}")
        for name, low in (("n_steps", 1), ("n_ctx", 2), ("warmup", 0), ("eval_every", 0), ("save_every", 1)):
            value = getattr(self, name)
            if value is not None and not low <= value < 1 << 31:
                raise ArgumentError(f"{name}: {value}, expected {low} to {(1 << 31) - 1}")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ArgumentError(f"schedule: {self.schedule!r}, expected constant, linear or cosine")

    def resolved(self, n_sequences: int) -> Self:
        """The same with numbers in place of None, for so much data."""
        per_step = self.batch_size * self.accumulate
        n_steps = self.n_steps or max(1, round(self.epochs * n_sequences / per_step))
        every = max(1, n_steps // 10)
        return dataclasses.replace(
            self,
            n_steps=n_steps,
            warmup=min(100, n_steps // 10) if self.warmup is None else self.warmup,
            eval_every=every if self.eval_every is None else self.eval_every,
            save_every=every if self.save_every is None else self.save_every,
        )

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """For resuming a run of these options with others. Raises ArgumentError that names those that must stay."""
        fixed = [
            f"{name} {getattr(self, name)} to {value}"
            for name, value in changes.items()
            if value != getattr(self, name) and name not in _FREE and not self._may_extend(name, value)
        ]
        if fixed:
            raise ArgumentError(f"a resumed run cannot change {', '.join(fixed)}")
        return dataclasses.replace(self, **changes)

    def _may_extend(self, name: str, value: Any) -> bool:
        return name == "n_steps" and self.schedule == "constant"

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Self:
        """From `to_dict`. Raises FormatError for what is no such dict."""
        try:
            return cls(**values)
        except (TypeError, ArgumentError) as error:
            raise FormatError(f"{where}: options: {error}") from None

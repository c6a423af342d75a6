"""Importance: the mean square of each column that a matrix is multiplied with, over a text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError, NotFoundError
from ..imatrix import Importance

if TYPE_CHECKING:
    from ..model import Model
    from .perplexity import Progress
    from .windows import Windows

__all__ = ["collect_importance"]


def collect_importance(
    model: Model, windows: Windows, *, name: str = "", with_output: bool = False, progress: Progress | None = None
) -> Importance:
    """Evaluates every token of `windows` and gives the importances, those of the last matrix only `with_output`.

    `model` was opened with `importance`, for this alone: it counts from there on. `name`: of the text.
    """
    n_tokens = windows.n_windows * windows.n_ctx
    for i in range(windows.n_windows):
        for end, _ in model.logit_rows(windows.ids(i), 0 if with_output else windows.n_ctx):
            if progress is not None:
                progress(i * windows.n_ctx + end, n_tokens, math.nan)
    values, counts = {}, {}
    for tensor in model.tensors:
        try:
            sums, n_rows = model.importance(tensor.name)
        except NotFoundError:
            continue  # nothing is multiplied with it
        if n_rows == 0:
            continue
        if not np.isfinite(sums).all():
            raise FormatError(f"{model.path}: {tensor.name}: is multiplied with what is no number")
        values[tensor.name] = (sums / n_rows).astype(np.float32)[None, :]
        counts[tensor.name] = np.array([n_rows], dtype=np.float32)
    return Importance(
        values,
        counts,
        chunk_size=windows.n_ctx,
        chunk_count=windows.n_windows,
        datasets=(Path(name).name,) if name else (),
    )

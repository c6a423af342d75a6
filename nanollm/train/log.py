"""A run's log: a line a step, CSV or JSON, and its curve as a picture."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from ..errors import ArgumentError, FileError, FormatError

if TYPE_CHECKING:
    from .trainer import Step

__all__ = ["COLUMNS", "Log", "plot", "read_log"]

COLUMNS = ("step", "epoch", "loss", "held_out_loss", "rate", "norm", "n_tokens", "tokens_per_second", "seconds")
"""What a line has: fields of `Step`."""
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")

Row = dict[str, Any]


class Log:
    """Writes a line after each step: JSON where the file's name ends in .jsonl, else CSV.

    `first_step`: steps from there on are written anew; what a file has of earlier ones is kept. None begins a new file.
    """

    def __init__(self, path: str | os.PathLike[str], first_step: int | None = None) -> None:
        self._path = Path(path)
        self._is_json = self._path.suffix.lower() in _JSON_SUFFIXES
        # What is no file, a terminal or a pipe, has no end to read up to.
        kept = read_log(path, first_step) if first_step is not None and self._path.is_file() else []
        self._file = _open(self._path, "w")
        if not self._is_json:
            self._put(",".join(COLUMNS) + "\n")
        for row in kept:
            self._write(row)

    def write(self, step: Step) -> None:
        self._write({name: getattr(step, name) for name in COLUMNS})

    def _write(self, row: Row) -> None:
        if self._is_json:
            self._put(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")
        else:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(["" if row.get(n) is None else row[n] for n in COLUMNS])
            self._put(line.getvalue())

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise FileError(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """What could not be written was told by then."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(path: str | os.PathLike[str], first_step: int | None = None) -> list[Row]:
    """The lines of a log, those of steps before `first_step`. Raises FileError or FormatError."""
    rows: list[Row] = []
    with _open(Path(path), "r") as file:
        is_json = Path(path).suffix.lower() in _JSON_SUFFIXES
        try:
            for line in file if is_json else csv.DictReader(file):
                values = json.loads(line) if isinstance(line, str) else line
                row = {name: _number(values[name]) for name in COLUMNS if values.get(name) not in (None, "")}
                if first_step is None or row["step"] < first_step:
                    rows.append(row)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
            raise FormatError(f"{os.fspath(path)}: not a log of a training run") from None
    return rows


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        return int(value) if value.lstrip("-").isdecimal() else float(value)
    if isinstance(value, int | float):
        return value
    raise ValueError


def _open(path: Path, mode: str) -> TextIO:
    try:
        return path.open(mode, encoding="utf-8", newline="")  # type: ignore[return-value]
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


def plot(rows: Sequence[Row], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws the loss of each step, its running mean and the held-out loss as a picture (PNG, SVG, PDF).

    Raises ArgumentError where matplotlib, the extra ``plot``, is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("a picture needs matplotlib: pip install 'nanollm[plot]'") from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    axes.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=0.8, label="loss of a step")
    means: list[float] = []
    for loss in losses:
        means.append(loss if not means else means[-1] + 0.1 * (loss - means[-1]))
    axes.plot(steps, means, color="tab:blue", linewidth=1.5, label="running mean")
    held_out = [(row["step"], row["held_out_loss"]) for row in rows if row.get("held_out_loss") is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", color="tab:orange", markersize=3, label="held out")
    axes.set(xlabel="step", ylabel="nats a token", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise ArgumentError(f"{os.fspath(path)}: {error}") from None

"""Progress on stderr: a terminal sees a bar, a log sees a line a tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .common import format_bytes, is_terminal, log

Progress = Callable[[int, int, str], None]
"""(done, in all, what is at work or known so far)"""


@contextmanager
def progress_of(quiet: bool, unit: str = "bytes") -> Iterator[Progress]:
    """The function to call with each step, while entered. `unit`: of what is counted."""
    if quiet:
        yield lambda done, total, tensor: None
    elif is_terminal(sys.stderr):
        with _bar(unit) as progress:
            yield progress
    else:
        yield _lines(unit)


@contextmanager
def _bar(unit: str) -> Iterator[Progress]:
    from rich import progress as parts
    from rich.console import Console

    columns: tuple[parts.ProgressColumn, ...] = (parts.DownloadColumn(), parts.TransferSpeedColumn())
    if unit != "bytes":
        columns = (parts.MofNCompleteColumn(), parts.TextColumn(unit))
    text = parts.TextColumn("{task.description}", markup=False)
    with parts.Progress(
        parts.BarColumn(), *columns, parts.TimeRemainingColumn(), text, console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int, tensor: str) -> None:
            bar.update(task, completed=done, total=total, description=tensor)

        yield progress


def _lines(unit: str) -> Progress:
    """A line for each tenth."""
    last = -1

    def progress(done: int, total: int, tensor: str) -> None:
        nonlocal last
        tenth = 10 * done // total if total else 10
        if tenth > last:
            last = tenth
            amount = f"{format_bytes(done)} of {format_bytes(total)}"
            if unit != "bytes":
                amount = f"{done} of {total} {unit}"
            log(f"{10 * tenth:3d} %  {amount}  {tensor}".rstrip())

    return progress

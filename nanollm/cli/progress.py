"""Progress on stderr for the commands that write files: a terminal sees a bar, a log sees a line a tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .common import format_bytes, is_terminal, log

Progress = Callable[[int, int, str], None]
"""(bytes done, bytes in all, what is at work)"""


@contextmanager
def progress_of(quiet: bool) -> Iterator[Progress]:
    """The function to call with each step, while entered."""
    if quiet:
        yield lambda done, total, tensor: None
    elif is_terminal(sys.stderr):
        with _bar() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.description}", markup=False), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int, tensor: str) -> None:
            bar.update(task, completed=done, total=total, description=tensor)

        yield progress


def _lines() -> Progress:
    """A line for each tenth."""
    last = -1

    def progress(done: int, total: int, tensor: str) -> None:
        nonlocal last
        tenth = 10 * done // total if total else 10
        if tenth > last:
            last = tenth
            log(f"{10 * tenth:3d} %  {format_bytes(done)} of {format_bytes(total)}  {tensor}".rstrip())

    return progress

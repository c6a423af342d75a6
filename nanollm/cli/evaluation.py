"""What the commands that evaluate a text share: their options, reading the text, Ctrl-C, results as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core
from ..errors import CancelledError
from ..model import Model
from .common import ArgumentParser, Interruptible, emit
from .options import add_adapters, add_cache_types, add_devices, add_list_devices, device_options, int_in
from .progress import progress_of

if TYPE_CHECKING:
    import argparse

    from ..quality.perplexity import Progress

DEFAULT_N_CTX = 512


def add_options(parser: ArgumentParser, needs_text: bool = True) -> None:
    """The options of the text and of the evaluation."""
    add = parser.add_argument_group("text").add_argument
    add("-f", "--file", metavar="TEXT", required=needs_text, help="file with the text, taken as it is; -: stdin")
    add(
        *("-c", "--ctx-size", "--context"),
        type=int_in(0),
        metavar="N",
        help=f"tokens in a window; 0: the model's context (default: {DEFAULT_N_CTX}, at most the model's context)",
    )
    add("--chunks", type=int_in(-1), default=-1, metavar="N", help="windows to evaluate; -1: all (default: -1)")
    add = parser.add_argument_group("evaluation").add_argument
    add(
        *("-b", "--batch-size"),
        type=int_in(1),
        default=512,
        metavar="N",
        help="most tokens evaluated in one step (default: 512)",
    )
    add("-t", "--threads", type=int_in(0), default=0, metavar="N", help="threads (default: one per fast core)")
    add_cache_types(add)
    add_adapters(add)
    add_devices(add)
    add("--cpu", metavar="LEVEL", help="kernel level to use (default: the best this machine has)")
    add = parser.add_argument_group("general").add_argument
    add_list_devices(add)
    add("-q", "--quiet", action="store_true", help="no progress on stderr")
    add("-h", "--help", action="help", help="print this and exit")


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Model` takes but for its context; the kernel level is set on the way."""
    if args.cpu is not None:
        _core.set_cpu_level(args.cpu)
    return {
        "n_threads": args.threads,
        "n_batch": args.batch_size,
        "cache_type": (args.cache_type_k, args.cache_type_v),
        "adapters": args.adapters,
        **device_options(args),
    }


def window_size(args: argparse.Namespace, path: str) -> int:
    """The tokens in a window of a model in `path`."""
    if args.ctx_size:
        return int(args.ctx_size)
    own = Model.fit(path, n_ctx=args.ctx_size).limits.n_ctx
    return own if args.ctx_size == 0 else min(own, DEFAULT_N_CTX)


def n_windows(args: argparse.Namespace) -> int | None:
    """The most windows to evaluate; None: all."""
    return args.chunks if args.chunks > 0 else None


def read_text(args: argparse.Namespace) -> str:
    """The text, ill-formed bytes as U+FFFD."""
    data = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    return data.decode("utf-8", "replace")


class Run:
    """An evaluation that Ctrl-C ends, in the middle of a step too, and that tells its progress."""

    def __init__(self, show: Callable[[int, int, str], None]) -> None:
        self._show = show
        self._models: list[Model] = []
        self._is_stopped = False

    def add(self, model: Model) -> None:
        """Takes `model` among those that Ctrl-C ends."""
        self._models.append(model)
        self.check()

    def stop(self) -> None:
        self._is_stopped = True
        for model in list(self._models):
            model.cancel()

    def check(self) -> None:
        """Raises CancelledError after Ctrl-C: one that came between two steps is lost on the model."""
        if self._is_stopped:
            raise CancelledError("interrupted")

    @property
    def progress(self) -> Progress:
        def progress(done: int, total: int, estimate: float) -> None:
            self.check()
            self._show(done, total, "" if math.isnan(estimate) else f"perplexity {estimate:.4f}")

        return progress


@contextmanager
def evaluating(quiet: bool) -> Iterator[Run]:
    """While entered, Ctrl-C ends what the run's models do, and then the command."""
    with progress_of(quiet, "tokens") as show:
        run = Run(show)
        try:
            with Interruptible(run.stop):
                yield run
        except CancelledError:
            raise KeyboardInterrupt from None


def emit_json(values: dict[str, Any]) -> None:
    """Prints one line. Records become objects; what JSON has no number for becomes null."""
    emit(json.dumps(_plain(values | {"cpu": _core.cpu_level(), "version": _core.version()}), allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

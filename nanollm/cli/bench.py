"""`nanollm bench`: the speed of prompts and of decoding, with the flags and the table of llama-bench."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import random
import re
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from .. import _core
from .._types import Limits
from ..errors import CancelledError, MemoryLimitError
from ..lora import AdapterLike, bind, open_all
from ..model import LAYERS_AUTO, MAX_N_CTX, MemoryReport, check_device, check_forced_level, default_model_path
from ..models import build_program
from .common import EXIT_OK, ArgumentParser, Interruptible, UsageError, emit, format_bytes, log
from .options import CACHE_TYPES, LAYERS_FLAGS, add_adapters, add_device, add_list_devices, int_in, mask

_EPILOG = """\
examples:
  nanollm bench                                    the model that is part of the package
  nanollm bench -m a.gguf -m b.gguf -p 512 -n 128  two files in turn, a prompt of 512 tokens, 128 tokens decoded
  nanollm bench -m a.gguf -t 1-4 -p 0 -n 32        decoding with 1, 2, 3 and 4 threads
  nanollm bench -m a.gguf -pg 512,128 -d 0,4096    prompt and text timed together, with 4096 tokens before them, too
  nanollm bench -m a.gguf --deterministic 0,1      what the same bits for every batch size cost
  nanollm bench -m a.gguf -o json | jq '.[].median_ts'

Options that take a LIST take numbers and ranges with commas between: 512; 1,2,4; 1-4; 1-8*2 (1, 2, 4, 8);
0-4096+1024. Each may be given several times. Every combination is a row. Each test runs once unmeasured, then
-r times; no text is sampled. t/s: mean and standard deviation; -o json has the median and the samples, too.
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is timed: a prompt, tokens one by one, or first the one and then the other, after `n_depth` tokens."""

    n_prompt: int
    n_gen: int
    n_depth: int = 0

    @property
    def n_ctx(self) -> int:
        return self.n_depth + self.n_prompt + self.n_gen

    def __str__(self) -> str:
        parts = [f"pp{self.n_prompt}"] * (self.n_prompt > 0) + [f"tg{self.n_gen}"] * (self.n_gen > 0)
        return "+".join(parts) + (f" @ d{self.n_depth}" if self.n_depth else "")


class ModelFile:
    """A file to measure, opened once for all of its tests."""

    def __init__(self, path: str, adapters: Sequence[AdapterLike] = ()) -> None:
        check_forced_level()
        self.path = path
        self._gguf = _core.Gguf.open(path)
        self._core = bind(self._gguf, build_program(self._gguf), open_all(adapters))
        self.n_adapters = len(adapters)
        self.metadata = {key: self._gguf[key] for key in self._gguf.keys() if not self._gguf.kind(key)[1]}  # noqa: SIM118
        self.tensors = self._gguf.tensors
        self.size = sum(tensor.n_bytes for tensor in self.tensors)
        self.n_params = sum(math.prod(tensor.shape) for tensor in self.tensors)
        bytes_of: Counter[str] = Counter()
        for tensor in self.tensors:
            bytes_of[tensor.type] += tensor.n_bytes
        self.main_type = bytes_of.most_common(1)[0][0]
        """The type that most of its bytes have."""

    @property
    def type(self) -> str:
        """Architecture, size, type, as in "llama 1.2B Q8_0", and how many adapters."""
        named: dict[Any, str] = {number: name for name, number in _core.ftypes().items()}
        size = self.metadata.get("general.size_label") or _short_count(self.n_params)
        kind = named.get(self.metadata.get("general.file_type"), self.main_type)
        adapted = f" + {self.n_adapters} LoRA" if self.n_adapters else ""
        return f"{self.metadata.get('general.architecture')} {size} {kind}{adapted}"

    def plan(self, limits: Limits) -> _core.Plan:
        """A plan that fits; raises MemoryLimitError where it does not."""
        plan = _core.Plan(self._core, limits)
        report = MemoryReport.of(plan)
        check_device(self._core, self.path, report)
        if not report.fits:
            raise MemoryLimitError(report.refusal(self.path))
        return plan

    def ids(self, n: int) -> array[int]:
        """`n` ids of the vocabulary, the same ones each time."""
        draw = random.Random(1)
        return array("i", (draw.randrange(self._core.n_vocab) for _ in range(n)))


class Runner:
    """One test of one file, ready to run any number of times."""

    def __init__(self, file: ModelFile, limits: Limits, test: Workload) -> None:
        self.test = test
        self.asked = limits
        plan = file.plan(replace(limits, n_ctx=test.n_ctx, n_batch=min(limits.n_batch, test.n_ctx), n_outputs=1))
        self.limits = plan.limits
        self.memory = plan.memory
        self._ids = file.ids(test.n_ctx)
        self._session = _core.Session(plan)
        self.cancel: Callable[[], None] = self._session.cancel

    def close(self) -> None:
        self._session.close()

    def fill(self) -> None:
        """Brings the context to the test's depth: needed once, before the first run."""
        self._eval(0, self.test.n_depth)

    def warm_up(self) -> None:
        """Runs unmeasured: the whole prompt, or one token."""
        self._eval(self.test.n_depth, self.test.n_prompt or 1)

    def run(self) -> int:
        """Nanoseconds of one run."""
        test = self.test
        self._session.truncate(0, test.n_depth)
        start = time.perf_counter_ns()
        self._eval(test.n_depth, test.n_prompt)
        for at in range(test.n_depth + test.n_prompt, test.n_ctx):
            self._session.eval(self._ids[at : at + 1])
        return time.perf_counter_ns() - start

    def _eval(self, start: int, n: int) -> None:
        for at in range(start, start + n, self.limits.n_batch):
            self._session.eval(self._ids[at : min(at + self.limits.n_batch, start + n)])


@dataclass(frozen=True, slots=True)
class Result:
    """One row. Times in nanoseconds, speeds in tokens a second; fields are named as llama-bench names them."""

    version: str
    cpu_level: str
    backend: str
    model_filename: str
    model_type: str
    model_size: int
    model_n_params: int
    n_batch: int
    n_threads: int
    n_threads_batch: int
    cpu_mask: str
    poll: int
    n_gpu_layers: int
    device: int
    type_k: str
    type_v: str
    deterministic: bool
    n_prompt: int
    n_gen: int
    n_depth: int
    test_time: str
    avg_ns: int
    stddev_ns: int
    avg_ts: float
    stddev_ts: float
    median_ts: float
    samples_ns: list[int]
    samples_ts: list[float]

    @classmethod
    def of(cls, file: ModelFile, runner: Runner, samples: list[int]) -> Result:
        test, limits = runner.test, runner.limits
        speeds = [1e9 * (test.n_prompt + test.n_gen) / ns for ns in samples]
        return cls(
            version=_core.version(),
            cpu_level=_core.cpu_level(),
            backend="CUDA" if limits.n_gpu_layers else f"CPU {_core.cpu_level()}",
            model_filename=file.path,
            model_type=file.type,
            model_size=file.size,
            model_n_params=file.n_params,
            n_batch=runner.asked.n_batch,
            n_threads=limits.n_threads,
            n_threads_batch=limits.n_threads_batch,
            cpu_mask=f"{limits.cpu_mask:#x}",
            poll=limits.poll,
            n_gpu_layers=limits.n_gpu_layers,
            device=limits.device,
            type_k=limits.type_k.lower(),
            type_v=limits.type_v.lower(),
            deterministic=limits.deterministic,
            n_prompt=test.n_prompt,
            n_gen=test.n_gen,
            n_depth=test.n_depth,
            test_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            avg_ns=round(statistics.fmean(samples)),
            stddev_ns=round(_deviation(samples)),
            avg_ts=statistics.fmean(speeds),
            stddev_ts=_deviation(speeds),
            median_ts=statistics.median(speeds),
            samples_ns=samples,
            samples_ts=speeds,
        )


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _short_count(n: int) -> str:
    return f"{n / 1e9:.1f}B" if n >= 1e9 else f"{n / 1e6:.0f}M" if n >= 1e6 else f"{n / 1e3:.0f}K"


# ------------------------------------------------------------------ the command line


def main(argv: Sequence[str]) -> int:
    """Prints a row as soon as it is measured, but for JSON, which is one list."""
    args = _parser().parse(argv)
    if args.cpu is not None:
        _core.set_cpu_level(args.cpu)
    limits = list(_limits(args))
    tests = list(_tests(args))
    if not tests:
        raise UsageError("-p, -n, -pg: nothing to measure")
    for test in tests:
        if test.n_ctx > MAX_N_CTX:
            raise UsageError(f"{test}: a context of {test.n_ctx} tokens, expected at most {MAX_N_CTX}")
    files = [ModelFile(path, args.adapters) for path in args.model or [default_model_path()]]
    rows = list(product(files, limits, tests))
    printer = _PRINTERS[args.output](args, limits)
    printer.start()
    try:
        for number, (file, one, test) in enumerate(rows, 1):
            note = f"{number}/{len(rows)}: {file.type}: {test}: " if args.progress else ""
            printer.row(_measured(file, one, test, args, note))
    finally:  # an error or Ctrl-C leaves what has been measured
        printer.end()
    return EXIT_OK


def _measured(file: ModelFile, limits: Limits, test: Workload, args: argparse.Namespace, note: str) -> Result:
    runner = Runner(file, limits, test)
    try:
        with Interruptible(runner.cancel):
            if note:
                log(f"{note}warm-up")
            runner.fill()
            if args.warmup:
                runner.warm_up()
            samples = []
            for i in range(args.repetitions):
                if note:
                    log(f"{note}run {i + 1} of {args.repetitions}")
                samples.append(runner.run())
    except CancelledError:
        raise KeyboardInterrupt from None
    finally:
        runner.close()
    return Result.of(file, runner, samples)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "nanollm bench",
        "Measures the speed of prompts and of decoding. Flags and table are those of llama-bench.",
        _EPILOG,
        usage="nanollm bench [-m FILE]... [options]",
    )
    add = parser.add_argument_group("tests").add_argument
    add("-m", "--model", action="append", metavar="FILE", help="GGUF file (default: the model in the package)")
    add("-p", "--n-prompt", **_list("tokens of a prompt; 0: no such test", "512", 0))
    add("-n", "--n-gen", **_list("tokens decoded one by one; 0: no such test", "128", 0))
    add("-pg", action="append", type=_pair, default=[], metavar="PP,TG", help="also a prompt and tokens after it")
    add("-d", "--n-depth", **_list("tokens in the context before a test", "0", 0))
    add("-r", "--repetitions", type=int_in(1), default=5, metavar="N", help="runs of a test (default: 5)")
    add("--no-warmup", dest="warmup", action="store_false", help="no unmeasured run before")
    add = parser.add_argument_group("model").add_argument
    add_adapters(add)
    add("-b", "--batch-size", **_list("most tokens in one step", "512", 1))
    add("-t", "--threads", **_list("threads; 0: one per fast core", "0", 0))
    add("-tb", "--threads-batch", **_list("threads of prompts; 0: those of -t", "0", 0))
    add("-C", "--cpu-mask", action="append", type=_masks, metavar="LIST", help="CPUs that threads may run on, "
        "hexadecimal (default: the fast ones)")  # fmt: skip
    add("--poll", **_list("how idle threads wait, 0 asleep to 100 awake", "50", 0, 100))
    add(*LAYERS_FLAGS, action="append", type=_layers, metavar="LIST", help="layers on a device, the last ones; auto: "
        "as many as it has memory for (default: 0)")  # fmt: skip
    add_device(add)
    for flag, name, what in (("-ctk", "--cache-type-k", "key"), ("-ctv", "--cache-type-v", "value")):
        add(flag, name, action="append", type=_names(CACHE_TYPES), metavar="LIST", help=f"types of the {what} cache: "
            f"{', '.join(CACHE_TYPES)} (default: f16)")  # fmt: skip
    add("--deterministic", **_list("1: the same bits for every batch size", "0", 0, 1))
    add("--cpu", metavar="LEVEL", help="kernel level to use (default: the best this machine has)")
    add = parser.add_argument_group("output").add_argument
    add("-o", "--output", choices=tuple(_PRINTERS), default="md", help="format (default: md, a Markdown table)")
    add_list_devices(add)
    add("--progress", action="store_true", help="tell each run on stderr")
    add("-h", "--help", action="help", help="print this and exit")
    return parser


def _list(text: str, default: str, low: int, high: int | None = None) -> dict[str, Any]:
    """What add_argument takes for a LIST."""

    def numbers(words: str) -> list[int]:
        return [number for word in words.split(",") for number in _span(word, low, high)]

    return {"action": "append", "type": numbers, "metavar": "LIST", "help": f"{text} (default: {default})"}


_SPAN = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?:([+*])(\d{1,9}))?)?")
_MOST_IN_SPAN = 1000


def _span(word: str, low: int, high: int | None) -> list[int]:
    """7 or first-last, first-last+step, first-last*factor."""
    match = _SPAN.fullmatch(word.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{word!r}: expected a number or a range such as 1-8*2")
    first, last, sign, step = int(match[1]), int(match[2] or match[1]), match[3] or "+", int(match[4] or 1)
    if step < 1 or (sign == "*" and (step < 2 or first < 1)):
        raise argparse.ArgumentTypeError(f"{word!r}: a range that never ends")
    result: list[int] = []
    while first <= last and len(result) < _MOST_IN_SPAN:
        result.append(first)
        first = first + step if sign == "+" else first * step
    if not result or result[0] < low or (high is not None and result[-1] > high):
        raise argparse.ArgumentTypeError(f"{word!r}: expected {low} {'or more' if high is None else f'to {high}'}")
    return result


def _layers(text: str) -> list[int]:
    """Numbers, ranges, "auto"."""
    return [n for word in text.split(",") for n in ([LAYERS_AUTO] if word == "auto" else _span(word, 0, None))]


def _pair(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text)
    if match is None or match[1] == match[2] == "0":
        raise argparse.ArgumentTypeError(f"{text!r}: expected two numbers, as in 512,128")
    return int(match[1]), int(match[2])


def _masks(text: str) -> list[int]:
    return [mask(word) for word in text.split(",")]


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        words = text.lower().split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r}: expected one of {', '.join(known)}")
        return words

    return names


def _given(lists: Sequence[list[Any]] | None, default: Any) -> list[Any]:
    """All values of an option that may be given several times."""
    return [value for values in lists for value in values] if lists else [default]


def _limits(args: argparse.Namespace) -> Iterator[Limits]:
    lists = (
        _given(args.batch_size, 512),
        _given(args.cache_type_k, "f16"),
        _given(args.cache_type_v, "f16"),
        _given(args.threads, 0),
        _given(args.threads_batch, 0),
        _given(args.cpu_mask, 0),
        _given(args.poll, 50),
        _given(args.n_gpu_layers, 0),
        _given(args.deterministic, 0),
    )
    for n_batch, type_k, type_v, n_threads, n_threads_batch, cpu_mask, poll, layers, deterministic in product(*lists):
        yield replace(
            _core.limits_default(),
            n_batch=n_batch,
            n_threads=n_threads,
            n_threads_batch=n_threads_batch,
            cpu_mask=cpu_mask,
            poll=poll,
            n_gpu_layers=layers,
            device=args.device,
            type_k=type_k.upper(),
            type_v=type_v.upper(),
            deterministic=bool(deterministic),
        )


def _tests(args: argparse.Namespace) -> Iterator[Workload]:
    for depth in _given(args.n_depth, 0):
        sizes = [(n, 0) for n in _given(args.n_prompt, 512)] + [(0, n) for n in _given(args.n_gen, 128)] + args.pg
        for n_prompt, n_gen in sizes:
            if n_prompt + n_gen > 0:
                yield Workload(n_prompt, n_gen, depth)


# ------------------------------------------------------------------ output


class _Markdown:
    """A table for people: settings have a column where they are not the default."""

    def __init__(self, args: argparse.Namespace, limits: Sequence[Limits]) -> None:
        usual = _core.limits_default()

        def differs(name: str) -> bool:
            return any(getattr(one, name) != getattr(usual, name) for one in limits)

        self._columns: list[tuple[str, int, Callable[[Result], str]]] = [
            ("model", -24, lambda r: r.model_type),
            ("size", 10, lambda r: format_bytes(r.model_size)),
            ("params", 9, lambda r: f"{r.model_n_params / 1e9:.2f} B" if r.model_n_params >= 1e9
                                    else f"{r.model_n_params / 1e6:.2f} M"),
            ("backend", -11, lambda r: r.backend),
            ("threads", 7, lambda r: str(r.n_threads)),
        ]  # fmt: skip
        if differs("n_batch"):
            self._columns.append(("n_batch", 7, lambda r: str(r.n_batch)))
        if differs("n_threads_batch"):
            self._columns.append(("n_threads_batch", 15, lambda r: str(r.n_threads_batch)))
        if differs("cpu_mask"):
            self._columns.append(("cpu_mask", 10, lambda r: r.cpu_mask))
        if differs("poll"):
            self._columns.append(("poll", 4, lambda r: str(r.poll)))
        if differs("n_gpu_layers"):
            self._columns.append(("ngl", 3, lambda r: str(r.n_gpu_layers)))
        if differs("type_k"):
            self._columns.append(("type_k", 6, lambda r: r.type_k))
        if differs("type_v"):
            self._columns.append(("type_v", 6, lambda r: r.type_v))
        if differs("deterministic"):
            self._columns.append(("deterministic", 13, lambda r: str(int(r.deterministic))))
        self._columns += [
            ("test", 15, lambda r: str(Workload(r.n_prompt, r.n_gen, r.n_depth))),
            ("t/s", 21, lambda r: f"{r.avg_ts:.2f} ± {r.stddev_ts:.2f}"),
        ]

    def start(self) -> None:
        self._line([name for name, _, _ in self._columns])
        rule = ["-" * (abs(width) + 1) + ("-" if width < 0 else ":") for _, width, _ in self._columns]
        emit(f"|{'|'.join(rule)}|\n")

    def row(self, result: Result) -> None:
        self._line([text(result) for _, _, text in self._columns])

    def end(self) -> None:
        pass

    def _line(self, cells: Sequence[str]) -> None:
        padded = (
            cell.ljust(-width) if width < 0 else cell.rjust(width)
            for cell, (_, width, _) in zip(cells, self._columns, strict=True)
        )
        emit(f"| {' | '.join(padded)} |\n")


class _Csv:
    """A header and a line a row, without the samples."""

    def __init__(self, args: argparse.Namespace, limits: Sequence[Limits]) -> None:
        self._names = [name for name in Result.__slots__ if not name.startswith("samples")]

    def start(self) -> None:
        self._line(self._names)

    def row(self, result: Result) -> None:
        self._line([getattr(result, name) for name in self._names])

    def end(self) -> None:
        pass

    def _line(self, cells: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        emit(text.getvalue())


class _JsonLines:
    """An object a line."""

    def __init__(self, args: argparse.Namespace, limits: Sequence[Limits]) -> None:
        pass

    def start(self) -> None:
        pass

    def row(self, result: Result) -> None:
        emit(json.dumps(asdict(result)) + "\n")

    def end(self) -> None:
        pass


class _Json(_JsonLines):
    """One list of objects."""

    def __init__(self, args: argparse.Namespace, limits: Sequence[Limits]) -> None:
        self._results: list[Result] = []

    def row(self, result: Result) -> None:
        self._results.append(result)

    def end(self) -> None:
        emit(json.dumps([asdict(result) for result in self._results], indent=2) + "\n")


_PRINTERS: dict[str, type[_Markdown | _Csv | _JsonLines]] = {
    "md": _Markdown,
    "json": _Json,
    "jsonl": _JsonLines,
    "csv": _Csv,
}

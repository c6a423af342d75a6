"""What every command shares: exit codes, one-line errors, streams that survive a closed pipe, Ctrl-C, sizes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, NoReturn

from ..errors import NanoError

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # as a shell reports a command ended by SIGINT
EXIT_BROKEN_PIPE = 141  # … and by SIGPIPE


class UsageError(Exception):
    """The command line asks for something that makes no sense; exits with 2."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse with one-line errors, no abbreviations, and values that may start with a dash."""

    def __init__(self, prog: str, description: str, epilog: str = "", usage: str | None = None) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34, width=100),
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help lists the options)")

    def parse(self, argv: Sequence[str], *, is_mixed: bool = False) -> argparse.Namespace:
        """Parses `argv`. Long options may be spelt with underscores; an option's value may be anything. `is_mixed`:
        options may stand between a command's files."""
        words = self._normalised(argv)
        return self.parse_intermixed_args(words) if is_mixed else self.parse_args(words)

    def _normalised(self, argv: Sequence[str]) -> list[str]:
        result: list[str] = []
        words = iter(argv)
        for word in words:
            if word == "--":
                return [*result, word, *words]
            name, equals, value = word.partition("=")
            if name.startswith("--") and name not in self._option_string_actions:
                name = name.replace("_", "-")
            action = self._option_string_actions.get(name)
            if action is None:
                result.append(word)
            elif equals or action.nargs == 0:
                result.append(name + equals + value)
            else:
                following = next(words, None)
                result.append(name if following is None else f"{name}={following}")
        return result


def run(prog: str, body: Callable[[], int]) -> int:
    """Runs a command's body and returns its exit code; whatever goes wrong becomes one line on stderr."""
    _prepare_streams()
    try:
        code = body()
        emit("")
    except SystemExit as stop:  # argparse's --help and --version
        code = stop.code if isinstance(stop.code, int) else EXIT_OK
        return _flushed(code)
    except UsageError as error:
        return _fail(prog, str(error), EXIT_USAGE)
    except NanoError as error:
        return _fail(prog, str(error), EXIT_ERROR)
    except KeyboardInterrupt:
        return _fail(prog, "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _silence_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(prog, f"{where}{error.strerror or error}", EXIT_ERROR)
    except MemoryError:
        return _fail(prog, "out of memory", EXIT_ERROR)
    except Exception as error:  # a mistake of ours; users get a line that they can report
        return _fail(prog, f"internal error, please report: {type(error).__name__}: {error}", EXIT_ERROR)
    return code


def _fail(prog: str, message: str, code: int) -> int:
    log(f"{prog}: error: {' '.join(message.split())}")
    return code


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()
    return code


def _prepare_streams() -> None:
    """Makes all three streams usable, without characters that raise: a closed one becomes the null device.

    Writing to a stdout that was closed fails all the same, as it does elsewhere: nobody got the text.
    """
    for name, flags, mode in (
        ("stdin", os.O_RDONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _silence_stdout() -> None:
    """Points stdout at the null device, so that the interpreter's own flush at exit stays quiet."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass


# Text from files and models must not steer the terminal: no control characters but tab and line ends.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}


def log(text: str = "", end: str = "\n") -> None:
    """Writes to stderr; a reader that went away is no reason to stop."""
    try:
        sys.stderr.write(text.translate(_CONTROLS) + end)
        sys.stderr.flush()
    except OSError:
        pass


def emit(text: str) -> None:
    """Writes to stdout and flushes, so that text appears as it is generated; a terminal gets no controls."""
    try:
        sys.stdout.write(text.translate(_CONTROLS) if is_terminal(sys.stdout) else text)
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def is_terminal(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal; a closed one is not."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def clean_text(text: str) -> str:
    """Text from the command line, whose undecodable bytes Python keeps as lone surrogates, as valid Unicode."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_output(out: str | None, *sources: str | None) -> None:
    """Refuses to write over what is read; None stands for no file."""
    if out is None or not Path(out).exists():
        return
    for source in sources:
        if source is not None and Path(source).exists() and Path(out).samefile(source):
            raise UsageError(f"{out}: the file to write is the file to read")


def format_bytes(n: int) -> str:
    """A size in the largest unit that leaves at least 1: "1.25 MiB"."""
    value = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{n} B" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    raise AssertionError


class Interruptible:
    """While entered, any of `signals`, Ctrl-C if none are named, calls `stop` instead of raising KeyboardInterrupt; a
    second one raises it.

    Python runs signal handlers between byte codes, so a step that spends seconds inside the core would answer
    late. The byte that Python writes to the wake-up descriptor arrives at once, and a thread waits for it.
    For the main thread only.
    """

    def __init__(self, stop: Callable[[], None], signals: Sequence[int] = (signal.SIGINT,)) -> None:
        self._stop = stop
        self._signals = signals
        self._count = 0

    def __enter__(self) -> Interruptible:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._old_handlers = {number: signal.signal(number, self._on_signal) for number in self._signals}
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        while (number := os.read(self._read, 1)) != b"\0":
            if number[0] in self._signals:
                self._stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt

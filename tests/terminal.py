"""Commands run for tests: as processes with pipes, or in a terminal of their own."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_TIMEOUT = 60.0  # seconds; far above what any of these takes


def command(name: str) -> str:
    """The path of an installed command."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def run(name: str, *args: object, stdin: str | bytes = b"", **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command with text or bytes on stdin; stdout and stderr are read as UTF-8, strictly."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [command(name), *map(str, args)], input=data, capture_output=True, timeout=_TIMEOUT, check=False, **options
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Terminal:
    """A command whose stdin, stdout and stderr are a terminal, and what it has shown so far."""

    def __init__(self, name: str, *args: object) -> None:
        self.shown = ""
        self._at = 0
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                os.execve(command(name), [name, *map(str, args)], os.environ | {"TERM": "dumb"})
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def send(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Reads until `pattern` is found after what was found before."""
        end = time.monotonic() + _TIMEOUT
        while True:
            match = re.compile(pattern).search(self.shown, self._at)
            if match:
                self._at = match.end()
                return match
            if time.monotonic() > end or not self._read(1.0):
                raise AssertionError(f"{pattern!r} not found in {self.shown[self._at :]!r}")

    def exit_code(self) -> int:
        """Waits for the command to end."""
        end = time.monotonic() + _TIMEOUT
        while self._read(1.0):
            assert time.monotonic() < end, f"still running: {self.shown[-500:]!r}"
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        """Reads what comes within `seconds`; False at the end."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # how Linux reports that the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


def assert_one_line_error(
    done: subprocess.CompletedProcess[str], code: int, *words: str, name: str = "nanollm-cli"
) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{name}: error: ")
    for word in words:
        assert word in last
    assert "Traceback" not in done.stderr


USAGE_ERRORS = [
    (("--nonesuch",), "--nonesuch"),
    (("-n",), "-n"),
    (("-n", "many"), "many"),
    (("-n", "-3"), "-3"),
    (("--top-p", "1.5"), "1.5"),
    (("--temp", "nan"), "nan"),
    (("-l", "5"), "5"),
    (("-l", "5+x"), "5+x"),
    (("-p", "a", "-f", "b"), "-p and -f"),
    (("-sys", "a", "-no-cnv"), "-sys"),
    (("word",), "word"),
    (("--mirostat", "3"), "3"),
    (("-ctk", "q4_k"), "q4_k"),
    (("-C", "zz"), "zz"),
    (("-Cr", "3-1"), "3-1"),
    (("-Cr", "1-256"), "1-256"),
    (("--poll", "101"), "101"),
    (("-tb", "-1"), "-1"),
    (("-n", "99999999999999999999"), "99999999999999999999"),
    (("-ctk", "q9_0"), "q9_0"),
    (("--lookup", "16"), "16"),
    (("-C", "xyz"), "xyz"),
    (("-Cr", "4-2"), "4-2"),
    (("--verbose=1",), "--verbose"),
    (("-st", "-p", "a"), "-st"),
]
"""Options that nanollm-cli and nanollm-run refuse alike, and a word of what they say."""

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

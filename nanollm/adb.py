"""Models on phones and watches through adb: find the device, build for it, push what it lacks, run there.

Needs Android's `adb` program (the environment's ADB names another), a device with USB debugging on, and one static
binary: nothing is installed on the device and nothing outside DIRECTORY is touched. Every script that the device runs
is plain POSIX shell with the tools that Android 7 and newer bring.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import NanoError

DIRECTORY = "/data/local/tmp/nanollm"
"""Where everything lies on the device: the one place where adb may both write and execute."""

PROGRAM = "nanollm-run"

# Android's name of a processor: what zig and the toolchain files call it, and its number in ELF files.
_TARGETS = {
    "arm64-v8a": ("aarch64-linux-musl", 183),
    "armeabi-v7a": ("armv7-linux-musleabihf", 40),
    "x86_64": ("x86_64-linux-musl", 62),
    "riscv64": ("riscv64-linux-musl", 243),
}
ABIS = tuple(_TARGETS)

_SPARE_BYTES = 16 << 20  # left free on the device
_POLL_SECONDS = 0.5


class DeviceError(NanoError, RuntimeError):
    """No device, no adb, or the device refused; the message says what to do about it."""


# ----------------------------------------------------------------- devices


@dataclass(frozen=True)
class Listed:
    """A line of `adb devices -l`."""

    serial: str
    state: str
    """"device" when it can be used."""
    model: str

    def __str__(self) -> str:
        return f"{self.serial} ({self.model or self.state})"


def adb_program() -> str:
    """The adb program to call: the environment's ADB, or `adb` on the PATH."""
    name = os.environ.get("ADB") or "adb"
    found = shutil.which(name)
    if found is None:
        raise DeviceError(
            f"{name}: no such program; install Android's platform tools (Debian and Ubuntu: apt install adb), "
            "or name the program in ADB"
        )
    return found


def list_devices(adb: str) -> list[Listed]:
    """The devices that adb knows, in whatever state."""
    done = subprocess.run([adb, "devices", "-l"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise DeviceError(f"{adb} devices: {_last_line(done.stderr) or f'exit code {done.returncode}'}")
    devices = []
    for line in done.stdout.decode(errors="replace").splitlines():
        serial, _, rest = line.strip().partition(" " if "\t" not in line else "\t")
        rest = rest.strip()
        if not serial or not rest or line.startswith(("List of", "*")):
            continue
        state = "no permissions" if rest.startswith("no permissions") else rest.split()[0]
        models = [word.removeprefix("model:") for word in rest.split() if word.startswith("model:")]
        devices.append(Listed(serial, state, models[0] if models else ""))
    return devices


_ADVICE = {
    "unauthorized": "unlock its screen and allow USB debugging for this computer (no question there? adb kill-server)",
    "authorizing": "unlock its screen and allow USB debugging for this computer",
    "offline": "unplug it and plug it in again, or: adb reconnect",
    "no permissions": "this user may not open the USB device: apt install android-sdk-platform-tools-common, "
    "join the group plugdev, plug it in again",
}


def find_device(serial: str | None = None) -> Device:
    """The device to use: `serial`, else ANDROID_SERIAL, else the only one. DeviceError says why there is none."""
    adb = adb_program()
    serial = serial or os.environ.get("ANDROID_SERIAL") or None
    listed = list_devices(adb)
    online = [d for d in listed if d.state == "device"]
    if serial is None:
        if len(online) > 1:
            names = ", ".join(map(str, online))
            raise DeviceError(f"{len(online)} devices: name one with -s or ANDROID_SERIAL: {names}")
        if not listed:
            raise DeviceError(
                "no device: plug it in and turn on USB debugging (Settings, About phone: tap the build number seven "
                "times; then System, Developer options), or: adb connect ADDRESS"
            )
        chosen = online[0] if online else listed[0]
    else:
        by_serial = {d.serial: d for d in listed}
        if serial not in by_serial:
            known = ", ".join(by_serial) or "no device at all"
            raise DeviceError(f"{serial}: no such device; adb sees {known}")
        chosen = by_serial[serial]
    if chosen.state != "device":
        advice = _ADVICE.get(chosen.state, "start it as usual, unlocked and with USB debugging on")
        raise DeviceError(f"{chosen.serial}: {chosen.state}: {advice}")
    return Device(adb, chosen.serial)


Progress = Callable[[int, int, str], None]


class Device:
    """One device, and what is done with it."""

    def __init__(self, adb: str, serial: str) -> None:
        self.serial = serial
        self._adb = [adb, "-s", serial]

    def shell(self, script: str) -> str:
        """What a script prints on the device. DeviceError when it fails.

        The first version of adb's shell loses exit codes, so the script says its own.
        """
        marker = f"nanollm-{secrets.token_hex(8)}:"
        done = subprocess.run(
            [*self._adb, "shell", f"{script}\nprintf '{marker}%d' $?"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        text, found, code = done.stdout.decode(errors="replace").replace("\r\n", "\n").partition(marker)
        if not found:
            raise DeviceError(f"{self.serial}: {_last_line(done.stderr) or 'the connection was lost'}")
        if code.strip() != "0":
            raise DeviceError(f"{self.serial}: {_last_line(done.stderr) or _last_line(text.encode()) or script}")
        return text

    def abi(self) -> str:
        """The first of the device's ABIs that nanollm can be built for."""
        text = self.shell("getprop ro.product.cpu.abilist; getprop ro.product.cpu.abi")
        names = [name for name in text.replace("\n", ",").split(",") if name]
        for name in names:
            if name in ABIS:
                return name
        raise DeviceError(
            f"{self.serial}: its processor is {', '.join(names) or 'unknown'}, expected {', '.join(ABIS)}"
        )

    def free_bytes(self) -> int | None:
        """Bytes that are free for us; None when the device's df cannot be read."""
        lines = self.shell(f"df -k {shlex.quote(str(Path(DIRECTORY).parent))}").splitlines()
        head = lines[0].split() if lines else []
        column = next((i for i, word in enumerate(head) if word.startswith("Avail")), None)
        if column is None or len(lines) < 2:
            return None
        words = " ".join(lines[1:]).split()  # a long name may stand on a line of its own
        return int(words[column]) * 1024 if column < len(words) and words[column].isdigit() else None

    def models(self) -> list[str]:
        """Names of the models on the device, the one last used first."""
        text = self.shell(f"cd {DIRECTORY}/models 2>/dev/null && ls -t -- *.gguf 2>/dev/null; true")
        return text.split("\n")[:-1]

    def touch(self, name: str) -> None:
        """Makes a model the one last used."""
        remote = f"{DIRECTORY}/{name}"
        digest = self._state(remote)[1]
        self.shell(f"touch {shlex.quote(remote)}")
        if digest is not None:
            self._remember(remote, digest)

    def push(self, local: Path, name: str, progress: Progress, is_program: bool = False) -> bool:
        """Brings a file to DIRECTORY/name; False when it is there already, by size and SHA-256.

        It is written under another name and renamed when it is whole.
        """
        size, remote = local.stat().st_size, f"{DIRECTORY}/{name}"
        known_size, known_hash = self._state(remote)
        if known_size == size and known_hash == sha256(local):
            return False
        free = self.free_bytes()
        if free is not None and free < size + _SPARE_BYTES:
            raise DeviceError(
                f"{self.serial}: {free >> 20} MiB are free, {(size + _SPARE_BYTES) >> 20} MiB are needed; "
                f"what is there: adb shell ls -l {DIRECTORY}/models"
            )
        q, part = shlex.quote(remote), shlex.quote(f"{remote}.part")
        self.shell(f"mkdir -p {shlex.quote(str(Path(remote).parent))}")
        try:
            with self._watched(f"{remote}.part", size, local.name, progress):
                done = subprocess.run(
                    [*self._adb, "push", str(local.absolute()), f"{remote}.part"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                )
            if done.returncode != 0:
                why = _last_line(done.stderr) or _last_line(done.stdout) or f"exit code {done.returncode}"
                raise DeviceError(f"{self.serial}: {local.name}: {why}")
            arrived_size, arrived_hash = self._state(f"{remote}.part")
            if arrived_size != size or arrived_hash not in (None, sha256(local)):
                raise DeviceError(f"{self.serial}: {local.name}: damaged on its way, please try again")
            mode = f"chmod 755 {part} && " if is_program else ""
            self.shell(f"{mode}mv -f {part} {q}")
            self._remember(remote, sha256(local))
        except BaseException:
            with suppress(Exception):
                self.shell(f"rm -f {part}")
            raise
        return True

    def _state(self, remote: str) -> tuple[int | None, str | None]:
        """Size and SHA-256 of a file on the device; None for what is not known. Hashing gigabytes takes a phone
        seconds, so the hash is kept beside the file with the size and the time that it belongs to."""
        q, kept = shlex.quote(remote), shlex.quote(f"{remote}.sha256")
        lines = self.shell(f"stat -c '%s %Y' {q} 2>/dev/null && cat {kept} 2>/dev/null; true").splitlines()
        if not lines:
            return None, None
        size = int(lines[0].split()[0])
        if len(lines) > 1 and lines[1].partition(" ")[2] == lines[0]:
            return size, lines[1].partition(" ")[0]
        words = self.shell(f"sha256sum < {q} 2>/dev/null; true").split()  # given a name, it may print it escaped
        return size, words[0] if words else None

    def _remember(self, remote: str, digest: str) -> None:
        q = shlex.quote(remote)
        self.shell(f"echo {digest} $(stat -c '%s %Y' {q}) > {shlex.quote(f'{remote}.sha256')}")

    @contextmanager
    def _watched(self, remote: str, size: int, what: str, progress: Progress) -> Iterator[None]:
        """Reports how much of a file has arrived, by looking at it while adb pushes."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL_SECONDS):
                with suppress(DeviceError, ValueError):
                    text = self.shell(f"stat -c %s {shlex.quote(remote)} 2>/dev/null || echo 0")
                    if not over.is_set():
                        progress(min(int(text), size), size, what)

        progress(0, size, what)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        progress(size, size, what)

    def run(self, words: Sequence[str], write: Callable[[bytes], None], stdin: int = subprocess.DEVNULL) -> int:
        """Runs nanollm-run with `words` in DIRECTORY and returns its exit code. `write` gets what it prints, as it
        comes; stderr is ours. The first Ctrl-C interrupts it there, the second kills it."""
        mark = f"nanollm-{secrets.token_hex(8)}:"
        start = shlex.quote(f'printf \'{mark}%d\\n\' $$; exec "$0" "$@"')
        script = f"cd {DIRECTORY} && sh -c {start} ./{PROGRAM} {shlex.join(words)}; printf '{mark}%d' $?"
        # A process group of its own: Ctrl-C in the terminal is for this process to pass on.
        adb = subprocess.Popen(
            [*self._adb, "shell", script], stdin=stdin, stdout=subprocess.PIPE, process_group=0, bufsize=0
        )
        assert adb.stdout is not None
        output = _Marked(mark.encode(), write)
        interrupted = False
        try:
            while True:
                try:
                    if not (piece := adb.stdout.read(65536)):
                        break
                    output.feed(piece)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    self._kill("INT", output.pid)
        except BaseException:
            with suppress(Exception):
                self._kill("KILL", output.pid)
            raise
        finally:
            adb.stdout.close()
            if output.code is None:
                adb.kill()
            adb.wait()
        if output.code is None:
            raise DeviceError(f"{self.serial}: the connection was lost")
        return output.code

    def run_in_terminal(self, words: Sequence[str]) -> int:
        """The same with a terminal on the device, for conversations: adb passes keys and the exit code on."""
        script = f"cd {DIRECTORY} && ./{PROGRAM} {shlex.join(words)}"
        return subprocess.run([*self._adb, "shell", "-t", script], check=False).returncode

    def _kill(self, signal: str, pid: int | None) -> None:
        if pid is not None:
            self.shell(f"kill -{signal} {pid} 2>/dev/null; true")


class _Marked:
    """What a program prints, between a first line `mark` PID and, without a line end before it, `mark` CODE."""

    def __init__(self, mark: bytes, write: Callable[[bytes], None]) -> None:
        self._mark, self._write = mark, write
        self._held = b""
        self._is_past = False
        self.pid: int | None = None

    def feed(self, piece: bytes) -> None:
        self._held += piece
        if self.pid is None:
            line, end, rest = self._held.partition(b"\n")
            if not end:
                return
            self.pid, self._held = int(line.strip().removeprefix(self._mark)), rest
        if self._is_past:
            return
        text, found, rest = self._held.partition(self._mark)
        if found:
            self._is_past = True
            self._held = rest
        else:  # what may be the mark's beginning waits
            n = next((n for n in range(len(self._mark) - 1, 0, -1) if text.endswith(self._mark[:n])), 0)
            text, self._held = text[: len(text) - n], text[len(text) - n :]
        if text:
            self._write(text)

    @property
    def code(self) -> int | None:
        """The exit code; None when the second mark did not come."""
        digits = self._held.strip()
        return int(digits) if self._is_past and digits.isdigit() else None


def _last_line(data: bytes) -> str:
    lines = data.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


# ------------------------------------------------------------------ hashes


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits, remembered between runs by path, size and time of change."""
    stat = path.stat()
    key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
    memory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanollm" / "sha256.json"
    known: dict[str, list[int | str]] = {}
    with suppress(OSError, ValueError, TypeError):
        found = json.loads(memory.read_text(encoding="utf-8"))
        known = {name: entry for name, entry in dict(found).items() if Path(name).exists()}
    entry = known.get(key)
    if entry is not None and entry[:2] == state:
        return str(entry[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # a file system that cannot be written to costs time only
        memory.parent.mkdir(parents=True, exist_ok=True)
        part = memory.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known | {key: [*state, digest]}), encoding="utf-8")
        part.replace(memory)
    return digest


# ------------------------------------------------------------------ binary


def find_binary(folder: Path, abi: str) -> Path:
    """nanollm-run for `abi` in a folder, in the folder's own for that ABI, in a build folder, or the file itself."""
    places = [folder / abi / PROGRAM, folder / PROGRAM, folder / "bin" / PROGRAM, folder / "apps/run" / PROGRAM, folder]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DeviceError(f"{folder}: no {PROGRAM} in it, nor in {folder / abi}")
    check_binary(found, abi)
    return found


def check_binary(path: Path, abi: str) -> None:
    """DeviceError unless the file is a program for the processor of `abi`."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") != _TARGETS[abi][1]:
        raise DeviceError(f"{path}: no program for {abi}")


def find_source(folder: str | None) -> Path:
    """The root of nanollm's source tree: `folder`, or above the current one, or where the package lies."""
    given = [Path(folder)] if folder else [Path.cwd(), *Path.cwd().parents, Path(__file__).parents[1]]
    for place in given:
        if (place / "src/ggml_core").is_dir() and (place / "apps/run").is_dir():
            return place.resolve()
    where = folder or "here"
    raise DeviceError(
        f"{where}: not nanollm's source tree, from which {PROGRAM} is built: name it with --source, "
        f"or a folder with {PROGRAM} with --binary"
    )


def toolchain_of(abi: str) -> str:
    """The file in toolchains/ to build with, without its ending: the NDK's where ANDROID_NDK is set, else zig's."""
    return f"android-{abi}" if os.environ.get("ANDROID_NDK") else _TARGETS[abi][0]


def build_folder(source: Path, abi: str) -> Path:
    """Where nanollm-run is built: one folder for each toolchain, since CMake keeps the first one it sees."""
    return source / "build" / f"adb-{toolchain_of(abi)}"


def build(source: Path, abi: str) -> Path:
    """Builds nanollm-run for `abi` in the source tree's build folder, where ANDROID_NDK is set with that NDK, else with
    zig (Python package ziglang) as a static program; returns its path."""
    folder = build_folder(source, abi)
    toolchain = source / "toolchains" / f"{toolchain_of(abi)}.cmake"
    if not toolchain.is_file():
        raise DeviceError(f"{abi}: there is no toolchain file {toolchain}")
    options = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DCMAKE_BUILD_TYPE=Release"]
    if not os.environ.get("ANDROID_NDK"):
        options.append(f"-DNANOLLM_ZIG={_zig()}")
    ninja = _tool("ninja")
    if ninja:
        options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    cmake = _tool("cmake")
    if cmake is None:
        raise DeviceError("cmake: no such program; pip install cmake ninja")
    _quietly([cmake, "-S", str(source), "-B", str(folder), *options])
    _quietly([cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", PROGRAM])
    return find_binary(folder, abi)


def _zig() -> str:
    found = _tool("zig")
    if found is None:
        with suppress(ImportError):
            import ziglang  # type: ignore[import-not-found, import-untyped, unused-ignore]

            found = shutil.which("zig", path=str(Path(ziglang.__file__).parent))
    if found is None:
        raise DeviceError(
            f"{PROGRAM} has to be built for the device: pip install ziglang cmake ninja (or set ANDROID_NDK), "
            f"or name a folder with {PROGRAM} with --binary"
        )
    return found


def _tool(name: str) -> str | None:
    """A program beside the running Python, or on the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _quietly(words: Sequence[str]) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        wrong = [line for line in output.splitlines() if "rror" in line]
        line = (wrong or output.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise DeviceError(f"building failed: {line.strip()} ({shlex.join(words)} tells more)")

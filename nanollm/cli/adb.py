"""`nanollm adb`: models on a phone or a watch."""

from __future__ import annotations

import argparse
import codecs
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import _core, adb
from ..export import export
from ..model import default_model_path
from ..models import PROGRAM_KEY, sidecar_path
from .common import EXIT_OK, ArgumentParser, UsageError, emit, is_terminal, log
from .options import build_parser
from .progress import progress_of

_COMMANDS = """\
commands:
  devices                        what adb sees, and what to do about those that cannot be used
  build                          nanollm-run for the device (or --abi NAME), and where it lies
  push MODEL [MODEL...]          bring models there, unless they are there already (size and SHA-256)
  run [MODEL] -p TEXT [options]  generate there, with any option of nanollm-run (as of nanollm-cli)
  bench [MODEL] [options]        how fast it is there: nanollm-run bench
  fit [MODEL] [options]          the memory it takes there, and whether it fits: nanollm-run fit
  info [MODEL] [options]         what the file holds, and the processor's levels: nanollm-run info

MODEL is a GGUF file here, which is pushed first where needed, or the name of one that is on the device; without it,
the one last used there, or the model that is part of the package.

examples:
  nanollm adb run model.gguf -p "How is Boston" -n 64
  nanollm adb run -p "And London" --temp 0         the same model again
  nanollm adb run chat.gguf -cnv                   a conversation, in this terminal
  nanollm adb -s emulator-5554 bench model.gguf    one of several devices

A file without a program inside gets one beside it on the device, as nanollm export --sidecar writes it.
Everything lies in /data/local/tmp/nanollm on the device (adb shell rm -r /data/local/tmp/nanollm takes it away).
ADB names the adb program, ANDROID_SERIAL the device. nanollm-run is built with zig (pip install ziglang cmake ninja),
or with the NDK that ANDROID_NDK names. Ctrl-C ends the program there, and its exit code is this command's.
"""

_ON_DEVICE = ("run", "bench", "fit", "info")


def main(argv: Sequence[str]) -> int:
    """Options before the command are ours, those after run, bench, fit and info are nanollm-run's."""
    parser = ArgumentParser(
        "nanollm adb",
        "Runs models on a phone or a watch through adb: no Python there, no app, one file and one small program.",
        _COMMANDS,
        usage="nanollm adb [options] COMMAND [MODEL] [options of nanollm-run]",
    )
    add = parser.add_argument
    add("-s", "--serial", metavar="SERIAL", help="the device (default: ANDROID_SERIAL, or the only one)")
    add("--binary", metavar="DIR", help="a folder that holds nanollm-run, or ABI/nanollm-run, instead of building it")
    add("--source", metavar="DIR", help="nanollm's source tree, to build from (default: the one around here)")
    add("--abi", choices=adb.ABIS, help="what to build for (default: what the device asks for)")
    add("-q", "--quiet", action="store_true", help="no word of what is pushed and built")
    add("-h", "--help", action="help", help="print this and exit")
    own, command, rest = _split(parser, argv)
    args = parser.parse(own)
    if command is not None and _has(rest, "-h", "--help"):
        parser.print_help()
        return EXIT_OK
    if command in _ON_DEVICE:
        return _run(args, command, rest)
    if command == "devices":
        return _devices(rest)
    if command == "build":
        return _build(args, rest)
    if command == "push":
        return _push(args, rest)
    if command is None:
        parser.print_help()
        return EXIT_OK
    raise UsageError(f"{command!r}: no such command, known are devices, build, push, {', '.join(_ON_DEVICE)}")


def _split(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """Our options, the command, and what follows it."""
    i = 0
    while i < len(argv):
        if not argv[i].startswith("-"):
            return list(argv[:i]), argv[i], list(argv[i + 1 :])
        i += 2 if _takes_value(parser, argv[i]) else 1
    return list(argv), None, []


def _takes_value(parser: argparse.ArgumentParser, word: str) -> bool:
    name = word if word in parser._option_string_actions else word.replace("_", "-")
    action = parser._option_string_actions.get(name)
    return action is not None and action.nargs != 0


def _nothing_after(rest: Sequence[str], command: str) -> None:
    if rest:
        raise UsageError(f"{rest[0]!r}: nanollm adb {command} takes no words after it")


def _devices(rest: Sequence[str]) -> int:
    _nothing_after(rest, "devices")
    listed = adb.list_devices(adb.adb_program())
    for device in listed:
        emit(f"{device.serial}\t{device.state}\t{device.model}\n")
    if not any(device.state == "device" for device in listed):
        adb.find_device(listed[0].serial if listed else None)  # says what to do
    return EXIT_OK


def _binary(args: argparse.Namespace, abi: str) -> Path:
    if args.binary is not None:
        return adb.find_binary(Path(args.binary), abi)
    source = adb.find_source(args.source)
    if not args.quiet and not adb.build_folder(source, abi).is_dir():
        log(f"building {adb.PROGRAM} for {abi}; the first time this takes minutes")
    return adb.build(source, abi)


def _build(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _nothing_after(rest, "build")
    emit(f"{_binary(args, args.abi or adb.find_device(args.serial).abi())}\n")
    return EXIT_OK


def _push(args: argparse.Namespace, rest: Sequence[str]) -> int:
    if not rest or any(word.startswith("-") for word in rest):
        raise UsageError("usage: nanollm adb push MODEL [MODEL...]")
    for word in rest:
        _check_model(Path(word))
    device = adb.find_device(args.serial)
    _bring(device, _binary(args, args.abi or device.abi()), adb.PROGRAM, args.quiet, is_program=True)
    for word in rest:
        _bring_model(device, Path(word), args.quiet)
    return EXIT_OK


def _check_model(path: Path) -> None:
    """The operating system's own words when it is no file to read."""
    with path.open("rb"):
        pass


def _bring(device: adb.Device, local: Path, name: str, quiet: bool, is_program: bool = False) -> None:
    with progress_of(quiet) as progress:
        pushed = device.push(local, name, progress, is_program)
    if not quiet:
        log(f"{local.name}: {'pushed' if pushed else 'on the device already'}")


def _bring_model(device: adb.Device, local: Path, quiet: bool) -> str:
    """Brings a model, with a sidecar where it has no program inside, and returns its name on the device."""
    name = f"models/{local.name}"
    with TemporaryDirectory() as folder:
        sidecar = sidecar_path(local)
        with _core.Gguf.open(local) as gguf:
            is_whole = PROGRAM_KEY in gguf
        if not is_whole and not sidecar.is_file():
            stand_in = Path(folder) / local.name  # the model's own folder stays as it is
            stand_in.symlink_to(local.resolve())
            sidecar = export(stand_in, sidecar=True).path
        if not is_whole:
            _bring(device, sidecar, f"{name}.nanollm", quiet)
    _bring(device, local, name, quiet)
    return name


def _run(args: argparse.Namespace, command: str, rest: list[str]) -> int:
    model, words = _model_of(rest)
    prompt_file, words = _prompt_file_of(words) if command == "run" else (None, words)
    if model is not None and (Path(model).exists() or "/" in model):
        _check_model(Path(model))
    is_open = command == "run" and not _has(words, "-p", "--prompt", "-f", "--file") and prompt_file is None
    is_talk = command == "run" and _has(words, "-cnv", "--conversation") and is_terminal(sys.stdin)
    if is_open and not is_talk and is_terminal(sys.stdin):
        raise UsageError("no prompt: give -p or -f, pipe one in, or talk with -cnv")
    device = adb.find_device(args.serial)
    _bring(device, _binary(args, args.abi or device.abi()), adb.PROGRAM, args.quiet, is_program=True)
    name = _model_there(device, model, args.quiet)
    words = [*([] if command == "run" else [command]), "-m", name, *words]
    if is_talk:
        return device.run_in_terminal(words)
    stdin = None if is_open or _has(words, "-f", "--file") else subprocess.DEVNULL
    with TemporaryDirectory() as folder:
        if prompt_file is not None:
            return _run_with_file(device, words, Path(prompt_file), Path(folder))
        return device.run(words, _writer(), stdin=sys.stdin.fileno() if stdin is None else stdin)


def _run_with_file(device: adb.Device, words: list[str], local: Path, folder: Path) -> int:
    """Runs with a prompt from a file here, which lies on the device for that time."""
    copy = folder / f"prompt-{adb.sha256(local)[:16]}.txt"
    copy.write_bytes(local.read_bytes())
    device.push(copy, copy.name, lambda done, total, what: None)
    try:
        return device.run([*words, "-f", copy.name], _writer())
    finally:
        device.shell(f"rm -f {adb.DIRECTORY}/{copy.name} {adb.DIRECTORY}/{copy.name}.sha256")


def _model_there(device: adb.Device, model: str | None, quiet: bool) -> str:
    """The model's name on the device, where it is brought first if it is a file here; None: the one last used."""
    there = device.models() if model is None or not Path(model).exists() else []
    if model is None:
        name = f"models/{there[0]}" if there else _bring_model(device, Path(default_model_path()), quiet)
    elif Path(model).exists():
        name = _bring_model(device, Path(model), quiet)
    elif model in there:
        name = f"models/{model}"
    else:
        known = ", ".join(there) or "no model"
        raise adb.DeviceError(f"{model}: no such file here, and on the device there is {known}")
    device.touch(name)
    return name


def _writer() -> Callable[[bytes], None]:
    """What puts the device's bytes on stdout: as they are, or as clean text where that is a terminal."""
    if not is_terminal(sys.stdout):

        def write(data: bytes) -> None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

        return write
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return lambda data: emit(decoder.decode(data))


# --------------------------------------------------- nanollm-run's command line

_GENERATION = build_parser()  # nanollm-cli's options, which are nanollm-run's


def _walk(words: Sequence[str]) -> list[tuple[int, str, int]]:
    """The options among `words`: (index, name, words it takes up). A value is never mistaken for an option."""
    found, i = [], 0
    while i < len(words):
        name, equals, _ = words[i].partition("=")
        n = 1 if equals or not _takes_value(_GENERATION, name) else 2
        found.append((i, name, n))
        i += n
    return found


def _has(words: Sequence[str], *names: str) -> bool:
    return any(name in names for _, name, _ in _walk(words))


def _taken(words: list[str], *names: str) -> tuple[str | None, list[str]]:
    """The value of an option's last use, and the words without any."""
    value, kept = None, []
    for i, name, n in _walk(words):
        piece = words[i : i + n]
        if name in names:
            _, equals, tail = piece[0].partition("=")
            if not equals and n > len(piece):
                raise UsageError(f"{name}: expected a value")
            value = tail if equals else piece[1]
        else:
            kept += piece
    return value, kept


def _model_of(rest: list[str]) -> tuple[str | None, list[str]]:
    """The first word or the value of -m, and the rest."""
    first = rest[0] if rest and not rest[0].startswith("-") else None
    named, words = _taken(rest[1:] if first is not None else rest, "-m", "--model")
    if first is not None and named is not None:
        raise UsageError("two models: give MODEL or -m")
    return first or named, words


def _prompt_file_of(words: list[str]) -> tuple[str | None, list[str]]:
    """A prompt's file here; stdin (-) stays with nanollm-run."""
    value, kept = _taken(words, "-f", "--file")
    return (None, words) if value in (None, "-") else (value, kept)

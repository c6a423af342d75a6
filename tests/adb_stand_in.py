#!/usr/bin/env python3
"""Stands in for adb and the device behind it: a folder is the device's storage, and programs of the device's processor
run under qemu. Enough of the real thing for `nanollm adb`; what the environment says makes it misbehave.

  STAND_IN_ROOT      the folder; /data/local/tmp is below it
  STAND_IN_ABILIST   ro.product.cpu.abilist (default: arm64-v8a,armeabi-v7a,armeabi)
  STAND_IN_EMULATOR  what programs are run with (default: qemu-aarch64-static)
  STAND_IN_DEVICES   the lines of `adb devices -l`, \\n between them (default: one phone)
  STAND_IN_FREE_KB   what df says is free (default: 4194304)
  STAND_IN_DAMAGE    pushes lose the last byte of files whose name contains this
  STAND_IN_OLD       no exit codes and no sha256sum, as before Android 7

Every call is a line of JSON in STAND_IN_ROOT/calls.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ENV = os.environ
ROOT = Path(ENV["STAND_IN_ROOT"])


def main(words: list[str]) -> int:
    with (ROOT / "calls").open("a", encoding="utf-8") as log:
        log.write(json.dumps(words) + "\n")
    if words[:1] == ["-s"]:
        words = words[2:]
    if words[0] == "devices":
        default = "phone1\tdevice usb:1-1 product:p model:Pixel_8 device:d transport_id:1"
        print("List of devices attached\n" + ENV.get("STAND_IN_DEVICES", default).replace("\\n", "\n") + "\n")
        return 0
    if words[0] == "push":
        return push(Path(words[1]), words[2])
    if words[0] == "shell":
        return shell([word for word in words[1:] if word != "-t"])
    print(f"adb: unknown command {words[0]}", file=sys.stderr)
    return 1


def push(local: Path, remote: str) -> int:
    target = ROOT / remote.lstrip("/")
    if not target.parent.is_dir():
        print(f"adb: error: failed to copy '{local}' to '{remote}': no such directory", file=sys.stderr)
        return 1
    shutil.copyfile(local, target)
    damage = ENV.get("STAND_IN_DAMAGE")
    if damage and damage in local.name:
        target.write_bytes(local.read_bytes()[:-1] + b"?")
    print(f"{local}: 1 file pushed")
    return 0


def shell(words: list[str]) -> int:
    tools = ROOT / "tools"
    if not tools.is_dir():
        make_tools(tools)
    script = " ".join(words).replace("/data/local/tmp", str(ROOT / "data/local/tmp"))
    script = script.replace(" ./nanollm-run ", f" {ENV.get('STAND_IN_EMULATOR', 'qemu-aarch64-static')} ./nanollm-run ")
    sh = shutil.which("mksh") or "sh"  # Android's own shell where it is installed
    done = subprocess.run([sh, "-c", script], env={**ENV, "PATH": f"{tools}:{ENV['PATH']}"}, check=False)
    return 0 if "STAND_IN_OLD" in ENV else done.returncode


def make_tools(folder: Path) -> None:
    """What a device has and a PC has not, or not so."""
    folder.mkdir(parents=True)
    programs = {
        "getprop": f'[ "$1" = ro.product.cpu.abilist ] && echo "{ENV.get("STAND_IN_ABILIST", DEFAULT_ABIS)}" || echo',
        "df": f'printf "Filesystem 1K-blocks Used Available Use%% Mounted on\\n/dev/block/dm-5\\n'
        f'  8388608 4 {ENV.get("STAND_IN_FREE_KB", "4194304")} 1%% /data\\n"',
    }
    if "STAND_IN_OLD" in ENV:
        programs["sha256sum"] = 'echo "sh: sha256sum: not found" >&2; exit 127'
    for name, text in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


DEFAULT_ABIS = "arm64-v8a,armeabi-v7a,armeabi"

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

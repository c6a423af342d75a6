"""`nanollm adb` with a stand-in for adb: a folder is the device, and its programs run under qemu."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import terminal

from nanollm import adb

STAND_IN = Path(__file__).with_name("adb_stand_in.py")
HERE = "data/local/tmp/nanollm"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in's folder."""
    root = tmp_path / "phone"
    (root / "data/local/tmp").mkdir(parents=True)
    monkeypatch.setenv("ADB", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_ROOT", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.delenv("ANDROID_NDK", raising=False)
    yield root
    assert not list(root.rglob("*.part"))


def calls(phone: Path, command: str) -> list[list[str]]:
    lines = [json.loads(line) for line in (phone / "calls").read_text().splitlines()]
    return [words for words in lines if command in words]


def nanollm(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return terminal.run("nanollm", "adb", *words, **options)


def failure(*words: object, **options: object) -> str:
    done = nanollm(*words, **options)
    assert done.returncode in (1, 2), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# -------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("", ["no device", "USB debugging", "adb connect"]),
        ("phone1\tunauthorized usb:1-1", ["phone1: unauthorized", "allow USB debugging"]),
        ("phone1\toffline", ["phone1: offline", "plug it in again"]),
        ("phone1\tno permissions (user in plugdev group); see [x]", ["phone1: no permissions", "plugdev"]),
        ("phone1\trecovery usb:1-1", ["phone1: recovery", "start it as usual"]),
        (
            "phone1\tdevice model:Pixel_8\\nemulator-5554  device model:sdk",
            ["2 devices", "-s or ANDROID_SERIAL", "phone1 (Pixel_8)", "emulator-5554 (sdk)"],
        ),
    ],
)
def test_without_a_device_it_says_what_to_do(
    phone: Path, monkeypatch: pytest.MonkeyPatch, listed: str, words: list[str], tiny: Path
) -> None:
    monkeypatch.setenv("STAND_IN_DEVICES", listed)
    text = failure("run", tiny, "-p", "Once")
    assert all(word in text for word in words), text


def test_one_of_several_devices(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DEVICES", "a\tdevice model:A\\nb\tdevice model:B\\nc\toffline")
    assert adb.find_device("b").serial == "b"
    monkeypatch.setenv("ANDROID_SERIAL", "a")
    assert adb.find_device().serial == "a"
    monkeypatch.setenv("ANDROID_SERIAL", "d")
    with pytest.raises(adb.DeviceError, match="d: no such device; adb sees a, b, c"):
        adb.find_device()
    monkeypatch.delenv("ANDROID_SERIAL")
    monkeypatch.setenv("STAND_IN_DEVICES", "a\tdevice model:A\\nc\toffline")
    assert adb.find_device().serial == "a"  # the only one that is online
    done = nanollm("devices")
    assert done.stdout == "a\tdevice\tA\nc\toffline\t\n"
    assert done.returncode == 0


def test_without_adb_it_says_what_to_install(phone: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setenv("ADB", "/nowhere/adb")
    text = failure("push", tiny)
    assert "/nowhere/adb: no such program" in text
    assert "apt install adb" in text


def test_help_and_mistakes(phone: Path) -> None:
    assert "nanollm adb run model.gguf -p" in nanollm("--help").stdout
    assert nanollm().returncode == 0
    assert nanollm("run", "--help").stdout == nanollm("--help").stdout
    assert not (phone / "calls").exists()
    assert "'frobnicate': no such command" in failure("frobnicate")
    assert "usage: nanollm adb push" in failure("push")
    assert "two models" in failure("run", "a.gguf", "-m", "b.gguf", "-p", "x")
    assert "nothere.gguf" in failure("push", "nothere.gguf")
    assert "takes no words" in failure("devices", "please")


def test_a_processor_we_have_nothing_for(phone: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setenv("STAND_IN_ABILIST", "mips64,mips")
    assert "its processor is mips64, mips" in failure("push", tiny)


def test_a_binary_for_another_processor_is_refused(phone: Path, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "nanollm-run").write_bytes(b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little"))
    assert "no program for arm64-v8a" in failure("--binary", tmp_path, "push", tiny)
    assert "no nanollm-run in it" in failure("--binary", tmp_path / "cache", "push", tiny)


# ------------------------------------------------------------------- pushing


@pytest.fixture
def device(phone: Path) -> adb.Device:
    return adb.find_device()


def _silent(done: int, total: int, what: str) -> None:
    assert 0 <= done <= total


def test_pushes_what_is_not_there(phone: Path, device: adb.Device, tmp_path: Path) -> None:
    local = tmp_path / "a model's name.gguf"
    local.write_bytes(b"one" * 1000)
    assert device.push(local, f"models/{local.name}", _silent)
    there = phone / HERE / "models" / local.name
    assert there.read_bytes() == local.read_bytes()
    assert not device.push(local, f"models/{local.name}", _silent)
    assert len(calls(phone, "push")) == 1

    local.write_bytes(b"two" * 1000)  # the same size
    os.utime(local, ns=(1, 1))
    assert device.push(local, f"models/{local.name}", _silent)
    assert there.read_bytes() == local.read_bytes()

    there.write_bytes(b"six" * 1000)  # changed behind our back: what was remembered does not count
    os.utime(there, (1, 1))
    assert device.push(local, f"models/{local.name}", _silent)
    assert there.read_bytes() == local.read_bytes()

    there.with_name(f"{local.name}.sha256").unlink()  # put there by hand: hashed on the device
    assert not device.push(local, f"models/{local.name}", _silent)


@pytest.mark.parametrize("name", ["-t.gguf", "a\\b.gguf", "two\nlines.gguf"])
def test_names_that_are_none_of_the_shells_business(
    phone: Path, device: adb.Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b"one")
    monkeypatch.chdir(tmp_path)
    assert device.push(Path(name), f"models/{name}", _silent)
    assert calls(phone, "push")[0][3] == str(tmp_path / name)  # what starts with a dash would be an option of adb
    assert (phone / HERE / "models" / name).read_bytes() == b"one"
    assert "\n".join(device.models()) == name


def test_hashes_of_files_that_are_gone_are_forgotten(phone: Path, tmp_path: Path) -> None:
    memory = tmp_path / "cache/nanollm/sha256.json"
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
        digest = adb.sha256(tmp_path / name)
        assert list(json.loads(memory.read_text())) == [str(tmp_path / name)]
        (tmp_path / name).unlink()
    memory.write_text("[1]")  # no dictionary
    (tmp_path / "c").write_bytes(b"x")
    assert adb.sha256(tmp_path / "c") == digest


def test_another_toolchain_has_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANDROID_NDK", raising=False)
    with_zig = adb.build_folder(Path(), "arm64-v8a")
    monkeypatch.setenv("ANDROID_NDK", "ndk")
    assert adb.build_folder(Path(), "arm64-v8a") != with_zig


def test_an_old_device_without_sha256sum(phone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STAND_IN_OLD", "1")
    device = adb.find_device()
    local = tmp_path / "m.gguf"
    local.write_bytes(b"x" * 999)
    assert device.push(local, "m.gguf", _silent)
    assert not device.push(local, "m.gguf", _silent)
    with pytest.raises(adb.DeviceError, match="wrong"):
        device.shell("echo wrong >&2; false")


def test_a_push_that_fails_leaves_the_old_file(
    phone: Path, device: adb.Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "m.gguf"
    local.write_bytes(b"old")
    assert device.push(local, "m.gguf", _silent)
    local.write_bytes(b"newer")
    monkeypatch.setenv("STAND_IN_DAMAGE", "m.gguf")
    with pytest.raises(adb.DeviceError, match=r"m\.gguf: damaged on its way"):
        device.push(local, "m.gguf", _silent)
    assert (phone / HERE / "m.gguf").read_bytes() == b"old"
    assert sorted(p.name for p in (phone / HERE).iterdir()) == ["m.gguf", "m.gguf.sha256"]


def test_a_full_device(phone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STAND_IN_FREE_KB", "20480")
    device = adb.find_device()
    assert device.free_bytes() == 20480 * 1024
    local = tmp_path / "m.gguf"
    local.write_bytes(bytes(5 << 20))
    with pytest.raises(adb.DeviceError, match="20 MiB are free, 21 MiB are needed"):
        device.push(local, "m.gguf", _silent)
    assert not calls(phone, "push")


def test_marks_are_never_printed() -> None:
    for size in (1, 2, 3, 7, 100):
        out: list[bytes] = []
        output = adb._Marked(b"nano-12:", out.append)
        data = b"nano-12:4711\nnanonano-1nano-nano-12:130"
        for i in range(0, len(data), size):
            output.feed(data[i : i + size])
        assert b"".join(out) == b"nanonano-1nano-"
        assert (output.pid, output.code) == (4711, 130)
    assert adb._Marked(b"x", out.append).code is None


# ------------------------------------------------------------------- running

_PROMPTS = [
    "Once upon a time",
    " two  spaces ",
    'it\'s "quoted" `date` $HOME $(date) \\ % %s \\x',
    "line\nline\r\n\ttab; exit 3 & | > < * ? [a] {b} ~ #!",
    "Größe 你好 🙂 ​",
    "-m",
    "",
]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nanollm-run for arm64-v8a: NANOLLM_TEST_ARM64's, or built with zig from the source tree."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("no qemu-aarch64-static")
    given = os.environ.get("NANOLLM_TEST_ARM64")
    if given is not None:
        return adb.find_binary(Path(given), "arm64-v8a")
    pytest.skip("NANOLLM_TEST_ARM64 names no folder with nanollm-run for arm64-v8a")


def under_qemu(binary: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["qemu-aarch64-static", binary, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its program, under a name that shells do not like."""
    from nanollm.model import default_model_path

    path = tmp_path_factory.mktemp("models") / "it's a $model.gguf"
    shutil.copyfile(default_model_path(), path)
    return path


@pytest.mark.parametrize("prompt", _PROMPTS)
def test_the_same_text_as_run_by_hand(phone: Path, binary: Path, model: Path, prompt: str) -> None:
    words = ["-p", prompt, "-n", "4", "--temp", "0", "--no-escape", "-c", "64"]
    expected = under_qemu(binary, "-m", model, *words)
    done = subprocess.run(
        [terminal.command("nanollm"), "adb", "--binary", binary, "-q", "run", model, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout), done.stderr.decode()
    assert prompt == "" or expected.stdout


def test_once_there_it_is_found_again(phone: Path, binary: Path, model: Path, tmp_path: Path) -> None:
    first = nanollm("--binary", binary, "push", model)
    assert "nanollm-run: pushed" in first.stderr
    assert f"{model.name}: pushed" in first.stderr
    words = ["-p", "Once", "-n", "4", "--temp", "0", "-c", "64"]
    named = nanollm("--binary", binary, "run", model.name, *words)
    assert named.returncode == 0, named.stderr
    assert named.stdout.startswith(" upon a time")
    assert "on the device already" in named.stderr
    assert nanollm("--binary", binary, "-q", "run", *words).stdout == named.stdout
    assert nanollm("--binary", binary, "-q", "run", "-m", model, *words).stdout == named.stdout
    assert len(calls(phone, "push")) == 2

    story = tmp_path / "story.txt"
    story.write_text("Once", encoding="utf-8")
    assert nanollm("--binary", binary, "-q", "run", "-f", story, *words[2:]).stdout == named.stdout
    assert nanollm("--binary", binary, "-q", "run", *words[2:], stdin="Once").stdout == named.stdout
    assert sorted(p.name for p in (phone / HERE).iterdir()) == ["models", "nanollm-run", "nanollm-run.sha256"]
    assert "nothere.gguf: no such file here" in failure("--binary", binary, "-q", "run", "nothere.gguf", *words)


def test_exit_codes_and_errors_pass_through(phone: Path, binary: Path, model: Path) -> None:
    done = nanollm("--binary", binary, "-q", "run", model, "-p", "x", "--no-such-option")
    assert done.returncode == 2
    assert done.stderr.startswith("nanollm-run: error:")
    broken = model.with_name("broken.gguf")
    broken.write_bytes(b"GGUF nonsense")
    done = nanollm("--binary", binary, "-q", "run", broken, "-p", "x")
    assert done.returncode == 1
    assert "broken.gguf" in done.stderr


def test_bench_fit_and_info(phone: Path, binary: Path, model: Path) -> None:
    bench = nanollm("--binary", binary, "-q", "bench", model, "-p", "4", "-n", "2", "-r", "1", "-o", "json")
    assert bench.returncode == 0, bench.stderr
    assert len(json.loads(bench.stdout)) == 2
    fit = nanollm("--binary", binary, "-q", "fit", model, "--json")
    assert json.loads(fit.stdout)["fits"] is True
    info = nanollm("--binary", binary, "-q", "info", model)
    assert info.returncode == 0, info.stderr


def running_in(phone: Path) -> list[str]:
    """Processes whose current folder is the device's."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if link.readlink() == (phone / HERE).resolve():
                found.append(link.parent.name)
    return found


def test_text_streams_and_ctrl_c_ends_the_program_there(phone: Path, binary: Path, model: Path) -> None:
    words = ["run", model, "-p", "Once", "-n", "100000", "--ignore-eos", "--temp", "0", "-c", "4096"]
    process = subprocess.Popen(
        [terminal.command("nanollm"), "adb", "--binary", binary, "-q", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    seen = b""
    while len(seen) < 40:
        piece = process.stdout.read(16)
        assert piece, (seen, process.stderr and process.stderr.read())
        seen += piece
    assert process.poll() is None
    assert running_in(phone)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    for _ in range(100):
        if not running_in(phone):
            break
        time.sleep(0.1)
    assert not running_in(phone)


def test_a_file_without_a_program_gets_one_there(phone: Path, binary: Path, tiny: Path) -> None:
    words = ["run", tiny, "-p", "the", "-n", "4", "--temp", "0"]
    done = nanollm("--binary", binary, *words)
    assert done.returncode == 0, done.stderr
    assert f"{tiny.name}.nanollm: pushed" in done.stderr
    assert not tiny.with_name(f"{tiny.name}.nanollm").exists()
    again = nanollm("--binary", binary, *words)
    assert again.stdout == done.stdout
    assert "pushed" not in again.stderr


def test_a_conversation_in_a_terminal(phone: Path, binary: Path, chatty: Path) -> None:
    words = ["adb", "--binary", binary, "-q", "run", chatty, "-cnv", "--chat-template", "chatml", "-n", "4"]
    with terminal.Terminal("nanollm", *words, "--simple-io") as session:
        session.expect(">")
        session.send("Hi\n")
        session.expect(">")


def test_building_for_the_device(phone: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users do it, where zig and the source tree are at hand; the processor is this machine's, which is fastest."""
    pytest.importorskip("ziglang")
    if os.environ.get("NANOLLM_TEST_ARM64") is None:
        pytest.skip("slow the first time; runs where NANOLLM_TEST_ARM64 is set")
    if platform.machine() != "x86_64":
        pytest.skip("for x86-64")
    monkeypatch.setenv("STAND_IN_ABILIST", "x86_64,x86")
    monkeypatch.setenv("STAND_IN_EMULATOR", "env")
    source = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "nanollm", "adb", "--source", source, "run", model, "-p", "Once", "-n", "2", "-c", "64"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=phone,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

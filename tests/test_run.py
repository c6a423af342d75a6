"""nanollm-run, the native runner, as users run it: real processes, beside nanollm-cli."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import terminal
from conftest import write_tiny
from terminal import USAGE_ERRORS, Terminal, command, run

from nanollm import Model, _core, lora
from nanollm.convert import convert
from nanollm.export import export
from nanollm.model import default_model_path

ROOT = Path(__file__).parents[1]


def _build(folder: Path) -> Path:
    """Builds the native programs; skips where there is nothing to build them with."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no cmake or no C compiler: the native programs are not built")
    if not (ROOT / "apps" / "run").is_dir():
        pytest.skip("not in a checkout: the native programs' sources are not here")
    generator = ("-G", "Ninja") if shutil.which("ninja") else ()
    for step in (
        (cmake, "-S", str(ROOT), "-B", str(folder), *generator),
        (cmake, "--build", str(folder), "--target", "nanollm-run", "-j", "2"),
    ):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "apps" / "run" / "nanollm-run"


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program's path. $NANOLLM_RUN names one that is built already."""
    built = os.environ.get("NANOLLM_RUN")
    return built if built else str(_build(tmp_path_factory.mktemp("native")))


def with_program(path: Path) -> Path:
    """The file with its program and chat pieces in it."""
    out = path.with_name(f"{path.stem}-run.gguf")
    export(path, out)
    return out


@pytest.fixture(scope="session")
def tiny_run(tiny: Path) -> Path:
    return with_program(tiny)


@pytest.fixture(scope="session")
def chatty_run(chatty: Path) -> Path:
    return with_program(chatty)


@pytest.fixture(scope="session")
def stories_q8(stories: Path, data_dir: Path) -> Path:
    """stories260K as Q8_0; what its blocks do not fill is F16."""
    path = stories.with_name("stories-q8_0.gguf")
    convert(data_dir / "stories260K.bin", path, "q8_0", tokenizer=data_dir / "tok512.bin", report=lambda note: None)
    return path


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def assert_one_line_error(done: subprocess.CompletedProcess[str], code: int, *words: str, name: str = "") -> None:
    terminal.assert_one_line_error(done, code, *words, name=f"nanollm-run{name}")


# ------------------------------------------------------------------ the same as nanollm-cli


def assert_same(runner: str, *args: object, stdin: str | bytes = b"") -> str:
    """The same text and exit code as nanollm-cli; returns the text."""
    ours = run(runner, *args, stdin=stdin)
    theirs = run("nanollm-cli", *args, stdin=stdin)
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode), ours.stderr + theirs.stderr
    return ours.stdout


def test_stories_greedy_is_the_known_text(runner: str, stories: Path, stories_text: str) -> None:
    done = run(runner, "-m", stories, "--temp", 0, "-n", 256)
    assert done.returncode == 0
    assert done.stdout.startswith(stories_text)
    for args in (("-t", 1), ("-t", 3), ("-b", 1), ("-tb", 1), ("--deterministic",), ("--lookup", 6), ("-C", "1")):
        assert run(runner, "-m", stories, "--temp", 0, "-n", 256, *args).stdout == done.stdout, args


def test_every_level(runner: str, stories_q8: Path) -> None:
    for level in _core.cpu_levels():
        assert assert_same(runner, "-m", stories_q8, "--temp", 0, "-n", 100, "-p", "One day", "--cpu", level)


SAMPLERS = (
    (),
    ("--top-k", 0, "--typical", 0.9, "--temp", 1.1),
    ("--repeat-penalty", 1.3, "--presence-penalty", 0.2, "--frequency-penalty", 0.1, "--repeat-last-n", -1),
    ("--repeat-penalty", 1.2, "--repeat-last-n", 5, "--top-p", 0.5, "--min-p", 0.2),
    ("--mirostat", 1),
    ("--mirostat", 2, "--mirostat-lr", 0.2, "--mirostat-ent", 3),
    ("-l", "300+3", "-l", "301-inf", "-l", "300+1", "--ignore-eos"),
    ("--lookup", 4, "--temp", 0.5),
)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_same(runner: str, stories_q8: Path, sampler: tuple[object, ...]) -> None:
    for seed in (1, 2):
        text = assert_same(runner, "-m", stories_q8, "-s", seed, "-n", 80, "-p", "Once upon a time", *sampler)
        assert len(text) > 40


@pytest.mark.parametrize(
    "args",
    [
        ("-n", 400, "-r", "she", "-r", "."),
        ("-n", -2, "-c", 64),
        ("-n", -1),
        ("-n", 0),
        ("-n", 20, "-p", ""),
        ("-n", 20, "-p", r"a\nb\x21\\\xc3\xa9\q"),
        ("-n", 20, "--no-escape", "-p", r"a\nb\x21\\\xc3\xa9\q"),
        ("-n", 20, "-p", "ein Satz – é – 😀"),
        ("-n", 20, "-ctk", "q8_0", "-ctv", "f32"),
        ("-n", 20, "-ctk", "Q4_0", "-ctv", "q8_0"),
        ("-n", 20, "-cnv", "--chat-template", "chatml"),
        ("-n", 20, "-cnv", "--chat-template", "llama2", "-sys", r"Be\tbrief"),
        ("-n", 20, "-cnv", "--chat-template", "zephyr", "-sys", ""),
    ],
)
def test_options_mean_the_same(runner: str, stories_q8: Path, args: tuple[object, ...]) -> None:
    assert_same(runner, "-m", stories_q8, "-s", 7, *(() if "-p" in args else ("-p", "Lily")), *args)


def test_json_has_the_same_keys_and_counts(runner: str, tiny_run: Path) -> None:
    args = ("-m", tiny_run, "-p", 'a "b" \\\\ <0x07>', "-n", 30, "-s", 9, "--ignore-eos", "--json")
    ours, theirs = result_of(run(runner, *args)), result_of(run("nanollm-cli", *args))

    def keys(value: Any) -> Any:
        return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None

    assert keys(ours) == keys(theirs)
    assert list(ours) == list(theirs)
    for key in ("text", "model", "n_prompt", "n_generated", "finish_reason", "seed", "cpu"):
        assert ours[key] == theirs[key], key
    for key in ("weights", "cache", "activations", "outputs", "scratch", "bookkeeping", "total", "limits"):
        assert ours["memory"][key] == theirs["memory"][key], key
    assert ours["timings"]["n_eval"] == theirs["timings"]["n_eval"] == 29


def test_stderr_tells_the_same(runner: str, tiny_run: Path) -> None:
    args = ("-m", tiny_run, "-p", "the end", "-n", 3, "-s", 5, "--verbose-prompt", "-c", 200)
    ours, theirs = run(runner, *args), run("nanollm-cli", *args)

    def steady(text: str) -> list[str]:
        """Without what differs from run to run and from build to build."""
        changing = re.compile(r"^(nanollm|available)| time = |peak memory")
        return [line for line in text.splitlines() if not changing.search(line)]

    assert steady(ours.stderr) == steady(theirs.stderr)
    assert ours.stderr.count(" time = ") == theirs.stderr.count(" time = ") == 5
    assert re.search(r"prompt eval time = +[\d.]+ ms / +\d+ tokens \( +[\d.]+ ms per token", ours.stderr)
    assert re.search(r"peak memory += +[\d.]+ MiB", ours.stderr)
    verbose = run(runner, *args, "-v")
    assert "llama.attention.layer_norm_rms_epsilon" in verbose.stderr
    assert f"cpu levels    {', '.join(_core.cpu_levels())}" in verbose.stderr


def test_help_has_the_flags_of_nanollm_cli(runner: str) -> None:
    def flags(text: str) -> set[str]:
        return set(re.findall(r"(?:^  |, )(--?[a-zA-Z][\w-]*)", text, re.MULTILINE))

    ours, theirs = run(runner, "--help"), run("nanollm-cli", "--help")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert flags(ours.stdout) == flags(theirs.stdout)
    assert run(runner, "-h").stdout == ours.stdout
    assert re.fullmatch(r"nanollm \S+\n", run(runner, "--version").stdout)
    assert all(len(line) <= 120 for line in ours.stdout.splitlines())
    bench = flags(run(runner, "bench", "--help").stdout)
    assert flags(run("nanollm", "bench", "--help").stdout) <= bench
    for word in ("fit", "info", "bench"):
        assert run(runner, word, "--help").stdout.startswith(f"usage: nanollm-run {word} ")


# ------------------------------------------------------------------ prompts


def test_prompt_from_option_file_and_pipe_is_one(runner: str, stories: Path, tmp_path: Path) -> None:
    text = "Once upon a time,\na cat – é –"
    (tmp_path / "prompt.txt").write_bytes(text.replace("\n", "\r\n").encode() + b"\n")
    args = ("-m", stories, "-n", 12, "--temp", 0)
    given = assert_same(runner, *args, "-p", text)
    for other, stdin in ((("-f", tmp_path / "prompt.txt"), ""), (("-f", "-"), text), ((), text), ((), text + "\n")):
        assert assert_same(runner, *args, *other, stdin=stdin) == given


def test_bytes_that_are_no_text_do_no_harm(runner: str, tiny_run: Path) -> None:
    for stdin in (b"\x00\xff\xf0\x9f", b"a\xff\xfeb", b"\xed\xa0\x80\xe2\x82", b"\xc3\xa9\xc3", b"\xf4\x90\x80\x80"):
        args = ("-m", tiny_run, "-n", 4, "-s", 1)
        assert_same(runner, *args, stdin=stdin)
        if b"\x00" not in stdin:
            both = [
                subprocess.run([name, *map(str, args), "-p", stdin], capture_output=True, check=True).stdout
                for name in (runner, command("nanollm-cli"))
            ]
            assert both[0] == both[1]


def test_prompts_may_start_with_dashes(runner: str, tiny_run: Path) -> None:
    for text in ("-5", "--help", "-p", "- a", "=", ""):
        result = result_of(run(runner, "-m", tiny_run, "-n", 1, "-p", text, "--json"))
        with Model(tiny_run) as model:
            assert result["n_prompt"] == len(model.generate(text).prompt_ids)


def test_output_is_whole_characters(runner: str, tiny_run: Path) -> None:
    """A model that writes the first byte of a character and no more."""
    with Model(tiny_run) as model:
        token = next(i for i in range(model.n_vocab) if model.spelling(i) == "<0xE2>")
    assert run(runner, "-m", tiny_run, "-p", "a", "-n", 3, "-l", f"{token}+200").stdout == "\ufffd" * 3


def test_older_spellings(runner: str, tiny_run: Path) -> None:
    done = run(
        *(runner, "--model", tiny_run, "--prompt", "a", "--n_predict", 3, "--context", 64, "--batch_size", 8),
        *("--seed", 5, "--top_k", 4, "--top_p", 0.5, "--min_p", 0.25, "--repeat_penalty", 1.5, "--repeat_last_n=7"),
        *("--temp", 0.75, "--ignore_eos", "--no_display_prompt", "--threads=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "temperature 0.75, top_k 4, top_p 0.5, min_p 0.25" in done.stderr
    assert "repeat_penalty 1.5, presence 0, frequency 0 over the last 7" in done.stderr
    assert re.search(r"^n_batch +8$", done.stderr, re.MULTILINE)


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("args", "word"),
    [
        *USAGE_ERRORS,
        (("--top-k", "3000000000"), "3000000000"),
        (("-l", "99999999999+1"), "99999999999"),
    ],
)
def test_usage_errors_exit_with_2(runner: str, tiny_run: Path, args: tuple[str, ...], word: str) -> None:
    assert_one_line_error(run(runner, "-m", tiny_run, *args), 2, word)


def test_a_model_must_be_named(runner: str) -> None:
    assert_one_line_error(run(runner), 2, "-m")
    for word in ("fit", "info", "bench"):
        assert_one_line_error(run(runner, word), 2, "-m", name=f" {word}")


def test_files_that_are_no_models(runner: str, tiny: Path, tiny_run: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    assert_one_line_error(run(runner, "-m", missing, "-p", "a"), 1, str(missing))
    assert_one_line_error(run(runner, "-m", tmp_path, "-p", "a"), 1, str(tmp_path), "directory")
    whole = tiny_run.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in (0, 10, 1000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        assert_one_line_error(run(runner, "-m", cut, "-p", "a"), 1, str(cut))
    assert_one_line_error(run(runner, "-m", tiny, "-p", "a"), 1, str(tiny), "nanollm.program", "nanollm export")


def rewrite(source: Path, out: Path, program: Any) -> Path:
    """A file without tensors that has another program."""
    with _core.GgufWriter(out) as writer:
        writer.set("nanollm.program", *program)
    return out


def test_programs_that_cannot_be_run(runner: str, tiny: Path, tiny_run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    shutil.copyfile(tiny, model)
    sidecar = tmp_path / "model.gguf.nanollm"
    with _core.Gguf.open(tiny_run) as gguf:
        program = bytearray(gguf["nanollm.program"])
    for damage in (
        program[:-1],
        program[: len(program) // 2],
        b"",
        bytes(100),
        program[:4] + b"\xff" * 4 + program[8:],
    ):
        rewrite(tiny, sidecar, ("uint8", list(damage)))
        assert_one_line_error(run(runner, "-m", model, "-p", "a"), 1, "program")
    rewrite(tiny, sidecar, ("string", "a program"))
    assert_one_line_error(run(runner, "-m", model, "-p", "a"), 1, str(sidecar), "uint8")
    sidecar.write_bytes(b"GGUF")
    assert_one_line_error(run(runner, "-m", model, "-p", "a"), 1, str(sidecar))


def test_a_sidecar_has_the_program_and_the_chat(runner: str, chatty: Path, chatty_run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    shutil.copyfile(chatty, model)
    export(model, sidecar=True)
    args = ("-n", 8, "-s", 1, "-cnv", "-p", "red")
    assert run(runner, "-m", model, *args).stdout == run(runner, "-m", chatty_run, *args).stdout
    assert "model.gguf.nanollm" in run(runner, "info", model).stdout


def test_what_does_not_fit_is_refused_with_what_would(runner: str, tiny_run: Path) -> None:
    done = run(runner, "-m", tiny_run, "-p", "a", "-c", 2_000_000_000)
    assert_one_line_error(done, 1, "does not fit into memory", "context of 2000000000", "would fit", "available")
    assert len(done.stderr.splitlines()) == 1
    assert_one_line_error(run(runner, "-m", tiny_run, "-c", 99_999_999_999), 1, "99999999999")
    assert_one_line_error(run(runner, "-m", tiny_run, "-p", "a" * 100, "-c", 20), 1, "room for 20")
    limited = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -v 60000; exec "$@"', "sh", runner, "-m", str(tiny_run), "-p", "a", "-c", "4000000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_one_line_error(limited, 1, "does not fit into memory")


def test_other_things_that_are_not_there(runner: str, tiny_run: Path, tmp_path: Path) -> None:
    assert_one_line_error(run(runner, "-m", tiny_run, "-f", tmp_path / "nope"), 1, "nope", "No such file")
    assert_one_line_error(run(runner, "-m", tiny_run, "-f", tmp_path), 1, str(tmp_path))
    assert_one_line_error(run(runner, "-m", tiny_run, "--cpu", "z80"), 1, "z80", "generic")
    assert_one_line_error(
        run(runner, "-m", tiny_run, env=os.environ | {"NANOLLM_CPU": "z80"}), 1, "NANOLLM_CPU", "generic"
    )
    assert_one_line_error(run(runner, "-m", tiny_run, "-cnv", "-p", "a"), 1, "nanollm.chat.open", "--chat-template")
    unknown = run(runner, "-m", tiny_run, "-p", "a", "--chat-template", "alpaca")
    assert_one_line_error(unknown, 1, "alpaca", "chatml")
    assert unknown.stderr.endswith("zephyr\n")


def test_closed_and_full_outputs(runner: str, chatty_run: Path) -> None:
    args = [runner, "-m", str(chatty_run), "-p", "a", "-c", "100000", "--ignore-eos"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        assert process.poll() is None  # text comes as it is made
        process.stdout.close()
        message = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert "error" not in message
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "nanollm-run: error: stdout: No space left on device"
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *args[:-3], "-n", "2"], check=False, timeout=60
    )
    assert closed.returncode == 0


def test_interrupt_ends_with_the_timings(runner: str, chatty_run: Path) -> None:
    args = [runner, "-m", str(chatty_run), "-p", "a", "-c", "100000", "--ignore-eos"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"ended: interrupted" in stderr
    assert b"eval time" in stderr


def test_interrupt_stops_a_long_prompt(runner: str, chatty_run: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("the end " * 10000)
    args = ["-m", str(chatty_run), "-f", str(tmp_path / "long"), "-c", "60000", "--no-display-prompt", "-t", "1"]
    with subprocess.Popen([runner, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(b"prompt"):
                break
        time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"ended: interrupted" in stderr
    assert time.monotonic() - start < 5


# ------------------------------------------------------------------ conversations


def test_one_answer_is_the_same(runner: str, chatty_run: Path) -> None:
    for args in ((), ("-sys", r"a\tb"), ("--chat-template", "llama3"), ("--json",)):
        asked = (*("-m", chatty_run, "-cnv", "-p", "red", "-n", 12, "-s", 1), *args)
        if "--json" in args:
            ours, theirs = result_of(run(runner, *asked)), result_of(run("nanollm-cli", *asked))
            assert [ours[key] for key in ("text", "n_prompt")] == [theirs[key] for key in ("text", "n_prompt")]
        else:
            text = assert_same(runner, *asked)
            piped = (*("-m", chatty_run, "-cnv", "-n", 12, "-s", 1), *args)
            assert run(runner, *piped, stdin="red").stdout == text


def transcript(program: str, model: Path, *args: object) -> str:
    """What a conversation of three questions shows."""
    with Terminal(program, "-m", model, "-s", 3, "-n", 9, *args) as terminal:
        for question in ("red", "on\\\nand on", "the end"):
            for line in question.split("\n"):
                terminal.expect(r"[>.] $")
                terminal.send(line + "\n")
        terminal.expect("> $")
        terminal.send("\x04")
        terminal.expect("total time")
        assert terminal.exit_code() == 0
        shown = terminal.shown[terminal.shown.index("Ctrl-D ends") :]
        return re.sub(r"[\d.]+ (ms|tokens per second|MiB)", "", re.sub(r"\x1b\[[?\w]*|\r", "", shown))


@pytest.mark.parametrize("args", [(), ("--ignore-eos",), ("-sys", "be"), ("-l", "2+8"), ("--simple-io",)])
def test_conversation_is_the_same(runner: str, chatty_run: Path, args: tuple[object, ...]) -> None:
    ours, theirs = transcript(runner, chatty_run, *args), transcript(command("nanollm-cli"), chatty_run, *args)
    assert re.sub(r" +", " ", ours) == re.sub(r" +", " ", theirs)


def test_interrupt_stops_the_answer_and_not_the_program(runner: str, chatty_run: Path) -> None:
    with Model(chatty_run) as model:
        the = next(i for i in range(model.n_vocab) if model.spelling(i) == "▁the")
    with Terminal(runner, "-m", chatty_run, "-c", 100000, "-l", f"{the}+100", "--ignore-eos") as terminal:
        for _ in range(2):
            terminal.expect("> $")
            terminal.send("red\n")
            terminal.expect("the the")
            terminal.send("\x03")
            terminal.expect(r"\[interrupted\]")
        terminal.expect("> $")
        terminal.send("\x03")
        terminal.expect("total time")
        assert terminal.exit_code() == 0


def test_conversation_ends_when_the_context_is_full(runner: str, chatty_run: Path) -> None:
    with Terminal(runner, "-m", chatty_run, "-c", 60, "--ignore-eos") as terminal:
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect("context of 60 tokens is full")
        assert terminal.exit_code() == 0
    with Terminal(runner, "-m", chatty_run, "-c", 60, "-n", 1, "--ignore-eos") as terminal:
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect("> $")
        terminal.send("on and on " * 10 + "\n")
        terminal.expect("room for 60: the conversation ends here")
        assert terminal.exit_code() == 0


def test_no_conversation_in_a_terminal(runner: str, chatty_run: Path, tiny_run: Path) -> None:
    for args in (("-m", chatty_run, "-no-cnv"), ("-m", tiny_run)):
        with Terminal(runner, *args, "-p", "on and", "-n", 2, "-s", 1, "--ignore-eos") as terminal:
            terminal.expect("\non and")  # prompt and text read as one
            terminal.expect("ended: 2 tokens")
            assert terminal.exit_code() == 0


def test_files_do_not_steer_the_terminal(runner: str, tmp_path: Path) -> None:
    path = with_program(write_tiny(tmp_path / "escape.gguf", name="a\x1b[31mb\x07\nc"))
    with Model(path) as model:
        red = next(i for i in range(model.n_vocab) if model.spelling(i) == "<0x1B>")
    args = ("-m", path, "-p", "on", "-n", 2, "-l", f"{red}+200")
    with Terminal(runner, "-no-cnv", *args) as terminal:
        terminal.expect("\non\ufffd\ufffd\n")
        assert terminal.exit_code() == 0
        assert "\x1b" not in terminal.shown
        assert "a\ufffd[31mb\ufffd c" in terminal.shown
    assert run(runner, *args).stdout == "\x1b\x1b"  # a pipe gets what the model wrote


# ------------------------------------------------------------------ prompt cache


def test_prompt_cache_is_read_by_both(runner: str, stories_q8: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    args = ("-m", stories_q8, "-s", 1, "-n", 20, "--json", "-p", "One day a girl named Lily went")
    plain = result_of(run(runner, *args))
    for writer, reader in ((runner, "nanollm-cli"), ("nanollm-cli", runner), (runner, runner)):
        cache.unlink(missing_ok=True)
        assert result_of(run(writer, *args, "--prompt-cache", cache))["text"] == plain["text"]
        before = cache.stat().st_mtime_ns
        again = result_of(run(reader, *args, "--prompt-cache", cache))
        assert again["text"] == plain["text"]
        assert again["timings"]["n_prompt"] == 1
        assert again["timings"]["n_cached"] == plain["n_prompt"] - 1
        assert cache.stat().st_mtime_ns == before  # nothing new to write
    longer = (*args[:-1], args[-1] + plain["text"], "--prompt-cache", cache)
    result_of(run(runner, *args, "--prompt-cache", cache, "--prompt-cache-all"))
    assert result_of(run(runner, *longer, "--prompt-cache-ro"))["timings"]["n_cached"] > plain["n_prompt"]
    assert "prompt cache: " in run(runner, *args[:-3], "-p", "One", "--prompt-cache", cache, "-n", 1).stderr
    other = ("-m", stories_q8, "-p", "One", "-ctk", "q8_0", "--prompt-cache", cache)
    assert_one_line_error(run(runner, *other), 1, str(cache))
    cache.write_bytes(cache.read_bytes()[:-5])
    assert_one_line_error(run(runner, *args, "--prompt-cache", cache), 1, str(cache))


# ------------------------------------------------------------------ fit, info, bench


def test_fit_is_the_same(runner: str, tiny_run: Path) -> None:
    for args in ((tiny_run,), (tiny_run, "-c", 60, "-b", 9, "-t", 3, "--slots", 2, "-ctk", "f32")):
        ours, theirs = run(runner, "fit", *args), run("nanollm", "fit", *args)
        assert ours.returncode == theirs.returncode == 0

        def steady(text: str) -> str:
            return re.sub(r"(?m)^available.*$", "", text)

        assert steady(ours.stdout) == steady(theirs.stdout)
        ours, theirs = run(runner, "fit", *args, "--json"), run("nanollm", "fit", *args, "--json")
        facts, expected = json.loads(ours.stdout), json.loads(theirs.stdout)
        assert facts.pop("available") > 0
        assert expected.pop("available") > 0
        assert facts == expected
    too_much = run(runner, "fit", "-m", tiny_run, "-c", 2_000_000_000)
    assert too_much.returncode == 1
    assert "does not fit" in too_much.stdout
    assert_one_line_error(run(runner, "fit", "/nope.gguf"), 1, "/nope.gguf", name=" fit")


def test_info(runner: str, chatty_run: Path) -> None:
    done = run(runner, "info", chatty_run)
    assert done.returncode == 0, done.stderr
    for pattern in (r"^name +tiny$", r"^program +in the file$", r"^chat pieces +in the same place$", "fits; a context"):
        assert re.search(pattern, done.stdout, re.MULTILINE), pattern
    assert "llama.context_length" in run(runner, "info", chatty_run, "-v").stdout


def test_bench_has_the_columns_of_nanollm_bench(runner: str, tiny_run: Path) -> None:
    args = ("bench", "-m", tiny_run, "-p", "8,16", "-n", 3, "-pg", "4,2", "-d", "0,5", "-r", 2)

    def tables(*more: object) -> list[list[list[str]]]:
        found = []
        for name in (runner, "nanollm"):
            done = run(name, *args, *more)
            assert done.returncode == 0, done.stderr
            found.append([[c.strip() for c in line.strip("|").split("|")] for line in done.stdout.splitlines()])
        return found

    for more in ((), ("-b", "4,8", "-ctk", "f16,q8_0", "-tb", 1, "--poll", "0,50", "-C", 1, "--deterministic", "0-1")):
        ours, theirs = tables(*more)
        assert [row[:-1] for row in ours] == [row[:-1] for row in theirs]
        assert ours[0][-1] == "t/s"
        assert all(re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", row[-1]) for row in ours[2:])


def test_bench_formats(runner: str, tiny_run: Path) -> None:
    args = ("bench", "-m", tiny_run, "-p", 8, "-n", "1-2", "-r", 3, "-o")
    rows = json.loads(run(runner, *args, "json").stdout)
    lines = [json.loads(line) for line in run(runner, *args, "jsonl").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(run(runner, *args, "csv").stdout)))
    theirs = json.loads(run("nanollm", *args, "json").stdout)
    assert len(rows) == len(lines) == len(table) == len(theirs) == 3
    changing = re.compile(r"version|test_time|.*_(ns|ts)")
    for row, line, cells, other in zip(rows, lines, table, theirs, strict=True):
        assert list(row) == list(line) == list(other)
        assert list(cells) == [key for key in row if not key.startswith("samples")]
        steady = {key: value for key, value in row.items() if not changing.fullmatch(key)}
        assert steady == {key: value for key, value in other.items() if not changing.fullmatch(key)}
        assert len(row["samples_ns"]) == len(row["samples_ts"]) == 3
        n = row["n_prompt"] + row["n_gen"]
        for ns, speed in zip(row["samples_ns"], row["samples_ts"], strict=True):
            assert speed == pytest.approx(1e9 * n / ns, rel=1e-3)
        assert sorted(row["samples_ts"])[1] == pytest.approx(row["median_ts"])
        assert row["avg_ts"] == pytest.approx(sum(row["samples_ts"]) / 3)
    assert_one_line_error(run(runner, *args[:3], "-p", 0, "-n", 0), 2, "nothing to measure", name=" bench")
    assert_one_line_error(run(runner, *args[:3], "-p", "5-1"), 2, "5-1", name=" bench")
    assert_one_line_error(run(runner, *args, "sql"), 2, "sql", name=" bench")


# ------------------------------------------------------------------ budgets


def test_memory_of_a_small_model(runner: str, stories_q8: Path) -> None:
    """4 MB for text from stories260K, the program and the C library included."""
    result = result_of(run(runner, "-m", stories_q8, "-p", "Once upon a time", "-n", 100, "--json"))
    assert result["n_generated"] == 100
    assert result["memory"]["peak"] <= 4 << 20


def test_memory_is_the_file_and_little_more(runner: str) -> None:
    path = Path(default_model_path())
    result = result_of(run(runner, "-m", path, "-p", "Once upon a time", "-n", 100, "--ignore-eos", "--json"))
    assert result["memory"]["peak"] <= path.stat().st_size + (6 << 20)


def test_chat_template_of_the_tests_has_pieces(chatty_run: Path) -> None:
    """What the conversations above rest on."""
    with _core.Gguf.open(chatty_run) as gguf:
        assert gguf["nanollm.chat.answer"] == "</s>[assistant]"


# ------------------------------------------------------------------ adapters


def test_adapters_as_nanollm_cli(runner: str, tiny_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, targets in (("a", "all"), ("b", "ffn")):
        made = lora.create(tiny_run, tmp_path / f"{name}.gguf", rank=4, targets=targets)
        for pair in made.pairs.values():
            pair.b[...] = 0.1 * rng.standard_normal(pair.b.shape)
        made.write(tmp_path / f"{name}.gguf")
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    words = ("-m", tiny_run, "-p", "the", "-n", 16, "--temp", 0, "--ignore-eos", "-no-cnv")
    texts = []
    for options in ((), ("--lora", a), ("--lora-scaled", f"{b}:-2", "--lora", a)):
        ours, theirs = run(runner, *words, *options), run("nanollm-cli", *words, *options)
        assert ours.returncode == 0, ours.stderr
        assert ours.stdout == theirs.stdout
        adapter_lines = [[line for line in done.stderr.splitlines() if "adapter" in line] for done in (ours, theirs)]
        assert adapter_lines[0] == adapter_lines[1]
        assert len(adapter_lines[0]) == len(options) // 2
        texts.append(ours.stdout)
    assert len(set(texts)) == 3
    cache = ("--prompt-cache", tmp_path / "prompt.cache")
    assert run(runner, *words, "--lora", a, *cache).returncode == 0
    assert run("nanollm-cli", *words, "--lora", a, *cache).returncode == 0  # one format
    failed = run(runner, *words, "--lora", b, *cache)
    assert (failed.returncode, "another model" in failed.stderr) == (1, True)
    fit = [json.loads(run(runner, "fit", tiny_run, *o, "--json").stdout) for o in ((), ("--lora", a))]
    with _core.Gguf.open(a) as file:
        assert fit[1]["weights"] == fit[0]["weights"] + sum(t.n_bytes for t in file.tensors)
    for options, code, text in (
        (("--lora", tiny_run), 1, "general.type: found 'model', expected 'adapter'"),
        (("--lora", tmp_path / "none.gguf"), 1, "none.gguf"),
        (("--lora-scaled", a), 2, "FILE:SCALE"),
        (("--lora-scaled", f"{a}:nan"), 2, "FILE:SCALE"),
    ):
        failed = run(runner, *words, *options)
        assert (failed.returncode, len(failed.stderr.splitlines())) == (code, 1)
        assert text in failed.stderr
    failed = run(runner, "-m", a, "-p", "the")
    assert (failed.returncode, "expected a model" in failed.stderr) == (1, True)

"""The commands as users run them: real processes, pipes and terminals."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import write_tiny
from terminal import USAGE_ERRORS, Terminal, assert_one_line_error, command, run

from nanollm import Model, _core
from nanollm.model import default_model_path

TIMING = r"{} time = +[\d.]+ ms"
RATE = r" / +\d+ \w+ +\( +[\d.]+ ms per token, +[\d.]+ tokens per second\)"


def cli(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return run("nanollm-cli", *args, **options)


def cli_json(*args: object, **options: Any) -> dict[str, Any]:
    done = cli(*args, "--json", **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def token_id(path: Path, text: str) -> int:
    """The id of a text that is one token."""
    with Model(path) as model:
        return next(i for i in range(model.n_vocab) if model.spelling(i) == text)


# ------------------------------------------------------------------ text


def test_stories_greedy_is_the_known_text(stories: Path, stories_text: str) -> None:
    done = cli("-m", stories, "--temp", 0, "-n", 256)
    assert done.returncode == 0
    assert done.stdout.startswith(stories_text)


@pytest.mark.parametrize(
    "args", [("-t", 1), ("-t", 3), ("-b", 1), ("--deterministic",), ("-ctk", "f32", "-ctv", "f32")]
)
def test_stories_is_the_same_text_however_it_is_run(stories: Path, stories_text: str, args: tuple[object, ...]) -> None:
    prompt = stories_text[:120]
    done = cli("-m", stories, "--temp", 0, "-n", 60, "-p", prompt, *args)
    assert done.returncode == 0
    assert len(done.stdout) > 80
    assert stories_text[120:].startswith(done.stdout)


def test_every_level_of_the_machine_can_be_asked_for(stories: Path, stories_text: str) -> None:
    for level in _core.cpu_levels():
        done = cli("-m", stories, "--temp", 0, "-n", 30, "--cpu", level)
        assert stories_text.startswith(done.stdout)
        assert f"cpu {level}," in done.stderr
    assert_one_line_error(cli("-m", stories, "--cpu", "z80"), 1, "z80", "generic")


def test_stdout_holds_generated_text_only(tiny: Path) -> None:
    done = cli("-m", tiny, "-p", "the end", "-n", 3, "-l", f"{token_id(tiny, '▁the')}+100")
    assert done.stdout == " the the the"
    assert "the end" in done.stderr
    hidden = cli("-m", tiny, "-p", "the end", "-n", 3, "--no-display-prompt")
    assert "the end" not in hidden.stderr


def test_stderr_tells_model_memory_sampler_and_timings(tiny: Path) -> None:
    done = cli("-m", tiny, "-p", "the", "-n", 4, "-s", 42, "--ignore-eos")
    for pattern in (
        r"^n_vocab +\d+$",
        r"^n_ctx +128$",
        r"^n_embd +32$",
        r"^n_head +4$",
        r"^n_layer +2$",
        r"^tensors +20 \(20 F32\), [\d.]+ KiB$",
        r"^KV cache +[\d.]+ MiB +128 positions, F16$",
        r"^total +[\d.]+ MiB$",
        r"^available +[\d.]+ MiB$",
        r"^seed +42$",
        r"^sampler +temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, typical_p 1$",
        r"^chain +logit bias -> top-k -> top-p -> min-p -> temperature -> draw$",
        r"^prompt +\d tokens$",
        r"^ended: 4 tokens generated$",
        TIMING.format("load") + "$",
        TIMING.format("sampling") + RATE,
        TIMING.format("prompt eval") + RATE,
        TIMING.format("eval") + RATE,
        TIMING.format("total") + RATE,
        r"peak memory += +[\d.]+ MiB",
    ):
        assert re.search(pattern, done.stderr, re.MULTILINE), f"{pattern}\n{done.stderr}"
    assert re.search(r"sampling time = .* 4 runs", done.stderr)
    assert re.search(r" eval time = .* 3 runs", done.stderr)


def test_json_is_one_line_with_everything(tiny: Path) -> None:
    args = ("-m", tiny, "-p", "the", "-n", 5, "-s", 9, "--ignore-eos")
    result = cli_json(*args)
    assert result["text"] == cli(*args).stdout
    assert result["model"] == str(tiny)
    assert (result["n_generated"], result["finish_reason"], result["seed"]) == (5, "length", 9)
    assert result["timings"]["n_eval"] == 4
    assert result["timings"]["n_prompt"] == result["n_prompt"]
    assert result["memory"]["total"] == result["memory"]["weights"] + result["memory"]["allocated"]
    assert result["memory"]["peak"] > 1 << 20
    assert result["cpu"] in _core.cpu_levels()


def test_the_default_model(tmp_path: Path) -> None:
    try:
        default_model_path()
    except OSError as error:
        assert_one_line_error(cli("-p", "Once"), 1, str(error))
        pytest.skip(str(error))
    done = cli("-p", "Once upon a time", "-n", 8, "--ignore-eos", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout
    assert re.search(r"^description +\w", done.stderr, re.MULTILINE)


# ------------------------------------------------------------------ prompts


def test_prompt_from_option_file_and_pipe_is_one(stories: Path, tmp_path: Path) -> None:
    text = "Once upon a time, a cat – é –"
    (tmp_path / "prompt.txt").write_text(text, encoding="utf-8")
    args = ("-m", stories, "-n", 12, "--temp", 0)
    given = cli_json(*args, "-p", text)
    assert given["text"]
    # An editor's or echo's newline at the end is not part of the prompt.
    for other, stdin in ((("-f", tmp_path / "prompt.txt"), ""), (("-f", "-"), text), ((), text), ((), text + "\n")):
        assert cli_json(*args, *other, stdin=stdin)["text"] == given["text"]


def test_prompts_may_start_with_dashes(tiny: Path) -> None:
    for text in ("-5", "--help", "-p", "- a", "=", ""):
        result = cli_json("-m", tiny, "-n", 1, "-p", text)
        with Model(tiny) as model:
            assert result["n_prompt"] == len(model.generate(text).prompt_ids)


def shown_tokens(*args: object) -> list[str]:
    done = cli(*args, "-n", 0, "--verbose-prompt", "--no-display-prompt")
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(word) for word in re.findall(r"^ +\d+  ('.*')$", done.stderr, re.MULTILINE)]


def test_escapes(tiny: Path, tmp_path: Path) -> None:
    text = r"a\nt\x21\\\xc3\xa9\q"
    resolved = ["<s>", "▁a", "<0x0A>", "t", "!", "<0x5C>", "<0xC3>", "<0xA9>", "<0x5C>", "q"]
    assert shown_tokens("-m", tiny, "-p", text) == resolved
    assert shown_tokens("-m", tiny, "-e", "-p", text) == resolved
    literal = shown_tokens("-m", tiny, "--no-escape", "-p", text)
    assert literal[:4] == ["<s>", "▁a", "<0x5C>", "n"]
    (tmp_path / "prompt").write_text(text)
    assert shown_tokens("-m", tiny, "-f", tmp_path / "prompt") == literal


def test_special_tokens_in_a_prompt_are_special(tiny: Path) -> None:
    assert shown_tokens("-m", tiny, "-p", "a</s>")[-1] == "</s>"


def test_bytes_that_are_no_text_do_no_harm(tiny: Path) -> None:
    done = subprocess.run(
        [command("nanollm-cli"), "-m", str(tiny), "-n", "2", "--json", "-p", b"a\xff\xfeb"],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["n_generated"] >= 1
    assert cli("-m", tiny, "-n", 2, stdin=b"\x00\xff\xf0\x9f").returncode == 0


def test_output_is_whole_characters(tiny: Path) -> None:
    """A model that writes the first byte of a character and no more."""
    done = cli("-m", tiny, "-p", "a", "-n", 3, "-l", f"{token_id(tiny, '<0xE2>')}+200")
    assert done.stdout == "\ufffd" * 3


def test_streaming_comes_as_it_is_made(chatty: Path) -> None:
    args = [command("nanollm-cli"), "-m", str(chatty), "-p", "a", "-c", "100000", "--ignore-eos"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1)
        assert process.poll() is None
        process.kill()


# ------------------------------------------------------------------ options


def test_number_of_tokens(tiny: Path) -> None:
    args = ("-m", tiny, "-p", "a", "-c", 32, "-s", 1)
    assert cli_json(*args, "-n", 0)["n_generated"] == 0
    assert cli_json(*args, "-n", 7, "--ignore-eos")["n_generated"] == 7
    end = token_id(tiny, "</s>")
    ended = cli_json(*args, "-n", -1, "-l", f"{end}+200")
    assert (ended["finish_reason"], ended["n_generated"], ended["text"]) == ("stop", 1, "")
    full = cli_json(*args, "-n", -2, "-l", f"{end}+50")
    assert (full["finish_reason"], full["n_prompt"] + full["n_generated"]) == ("context", 33)
    assert cli_json(*args, "--ignore-eos")["finish_reason"] == "context"


def test_context_size(tiny: Path) -> None:
    assert cli_json("-m", tiny, "-p", "a", "-n", 1, "-c", 0)["memory"]["limits"]["n_ctx"] == 128
    assert cli_json("-m", tiny, "-p", "a", "-n", 1, "-c", 50)["memory"]["limits"]["n_ctx"] == 50
    assert_one_line_error(cli("-m", tiny, "-p", "a" * 100, "-c", 20), 1, "room for 20")
    beyond = cli("-m", tiny, "-p", "a", "-n", 1, "-c", 200)
    assert "trained on texts of 128 tokens" in beyond.stderr


def test_older_spellings(tiny: Path) -> None:
    done = cli(
        *("--model", tiny, "--prompt", "a", "--n_predict", 3, "--context", 64, "--batch_size", 8, "--seed", 5),
        *("--top_k", 4, "--top_p", 0.5, "--min_p", 0.25, "--repeat_penalty", 1.5, "--repeat_last_n=7", "--temp", 0.75),
        *("--ignore_eos", "--no_display_prompt", "--threads=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "temperature 0.75, top_k 4, top_p 0.5, min_p 0.25" in done.stderr
    assert "repeat_penalty 1.5, presence 0, frequency 0 over the last 7" in done.stderr
    assert re.search(r"^n_ctx +64$", done.stderr, re.MULTILINE)
    assert re.search(r"^n_batch +8$", done.stderr, re.MULTILINE)
    assert "ended: 3 tokens" in done.stderr


def test_sampling_options_are_told(tiny: Path) -> None:
    done = cli(
        *("-m", tiny, "-p", "a", "-n", 3, "--typical", 0.5, "--presence-penalty", 0.25, "--frequency-penalty", 0.125),
        *("--repeat-last-n", -1, "--mirostat", 2, "--mirostat-lr", 0.2, "--mirostat-ent", 4, "-s", 3),
    )
    assert done.returncode == 0, done.stderr
    assert "typical_p 0.5" in done.stderr
    assert "presence 0.25, frequency 0.125 over the last whole context" in done.stderr
    assert "mirostat 2, eta 0.2, tau 4" in done.stderr
    assert re.search(r"^chain +penalties -> temperature -> mirostat 2 -> draw$", done.stderr, re.MULTILINE)
    assert re.search(r"^chain +greedy$", cli("-m", tiny, "-n", 1, "--temp", 0).stderr, re.MULTILINE)


def test_seed_decides_and_is_told(tiny: Path) -> None:
    args = ("-m", tiny, "-p", "a", "-n", 16, "--ignore-eos")
    fresh = cli_json(*args)
    assert cli_json(*args, "-s", fresh["seed"])["text"] == fresh["text"]
    assert cli_json(*args, "-s", -1)["seed"] != fresh["seed"]


def test_logit_bias(tiny: Path) -> None:
    on, the = token_id(tiny, "on"), token_id(tiny, "▁the")
    args = ("-m", tiny, "-p", "a", "-n", 3, "-l", f"{on}+100")
    assert cli(*args).stdout == "ononon"
    assert cli(*args, "-l", f"{the}+200").stdout == " the the the"
    assert cli(*args, "-l", f"{the}+200", "-l", f"{the}-inf").stdout == "ononon"


def test_reverse_prompts(tiny: Path) -> None:
    on = token_id(tiny, "on")
    result = cli_json("-m", tiny, "-p", "a", "-n", 9, "-l", f"{on}+100", "-r", "x", "-r", r"non", "-r", "\\n")
    assert (result["text"], result["finish_reason"]) == ("o", "stop")
    assert "at a reverse prompt" in cli("-m", tiny, "-p", "a", "-l", f"{on}+100", "-r", "on").stderr


def test_verbose_tells_metadata(tiny: Path) -> None:
    done = cli("-m", tiny, "-n", 1, "-v")
    assert "llama.attention.layer_norm_rms_epsilon" in done.stderr
    assert "cpu levels" in done.stderr


def test_help_and_version() -> None:
    done = cli("--help")
    assert (done.returncode, done.stderr) == (0, "")
    flags = (
        "-m -p -f -n -c -b -t -s --seed --temp --top-k --top-p --min-p --typical --repeat-penalty --repeat-last-n "
        "--presence-penalty --frequency-penalty --mirostat --mirostat-lr --mirostat-ent -l --logit-bias --ignore-eos "
        "-e --no-escape -r --reverse-prompt -sys -cnv -no-cnv -st --chat-template --no-display-prompt --verbose-prompt "
        "-v --simple-io --version -h --deterministic --json -ctk -ctv --cpu"
    )
    for flag in flags.split():
        assert re.search(rf"(^|\s){flag}[,\s]", done.stdout), flag
    assert "(default: 0.8)" in done.stdout
    assert cli("-h").stdout == done.stdout
    assert cli("--version").stdout == f"nanollm {_core.version()}\n"


def test_threads_and_cpus_change_no_text() -> None:
    plain = cli("-p", "Once", "-n", 16, "-s", 1)
    cpu = min(os.sched_getaffinity(0))
    options = ("-t", 1, "-tb", 2, "-C", f"{1 << cpu:x}", "-Cr", f"{cpu}-{cpu}", "--poll", 0)
    placed = cli("-p", "Once", "-n", 16, "-s", 1, *options)
    assert placed.returncode == 0
    assert placed.stdout == plain.stdout


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(("args", "word"), [*USAGE_ERRORS, (("-C", "1" + 64 * "0"), "256")])
def test_usage_errors_exit_with_2(args: tuple[str, ...], word: str) -> None:
    assert_one_line_error(cli(*args), 2, word)


def test_files_that_are_no_models(tiny: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    assert_one_line_error(cli("-m", missing, "-p", "a"), 1, str(missing))
    assert_one_line_error(cli("-m", tmp_path, "-p", "a"), 1, str(tmp_path), "directory")
    other = tmp_path / "text.gguf"
    other.write_text("no model at all, just some text that is long enough")
    assert_one_line_error(cli("-m", other, "-p", "a"), 1, str(other))
    empty = tmp_path / "empty.gguf"
    empty.touch()
    assert_one_line_error(cli("-m", empty, "-p", "a"), 1, str(empty))
    whole = tiny.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in (10, 1000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        assert_one_line_error(cli("-m", cut, "-p", "a"), 1, str(cut))


def test_prompt_file_that_is_not_there(tiny: Path, tmp_path: Path) -> None:
    assert_one_line_error(cli("-m", tiny, "-f", tmp_path / "nope"), 1, "nope", "No such file")
    assert_one_line_error(cli("-m", tiny, "-f", tmp_path), 1, str(tmp_path))


def test_what_does_not_fit_is_refused_with_what_would(tiny: Path) -> None:
    done = cli("-m", tiny, "-p", "a", "-c", 2_000_000_000)
    assert_one_line_error(done, 1, "does not fit into memory", "context of 2000000000", "would fit", "available")
    assert len(done.stderr.splitlines()) == 1


def test_closed_and_full_outputs(chatty: Path) -> None:
    args = [command("nanollm-cli"), "-m", str(chatty), "-p", "a", "-c", "100000", "--ignore-eos"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        message = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert "error" not in message
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "nanollm-cli: error: stdout: No space left on device"
    for streams, n, code in ((">&- 2>&- <&-", 2, 1), (">&-", 2, 1), (">&-", 0, 0), ("2>&- <&-", 2, 0)):
        shell = ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *args[:-3], "-n", str(n)]
        closed = subprocess.run(shell, capture_output=True, check=False, timeout=60)
        assert closed.returncode == code
        assert (b"error: stdout: Bad file descriptor" in closed.stderr) == (code != 0 and "2>&-" not in streams)


def test_interrupt_ends_with_the_timings(chatty: Path) -> None:
    args = [command("nanollm-cli"), "-m", str(chatty), "-p", "a", "-c", "100000", "--ignore-eos"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"ended: interrupted" in stderr
    assert b"eval time" in stderr
    assert b"Traceback" not in stderr


def test_interrupt_stops_a_long_prompt(chatty: Path, tmp_path: Path) -> None:
    """Ctrl-C while the core is busy with a prompt of a minute."""
    (tmp_path / "long").write_text("the end " * 10000)
    args = ["-m", str(chatty), "-f", str(tmp_path / "long"), "-c", "60000", "--no-display-prompt", "-t", "1"]
    with subprocess.Popen([command("nanollm-cli"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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


def test_conversation_in_a_terminal(chatty: Path) -> None:
    the = token_id(chatty, "▁the")
    with Terminal("nanollm-cli", "-m", chatty, "-n", 4, "-l", f"{the}+100", "--temp", 0) as terminal:
        terminal.expect("Ctrl-D ends")
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect(r"prompt +\d+ tokens")
        terminal.expect("\n the the the the\n")
        terminal.expect("> $")
        terminal.send("on\\\n")
        terminal.expect(r"\. $")
        terminal.send("and on\n")
        terminal.expect("\n the the the the\n")
        terminal.expect("> $")
        terminal.send("\n")
        terminal.expect("> $")
        terminal.send("\x04")
        terminal.expect("eval time")
        assert terminal.exit_code() == 0
        # The second question alone was evaluated, not the first again.
        prompt = re.search(r"prompt eval time = .* / +(\d+) tokens", terminal.shown)
        assert prompt
    with Model(chatty) as model:
        first = model.chat_template().render([{"role": "user", "content": "red"}])
        n_first = len(model.tokenize(first, add_special=False, parse_special=True))
    assert n_first < int(prompt[1]) < 2 * n_first + 40


def test_interrupt_stops_the_answer_and_not_the_program(chatty: Path) -> None:
    the = token_id(chatty, "▁the")
    with Terminal("nanollm-cli", "-m", chatty, "-c", 100000, "-l", f"{the}+100", "--ignore-eos") as terminal:
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect("the the")
        terminal.send("\x03")
        terminal.expect(r"\[interrupted\]")
        terminal.expect("> $")
        terminal.send("on\n")
        terminal.expect("the the")
        terminal.send("\x03")
        terminal.expect(r"\[interrupted\]")
        terminal.expect("> $")
        time.sleep(0.5)  # until the line editor waits: Python does not see a signal just before that
        terminal.send("\x03")
        terminal.expect("total time")
        assert terminal.exit_code() == 0
        assert "Traceback" not in terminal.shown


def test_conversation_ends_when_the_context_is_full(chatty: Path) -> None:
    with Terminal("nanollm-cli", "-m", chatty, "-c", 60, "--ignore-eos") as terminal:
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect("context of 60 tokens is full")
        assert terminal.exit_code() == 0


def test_single_turn_in_a_terminal(chatty: Path) -> None:
    with Terminal("nanollm-cli", "-m", chatty, "-st", "-n", 3, "-sys", "be") as terminal:
        terminal.expect("> $")
        terminal.send("red\n")
        terminal.expect("total time")
        assert terminal.exit_code() == 0


def test_simple_io(chatty: Path) -> None:
    with Terminal("nanollm-cli", "-m", chatty, "--simple-io", "-n", 2, "-p", "first", "--ignore-eos") as terminal:
        terminal.expect("> first\n")
        terminal.expect("> $")
        terminal.send("second\n")
        terminal.expect("> $")
        terminal.send("\x04")
        terminal.expect("total time")
        assert terminal.exit_code() == 0


def test_no_conversation_in_a_terminal(chatty: Path, tiny: Path) -> None:
    the = token_id(tiny, "▁the")
    for args in (("-m", chatty, "-no-cnv"), ("-m", tiny)):
        with Terminal("nanollm-cli", *args, "-p", "on and", "-n", 2, "-l", f"{the}+100") as terminal:
            # Prompt and text read as one.
            terminal.expect("\non and the the\n")
            terminal.expect("total time")
            assert terminal.exit_code() == 0


def test_conversation_without_a_terminal_is_one_answer(chatty: Path) -> None:
    asked = cli_json("-m", chatty, "-cnv", "-p", "red", "-sys", r"a\tb", "-n", 3, "-s", 1, stdin="never read")
    piped = cli_json("-m", chatty, "-cnv", "-sys", "a\tb", "-n", 3, "-s", 1, stdin="red")
    assert asked["text"] == piped["text"]
    with Model(chatty) as model:
        text = model.chat_template().render([{"role": "system", "content": "a\tb"}, {"role": "user", "content": "red"}])
        assert asked["n_prompt"] == len(model.tokenize(text, add_special=False, parse_special=True))
    # Without -cnv a pipe is text to continue, template or not.
    plain = cli_json("-m", chatty, "-n", 3, "-p", "red")
    assert plain["n_prompt"] < asked["n_prompt"]
    assert (
        cli("-m", chatty, "-cnv", "-p", "red", "-n", 3, "-s", 1).stdout
        == cli_json("-m", chatty, "-cnv", "-p", "red", "-n", 3, "-s", 1)["text"]
    )


def test_chat_template_option(tiny: Path) -> None:
    done = cli("-m", tiny, "-p", "red", "--chat-template", "zephyr", "-n", 0, "--verbose-prompt")
    assert "'<0x7C>'" in done.stderr  # the bar of <|user|>
    own = shown_tokens("-m", tiny, "-cnv", "-p", "red", "--chat-template", "{{ messages[0].content }}.")
    assert (own[0], own[-1], "".join(own[1:])) == ("<s>", ".", "▁red.")
    assert_one_line_error(cli("-m", tiny, "-cnv", "-p", "a"), 1, "tokenizer.chat_template")
    assert_one_line_error(cli("-m", tiny, "-p", "a", "--chat-template", "alpaca"), 1, "alpaca", "chatml")
    assert_one_line_error(cli("-m", tiny, "-p", "a", "--chat-template", "{% if %}"), 1, "chat template, line 1")


# ------------------------------------------------------------------ nanollm


def test_convert_info_and_fit(data_dir: Path, tmp_path: Path, stories_text: str) -> None:
    out = tmp_path / "out.gguf"
    done = run(
        "nanollm", "convert", data_dir / "stories260K.bin", "-o", out, "--outtype", "q8_0", "--name", "a name",
        "--description", "a test", "--tokenizer", data_dir / "tok512.bin",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "100 %" in done.stderr
    assert "Q8_0" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [out]
    assert stories_text.startswith(cli("-m", out, "--temp", 0, "-n", 20).stdout)

    info = run("nanollm", "info", out, "--tensors")
    assert info.returncode == 0
    assert re.search(r"^name +a name$", info.stdout, re.MULTILINE)
    assert re.search(r"^token_embd.weight +Q8_0 +512 x 64 +34.00 KiB$", info.stdout, re.MULTILINE)
    facts = json.loads(run("nanollm", "info", out, "--json").stdout)
    assert facts["metadata"]["general.description"] == "a test"
    assert len(facts["tensors"]) == 47

    fit = run("nanollm", "fit", out, "-c", 100)
    assert fit.returncode == 0
    assert re.search(r"^KV cache +[\d.]+ MiB +100 positions", fit.stdout, re.MULTILINE)
    assert "fits; a context of 512 would fit" in fit.stdout
    report = json.loads(run("nanollm", "fit", out, "-c", 100, "--slots", 2, "-b", 10, "-ctk", "f32", "--json").stdout)
    assert report["limits"]["n_slots"] == 2
    with Model(out, n_ctx=100, n_slots=2, n_batch=10, n_outputs=1, cache_type=("f32", "f16")) as model:
        assert report["total"] == model.memory.total
    too_much = run("nanollm", "fit", out, "-c", 2_000_000_000)
    assert too_much.returncode == 1
    assert "does not fit" in too_much.stdout


def test_convert_shows_a_bar_in_a_terminal(data_dir: Path, tmp_path: Path) -> None:
    args = (data_dir / "stories260K.bin", "-o", tmp_path / "out.gguf", "--tokenizer", data_dir / "tok512.bin")
    with Terminal("nanollm", "convert", *args) as terminal:
        assert terminal.exit_code() == 0
        assert "parameters" in terminal.shown
    assert (tmp_path / "out.gguf").exists()


def test_convert_fails_in_one_line(data_dir: Path, tmp_path: Path) -> None:
    model, tokenizer = data_dir / "stories260K.bin", data_dir / "tok512.bin"
    name = "nanollm convert"
    out = tmp_path / "no" / "folder.gguf"
    assert_one_line_error(run("nanollm", "convert", model, "-o", out, "--tokenizer", tokenizer), 1, str(out), name=name)
    bad = run("nanollm", "convert", tokenizer, "-o", tmp_path / "out.gguf", "--tokenizer", tokenizer)
    assert_one_line_error(bad, 1, str(tokenizer), name=name)
    assert_one_line_error(run("nanollm", "convert", model), 2, "-o", name=name)
    for same in (model, f"{data_dir}/./{model.name}"):
        assert_one_line_error(run("nanollm", "convert", model, "-o", same), 2, "the file to read", name=name)
    assert list(tmp_path.iterdir()) == []
    pipe = tmp_path / "pipe"  # stands for all that is no file: renaming a file over a device would end the device
    os.mkfifo(pipe)
    for target in (pipe, tmp_path):
        done = run("nanollm", "convert", default_model_path(), "-o", target)
        assert_one_line_error(done, 1, f"{target}: not a regular file", name=name)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_nanollm_overview() -> None:
    done = run("nanollm", "--help")
    assert done.returncode == 0
    assert all(re.search(rf"^  {word} ", done.stdout, re.MULTILINE) for word in ("convert", "fit", "info"))
    assert run("nanollm").stdout == done.stdout
    assert run("nanollm", "--version").stdout == f"nanollm {_core.version()}\n"
    assert_one_line_error(run("nanollm", "dance"), 2, "dance", "convert", "fit", "info", name="nanollm")
    assert_one_line_error(run("nanollm", "fit", "/nope.gguf"), 1, "/nope.gguf", name="nanollm fit")
    assert_one_line_error(run("nanollm", "info", "/nope.gguf"), 1, "/nope.gguf", name="nanollm info")
    for word in ("fit", "info"):  # an empty name, as an unset variable gives, is not the default model
        assert_one_line_error(run("nanollm", word, ""), 1, "No such file", name=f"nanollm {word}")
    for word in ("convert", "fit", "info"):
        assert run("nanollm", word, "--help").stdout.startswith(f"usage: nanollm {word} ")


def test_files_do_not_steer_the_terminal(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "escape.gguf", name="a\x1b[31mb\x07\nc")
    red = token_id(path, "<0x1B>")
    with Terminal("nanollm-cli", "-m", path, "-no-cnv", "-p", "on", "-n", 2, "-l", f"{red}+200") as terminal:
        terminal.expect("\non\ufffd\ufffd\n")
        assert terminal.exit_code() == 0
        assert "\x1b" not in terminal.shown
        assert "a\ufffd[31mb\ufffd c" in terminal.shown
    # A pipe gets what the model wrote.
    assert cli("-m", path, "-p", "on", "-n", 2, "-l", f"{red}+200").stdout == "\x1b\x1b"

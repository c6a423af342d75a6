"""Training: what the trainer and its commands do, on models of some thousand weights."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanollm import ArgumentError, FormatError, MemoryLimitError, Model, UnsupportedError, _core, quantize
from nanollm.cli import main
from nanollm.train import (
    ARCHITECTURES,
    DivergedError,
    ModelConfig,
    Step,
    Trainer,
    TrainOptions,
    create_model,
    read_log,
    read_state,
)

OPTIONS = TrainOptions(n_steps=12, batch_size=4, n_ctx=32, rate=1e-2, n_threads=2, eval_every=6, save_every=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = (f"The {a} {b} the {c}.\n" for a in ("fox", "hen") for b in ("sees", "has") for c in ("sea", "sun", "hat"))
    path.write_text("".join(lines) * 20)
    return path


@pytest.fixture(scope="module")
def small(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights."""
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    create_model(path, ModelConfig(architecture="llama", n_layer=2, n_embd=32, n_head=4, n_head_kv=2, n_ctx=64), tiny)
    return path


def trained(model: Path, text: Path, out: Path, options: TrainOptions = OPTIONS, **more: Any) -> list[Step]:
    with Trainer(model, text, options=options, **more) as trainer:
        steps = list(trainer.run())
        trainer.save(out)
    return steps


@pytest.fixture(scope="module")
def unbroken(small: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model after OPTIONS' steps."""
    out = tmp_path_factory.mktemp("unbroken") / "out.gguf"
    trained(small, text, out)
    return out


# ------------------------------------------------------------------ steps


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_falls(architecture: str, tiny: Path, text: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    n_parameters = create_model(model, ModelConfig(architecture=architecture, n_layer=2, n_embd=32, n_head=4), tiny)
    with Trainer(model, text, options=replace(OPTIONS, n_steps=40)) as trainer:
        assert trainer.n_parameters == n_parameters
        before = trainer.evaluate()
        assert before == pytest.approx(math.log(Model(model).n_vocab), rel=0.05)  # it knows nothing yet
        steps = list(trainer.run())
        assert trainer.evaluate() == steps[-1].held_out_loss
        trainer.save(out)
    assert [step.step for step in steps] == list(range(1, 41))
    assert steps[-1].held_out_loss is not None
    assert steps[-1].held_out_loss < before - 3
    assert steps[-1].loss < steps[0].loss - 3
    with Model(out) as after:
        assert after.generate("The fox", max_tokens=12, temperature=0).text.startswith(" ")


def test_the_same_bits_however_it_is_computed(small: Path, text: Path, unbroken: Path, tmp_path: Path) -> None:
    for changes in ({"n_threads": 1}, {"recompute": True}, {"eval_every": 0, "save_every": 1}):
        trained(small, text, tmp_path / "out.gguf", replace(OPTIONS, **changes))
        assert (tmp_path / "out.gguf").read_bytes() == unbroken.read_bytes(), changes
    trained(small, text, tmp_path / "out.gguf", replace(OPTIONS, seed=1))
    assert (tmp_path / "out.gguf").read_bytes() != unbroken.read_bytes()


def test_accumulated_batches_are_a_larger_one(small: Path, text: Path, tmp_path: Path) -> None:
    whole = trained(small, text, tmp_path / "a.gguf")
    parts = trained(small, text, tmp_path / "b.gguf", replace(OPTIONS, batch_size=1, accumulate=4))
    assert [s.loss for s in parts] == pytest.approx([s.loss for s in whole], rel=1e-4)
    assert [s.norm for s in parts] == pytest.approx([s.norm for s in whole], rel=1e-3)


def test_the_rate_grows_and_falls(small: Path, text: Path, tmp_path: Path) -> None:
    steps = trained(small, text, tmp_path / "a.gguf", replace(OPTIONS, warmup=4, schedule="linear", floor=0.2))
    rates = [step.rate / OPTIONS.rate for step in steps]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert rates[4:] == pytest.approx([1 - 0.1 * i for i in range(1, 9)])


def test_the_held_out_part_is_not_learnt(small: Path, text: Path) -> None:
    with Trainer(small, text, options=replace(OPTIONS, held_out=0.25)) as trainer:
        n_learnt, n_held_out = trainer.n_sequences
        assert n_held_out == round((n_learnt + n_held_out) / 4)
    with Trainer(small, text, held_out=[text], options=OPTIONS) as trainer:
        assert trainer.n_sequences == (n_learnt + n_held_out,) * 2
    with Trainer(small, text, options=replace(OPTIONS, held_out=0, n_steps=1)) as trainer:
        assert trainer.n_sequences == (n_learnt + n_held_out, 0)
        assert [step.held_out_loss for step in trainer.run()] == [None]


def test_the_model_is_written_in_other_types(small: Path, text: Path, tmp_path: Path) -> None:
    with Trainer(small, text, options=replace(OPTIONS, n_steps=1)) as trainer:
        list(trainer.run())
        for outtype in ("f32", "f16", "q8_0"):
            trainer.save(tmp_path / "out.gguf", outtype)  # type: ignore[arg-type]
            with Model(tmp_path / "out.gguf") as model:
                types = {t.type for t in model.tensors if len(t.shape) > 1}
                assert types == {outtype.upper()}
                assert model.logits([1]).std() > 0


def test_f16_weights_are_trained_as_f32(small: Path, text: Path, tmp_path: Path) -> None:
    quantize(small, tmp_path / "f16.gguf", "F16")
    steps = trained(tmp_path / "f16.gguf", text, tmp_path / "out.gguf")
    assert steps[-1].loss < steps[0].loss - 1
    assert {t.type for t in _core.Gguf.open(tmp_path / "out.gguf").tensors} == {"F32"}


# ------------------------------------------------------------------ going on


def test_a_resumed_run_is_an_unbroken_one(small: Path, text: Path, unbroken: Path, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "a.checkpoint", tmp_path / "out.gguf"
    with Trainer(small, text, options=OPTIONS, checkpoint=checkpoint) as trainer:
        for step in trainer.run():
            if step.step == 7:
                trainer.stop()
        assert trainer.step == trainer.saved_step == 7
    with Trainer.resume(checkpoint, n_threads=1, recompute=True) as trainer:
        assert trainer.step == 7
        steps = list(trainer.run())
        trainer.save(out)
    assert [step.step for step in steps] == [8, 9, 10, 11, 12]
    assert [step.is_saved for step in steps] == [True, False, False, False, True]
    assert out.read_bytes() == unbroken.read_bytes()
    with Trainer.resume(checkpoint) as trainer:
        assert not list(trainer.run())


def test_a_run_that_died_goes_on_from_its_last_checkpoint(
    small: Path, text: Path, unbroken: Path, tmp_path: Path
) -> None:
    with Trainer(small, text, options=OPTIONS, checkpoint=tmp_path / "a.checkpoint") as trainer:
        for step in trainer.run():
            if step.step == 7:
                break  # nobody says stop
    with Trainer.resume(tmp_path / "a.checkpoint") as trainer:
        assert trainer.step == 4
        list(trainer.run())
        trainer.save(tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == unbroken.read_bytes()


def test_stopping_from_another_thread_undoes_the_step_at_work(small: Path, text: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    with Trainer(
        small, text, options=replace(OPTIONS, n_steps=100_000, save_every=100_000), checkpoint=checkpoint
    ) as t:
        threading.Timer(0.3, t.stop).start()
        steps = list(t.run())
        assert 0 < len(steps) < 100_000
        n_done = t.step
        next(t.run())  # what was stopped can go on
        assert t.step == n_done + 1
    assert read_state(_core.Gguf.open(checkpoint)).step == n_done == len(steps)


def test_a_run_without_checkpoints_stops_too(small: Path, text: Path) -> None:
    with Trainer(small, text, options=OPTIONS) as trainer:
        for step in trainer.run():
            if step.step == 5:
                trainer.stop()
        assert trainer.step == 5
        with pytest.raises(ArgumentError, match="made without one"):
            trainer.save_checkpoint()
        assert next(trainer.run()).step == 6


def test_options_that_matter_stay_as_they_are(small: Path, text: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    with Trainer(small, text, options=replace(OPTIONS, schedule="constant"), checkpoint=checkpoint) as trainer:
        next(trainer.run())
        trainer.save_checkpoint()
    with pytest.raises(ArgumentError, match=r"cannot change rate 0\.01 to 0\.5, batch_size 4 to 2$"):
        Trainer.resume(checkpoint, rate=0.5, batch_size=2, n_threads=1)
    with Trainer.resume(checkpoint, n_steps=14, save_every=1) as trainer:  # a constant rate knows no end
        assert trainer.n_steps == 14
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().replace("fox", "cat"))
    with pytest.raises(ArgumentError, match=r"other\.txt: other data than the run began with"):
        Trainer.resume(checkpoint, data=[other])
    with pytest.raises(FormatError, match="not a checkpoint"):
        Trainer.resume(small)


# ------------------------------------------------------------------ what goes wrong


def test_a_loss_that_is_no_number_ends_the_run(small: Path, text: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    options = replace(OPTIONS, n_steps=50, warmup=0, rate=1e36, decay=0.0, save_every=1, schedule="constant")
    with Trainer(small, text, options=replace(options, rate=1e-2), checkpoint=checkpoint) as trainer:
        next(trainer.run())
    good = checkpoint.read_bytes()
    with Trainer(small, text, options=replace(options, save_every=40), checkpoint=checkpoint) as trainer:
        with pytest.raises(DivergedError, match=r"^step \d+: .*; no checkpoint was written; a lower rate"):
            list(trainer.run())
        assert trainer.step < 40
    assert checkpoint.read_bytes() == good


def test_a_loss_that_stays_high_ends_the_run(small: Path, text: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    options = replace(OPTIONS, n_steps=300, warmup=0, rate=100.0, decay=0.0, save_every=1, schedule="constant")
    with Trainer(small, text, options=options, checkpoint=checkpoint) as trainer:
        with pytest.raises(DivergedError, match=r"for 50 steps the loss, now \S+, has been far above"):
            list(trainer.run())
        assert trainer.saved_step is not None
        assert trainer.saved_step <= trainer.step - 49  # of before it went wrong
        assert read_state(_core.Gguf.open(checkpoint)).step == trainer.saved_step


def test_what_does_not_fit_is_refused_with_what_would(small: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(OPTIONS, batch_size=32, n_ctx=64)
    with Trainer(small, text, options=options) as trainer:
        kept = trainer.memory.total
    with Trainer(small, text, options=replace(options, recompute=True)) as trainer:
        again = trainer.memory.total
        assert trainer.memory.recompute
    assert again < kept
    monkeypatch.setattr(_core, "memory_available", lambda: (kept + again) // 2)
    with Trainer(small, text, options=options) as trainer:
        assert trainer.memory.recompute
        assert trainer.options.recompute is None
    with pytest.raises(MemoryLimitError):
        Trainer(small, text, options=replace(options, recompute=False))
    monkeypatch.setattr(_core, "memory_available", lambda: again - 1)
    with pytest.raises(MemoryLimitError, match="would") as error:
        Trainer(small, text, options=options)
    for n in (kept, again, again - 1):
        assert f"{n / (1 << 20):.1f} MiB" in str(error.value)
    assert "a batch size of 16 with 2 accumulated, which is the same step, would fit" in str(error.value)
    monkeypatch.setattr(_core, "memory_available", lambda: 1000)
    with pytest.raises(MemoryLimitError, match="nothing smaller would fit"):
        Trainer(small, text, options=options)


def test_quantised_weights_are_no_parameters(small: Path, text: Path, tmp_path: Path) -> None:
    quantize(small, tmp_path / "q8_0.gguf", "Q8_0")
    with pytest.raises(UnsupportedError, match=r"q8_0\.gguf: tensor '\S+': Q8_0, only F32.* LoRA adapter"):
        Trainer(tmp_path / "q8_0.gguf", text, options=OPTIONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("rate", math.nan), ("rate", -1.0), ("beta2", 1.0), ("n_ctx", 1), ("schedule", "steps"),
     ("held_out", 1.5), ("n_steps", 0)],
)  # fmt: skip
def test_options_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: "):
        replace(OPTIONS, **{name: value})


def test_sizes_that_make_no_model(tiny: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, **sizes: Any) -> None:
        with pytest.raises(error, match=match):
            ModelConfig(**({"architecture": "llama", "n_layer": 1, "n_embd": 32, "n_head": 4} | sizes))

    refused(UnsupportedError, "architecture: found 'bert', from scratch there are gpt2, llama", architecture="bert")
    refused(ArgumentError, "n_layer: 0, expected 1 or more", n_layer=0)
    refused(ArgumentError, "n_head: 5, expected a divisor of n_embd, 32", n_head=5)
    refused(ArgumentError, "n_head_kv: 3, expected a divisor of n_head, 4", n_head_kv=3)
    refused(ArgumentError, "heads of 1: rotary embeddings need an even number", n_head=32)
    (tmp_path / "notes.txt").write_text("none")
    config = ModelConfig(architecture="llama", n_layer=1, n_embd=32, n_head=4)
    with pytest.raises(UnsupportedError, match=r"notes\.txt: neither GGUF, a tokenizer\.json"):
        create_model(tmp_path / "a.gguf", config, tmp_path / "notes.txt")


# ------------------------------------------------------------------ the commands


def command(*words: object) -> list[str]:
    return [str(word) for word in words]


def sizes(tiny: Path) -> list[str]:
    return command("--tokenizer", tiny, "--arch", "llama", "--n-layer", 2, "--n-embd", 32, "--n-head", 4, "-c", 32)


def test_train_writes_a_model_that_runs(
    tiny: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gguf"
    options = command("--steps", 20, "-b", 4, "--rate", "1e-2", "--name", "foxes", "--log", tmp_path / "run.csv")
    assert main(command("train", out, text, *sizes(tiny), *options)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "total" in captured.err  # the plan, before the first step
    assert captured.err.index("activations") < captured.err.index("1 of 20 steps")
    assert f"{out}: step 20 of 20, loss " in captured.err
    with Model(out) as model:
        assert model.metadata["general.name"] == "foxes"
        assert model.n_ctx_train == 32
        assert model.generate("The", max_tokens=5, temperature=0).text
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert [row["step"] for row in rows if row["held_out_loss"]] == [str(i) for i in range(2, 21, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "out.gguf.checkpoint", "run.csv"]
    # A finished run's checkpoint is no obstacle, and its model is something to begin with.
    assert main(command("train", tmp_path / "more.gguf", text, "--from", out, "--steps", 2, "-q", "-c", 16)) == 0
    assert main(command("train", out, text, *sizes(tiny), "--steps", 1, "-q")) == 0


def test_train_from_a_configuration(tiny: Path, text: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "architecture": "gpt2",
        "n_layer": 1,
        "n_embd": 16,
        "n_head": 2,
        "n_ctx": 48,
        "tied": False,
    }
    (tmp_path / "tok.gguf").write_bytes(tiny.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tokenizer": "tok.gguf"}))
    out = tmp_path / "out.gguf"
    assert (
        main(command("train", out, text, "--config", tmp_path / "config.json", "--n-layer", 2, "--steps", 1, "-q")) == 0
    )
    with Model(out) as model:
        assert (model.architecture, model.n_ctx_train) == ("gpt2", 48)
        assert {t.name for t in model.tensors} >= {"output.weight", "blk.1.ffn_up.bias"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_resume_goes_on(number: signal.Signals, tiny: Path, text: Path, tmp_path: Path) -> None:
    def run(*words: object, until: Callable[[dict[str, Any]], bool] = lambda line: False) -> tuple[int, list[Any], str]:
        process = subprocess.Popen(
            command(sys.executable, "-P", "-m", "nanollm", "train", *words, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if until(lines[-1]):
                process.send_signal(number)
        return process.wait(60), lines, process.stderr.read()

    out, log = tmp_path / "out.gguf", tmp_path / "run.jsonl"
    options = command("-b", 4, "--schedule", "constant", "--warmup", 5, "--eval-every", 0)
    begin = [out, text, *sizes(tiny), *options, "--steps", 100_000, "--log", log]
    code, lines, err = run(*begin, until=lambda line: (line["event"], line["step"]) == ("step", 20))
    assert (code, err) == (130, "")
    assert lines[-1]["event"] == "end"
    n_done = lines[-1]["step"]
    assert 20 <= n_done < 100_000
    assert not lines[-1]["done"]
    with Model(out) as model:
        assert model.logits([1]).std() > 0
    if number == signal.SIGTERM:
        return
    code, _, err = run(*begin)
    assert code == 2
    assert f"out.gguf.checkpoint: of a run at step {n_done} of 100000: --resume goes on" in err
    code, _, err = run(out, "--resume", "-b", 3)
    assert (code, "cannot change batch_size 4 to 3" in err) == (1, True)
    n_steps = n_done + 10
    code, lines, err = run(out, "--resume", "-t", 1, "--steps", n_steps)
    assert (code, err) == (0, "")
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(n_done + 1, n_steps + 1))
    assert [row["step"] for row in read_log(log)] == list(range(1, n_steps + 1))
    whole = tmp_path / "whole.gguf"
    code, _, _ = run(
        *(whole, text, *sizes(tiny), *options),
        *("--steps", n_steps, "--log", tmp_path / "whole.csv", "--name", "out"),
    )
    assert code == 0
    assert whole.read_bytes() == out.read_bytes()
    assert [row["loss"] for row in read_log(log)] == [row["loss"] for row in read_log(tmp_path / "whole.csv")]


def test_where_nothing_can_be_written_nothing_is_computed(
    small: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["train", tmp_path / "gone" / "out.gguf", text, "--from", small],
        ["train", tmp_path / "out.gguf", text, "--from", small, "--plot", tmp_path / "gone" / "run.png"],
    ):
        assert main(command(*words)) == 1
        assert f"{tmp_path / 'gone'} is no folder to write into" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert main(command("train", tmp_path / "folder", text, "--from", small)) == 1
    assert "OUT: expected a file" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(command("finetune", small, text, "-o", tmp_path / "a.gguf", "--peft", tmp_path / "file")) == 1
    assert "--peft: expected a folder" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_leaves_nothing(
    number: signal.Signals, tiny: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Trainer:
        assert (tmp_path / "out.gguf.initial").exists()
        signal.raise_signal(number)
        raise AssertionError("not interrupted")

    monkeypatch.setattr("nanollm.cli.train.Trainer", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    assert main(command("train", tmp_path / "out.gguf", *sizes(tiny), text)) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert not list(tmp_path.iterdir())


def test_an_interrupt_before_all_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, package: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanollm.cli.import_module", interrupted)
    assert main(["train", "out.gguf", "text.txt"]) == 130
    assert capsys.readouterr().err == "nanollm train: error: interrupted\n"


def test_a_log_that_is_no_file_is_not_read(small: Path, text: Path, tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK) or not os.access("/dev", os.W_OK):
        pytest.skip("no /dev/full to write to")  # which is endless to read
    words = ("train", tmp_path / "o.gguf", text, "--from", small, "--steps", 2, "--log", "/dev/full")
    program = "import sys; from nanollm.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-Pc", program, *command(*words)], capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.endswith("nanollm train: error: /dev/full: No space left on device\n")
    assert not list(tmp_path.iterdir())


def test_a_lost_run_is_an_error(tiny: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.gguf"
    options = command("--steps", 50, "--rate", "1e36", "--warmup", 0, "--save-every", 1, "--schedule", "constant")
    assert main(command("train", out, text, *sizes(tiny), *options, "-q")) == 1
    err = capsys.readouterr().err
    assert err.startswith("nanollm train: error: step ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out.gguf.initial").exists()


def test_a_plan_that_does_not_fit_is_an_error(
    small: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "memory_available", lambda: 1 << 20)
    assert main(command("train", tmp_path / "out.gguf", text, "--from", small)) == 1
    assert "does not fit into memory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_curve_is_drawn(tiny: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "run.png"
    assert main(command("train", tmp_path / "o.gguf", text, *sizes(tiny), "--steps", 4, "-q", "--plot", picture)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out.gguf", "TEXT"], "needs --arch, --n-layer, --n-embd, --n-head, --tokenizer"),
        (["out.gguf"], "DATA: a file is needed"),
        (["out.gguf", "--resume"], "--resume: out.gguf.checkpoint: no such file"),
        (["out.gguf", "TEXT", "--resume", "--restart"], "give one of the two"),
        (["TEXT", "TEXT"], "the file to write is the file to read"),
        (["out.gguf", "TEXT", "--log", "TEXT"], "the file to write is the file to read"),
        (["out.gguf", "TEXT", "--eval-data", "held", "--log", "held"], "the file to write is the file to read"),
        (["out.gguf", "TEXT", "--checkpoint", "./out.gguf"], "OUT and --checkpoint: expected two files"),
        (["out.gguf", "TEXT", "--log", "a", "--plot", "a"], "--log and --plot: expected two files"),
        (["out.gguf", "TEXT", "--from", "m.gguf", "--n-layer", "2"], "--n-layer: a model that is begun with --from"),
        (["--resume", "out.gguf", "--steps", "2", "TEXT"], "--resume: out.gguf.checkpoint: no such file"),
        (["out.gguf", "TEXT", "--schedule", "steps"], "argument --schedule: invalid choice"),
        (["out.gguf", "TEXT", "--held-out", "2"], "argument --held-out: 2: expected 0 to 1"),
    ],
)
def test_usage(
    words: list[str], message: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("held").write_text("abc")
    assert main(["train", *(str(text) if word == "TEXT" else word for word in words)]) == 2
    assert message in capsys.readouterr().err

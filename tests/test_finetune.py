"""Fine-tuning: LoRA adapters on models of any type, all the weights of a model, conversations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from nanollm import ArgumentError, Model, ShapeError, _core, lora, quantize
from nanollm.cli import main
from nanollm.quality import Windows, perplexity
from nanollm.train import ModelConfig, Trainer, TrainOptions, create_model

OPTIONS = TrainOptions(n_steps=30, batch_size=4, n_ctx=32, rate=1e-2, decay=0.0, n_threads=2, eval_every=30)
TEXT = "".join(f"The {a} sees the {b}.\n" for a in ("fox", "hen", "cat") for b in ("sea", "sun", "hat")) * 30


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module", params=["Q8_0", "Q4_0"])
def quantised(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights, 64 wide."""
    folder = tmp_path_factory.mktemp("quantised")
    config = ModelConfig(architecture="llama", n_layer=2, n_embd=64, n_head=4, n_head_kv=2, n_ff=96, n_ctx=64)
    create_model(folder / "f32.gguf", config, tiny)
    quantize(folder / "f32.gguf", folder / "model.gguf", request.param)
    return folder / "model.gguf"


def nll(model: Path, text: str, *adapters: Path) -> float:
    """Nats a token, as a model that is used has it."""
    with Model(model, n_ctx=32, adapters=adapters) as opened:
        return perplexity(opened, Windows.of(opened, text, 32, n_windows=8)).nll.value


def test_an_adapter_learns_beside_quantised_weights(quantised: Path, text: Path, tmp_path: Path) -> None:
    adapter, out, checkpoint = (tmp_path / name for name in ("a.gguf", "out.gguf", "a.checkpoint"))
    lora.create(quantised, adapter, rank=4)
    with Trainer(quantised, text, adapter=adapter, options=OPTIONS, checkpoint=checkpoint) as trainer:
        n_linear = 2 * (2 * 64 + 2 * (64 + 32) + 2 * 64 + 3 * (64 + 96))
        assert trainer.n_parameters == 4 * n_linear
        assert trainer.memory.memory.weights > 0  # mapped, as they are
        before = trainer.evaluate()
        steps = list(trainer.run())
        assert trainer.evaluate() < before - 0.5
        trainer.save(out)
    assert steps[-1].loss < steps[0].loss - 0.5
    # The adapter does the same where the model is used.
    assert nll(quantised, TEXT, adapter) == nll(quantised, TEXT)
    assert nll(quantised, TEXT, out) < nll(quantised, TEXT) - 0.5
    # Resumed from its middle, it is the same.
    with Trainer(quantised, text, adapter=adapter, options=OPTIONS, checkpoint=checkpoint) as trainer:
        for step in trainer.run():
            if step.step == 13:
                trainer.stop()
    with Trainer.resume(checkpoint, n_threads=1) as trainer:
        list(trainer.run())
        trainer.save(tmp_path / "resumed.gguf")
    assert (tmp_path / "resumed.gguf").read_bytes() == out.read_bytes()


def test_a_run_belongs_to_its_model(quantised: Path, text: Path, tiny: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    lora.create(quantised, tmp_path / "a.gguf")
    with Trainer(quantised, text, adapter=tmp_path / "a.gguf", options=OPTIONS, checkpoint=checkpoint) as trainer:
        trainer.save_checkpoint()
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(quantised.read_bytes())
    Trainer.resume(checkpoint, model=moved).close()
    other = bytearray(quantised.read_bytes())
    other[-100] ^= 1
    moved.write_bytes(other)
    with _core.Gguf.open(moved) as gguf:
        last = gguf.tensors[-1]
        assert last.offset + 4096 >= len(other) - 100  # or the change would not be seen
    with pytest.raises(ArgumentError, match=r"moved\.gguf: another model than the run began with"):
        Trainer.resume(checkpoint, model=moved)
    with pytest.raises(ShapeError):
        Trainer.resume(checkpoint, model=tiny, data=[text])


# ------------------------------------------------------------------ the command


def command(*words: object) -> list[str]:
    return [str(word) for word in words]


def test_finetune_writes_an_adapter(
    quantised: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(quantised.read_bytes())
    options = command(
        "--steps", 30, "-b", 4, "-c", 32, "--rate", "1e-2", "--lora-rank", 2, "--lora-targets", "attention"
    )
    assert main(command("finetune", model, text, *options)) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "frozen" in captured.err
    out = tmp_path / "model-lora.gguf"
    assert f"{out}: step 30 of 30, loss " in captured.err
    adapter = lora.read(out)
    assert {pair.rank for pair in adapter.pairs.values()} == {2}
    assert {name.split(".")[2] for name in adapter.pairs} == {"attn_q", "attn_k", "attn_v", "attn_output"}
    assert adapter.alpha == 4
    assert nll(model, TEXT, out) < nll(model, TEXT) - 0.2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model-lora.gguf",
        "model-lora.gguf.checkpoint",
        model.name,
    ]


def test_finetune_for_peft(quantised: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    out, folder = tmp_path / "out.gguf", tmp_path / "peft"
    words = command("finetune", quantised, text, "-o", out, "--steps", 2, "-c", 32, "--peft", folder, "-q")
    assert main(words) == 0
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(lora.read(out).pairs)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 8


def test_finetune_all_weights(tiny: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    options = command("--full", "--steps", 30, "-b", 4, "-c", 32, "--rate", "3e-3", "--outtype", "f16", "-q")
    assert main(command("finetune", tiny, text, "-o", out, *options)) == 0
    assert nll(out, TEXT) < nll(tiny, TEXT) - 2
    with Model(out) as model:
        assert {t.type for t in model.tensors if len(t.shape) > 1} == {"F16"}


def test_finetune_on_conversations(chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer to a question is learnt, and what was asked is not."""
    data = tmp_path / "chat.jsonl"
    answers = {"one": "a sea", "two": "the sun"}
    talks = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in answers.items()]
    data.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks * 20))
    out = tmp_path / "chat.gguf"
    options = command("--full", "--steps", 80, "-b", 4, "-c", 64, "--rate", "3e-3", "--held-out", 0, "--json")
    assert main(command("finetune", chatty, data, "-o", out, *options)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["start", *["step"] * 80, "end"]
    assert lines[-2]["loss"] < 0.1 < lines[1]["loss"]
    with Model(out) as model:
        for question, answer in answers.items():
            generation = model.chat([{"role": "user", "content": question}], temperature=0, max_tokens=20)
            assert generation.text == answer
            assert generation.ended_by_model


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--full", "--lora-rank", "4"], "--lora-rank: of an adapter, which --full does without"),
        (["--outtype", "f16"], "--outtype: an adapter is written as f32"),
        (["--lora-rank", "0"], "argument --lora-rank: 0: expected at least 1"),
        (["-o", "MODEL"], "the file to write is the file to read"),
    ],
)
def test_usage(words: list[str], message: str, tiny: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(tiny), str(text), *(str(tiny) if w == "MODEL" else w for w in words)]) == 2
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------ stories260K on Shakespeare


def test_a_model_of_stories_learns_shakespeare(stories: Path, data_dir: Path, tmp_path: Path) -> None:
    """Its perplexity on what it has not read falls by far more than half, whether the run is unbroken or not."""
    whole = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    cut = len(whole) * 9 // 10
    read, unread = whole[:cut], whole[cut:]
    (tmp_path / "read.txt").write_text(read)
    (tmp_path / "unread.txt").write_text(unread[:10_000])
    options = TrainOptions(n_steps=60, batch_size=8, n_ctx=64, rate=3e-3, eval_every=60, save_every=100)
    files = {"data": [tmp_path / "read.txt"], "held_out": [tmp_path / "unread.txt"]}
    checkpoint = tmp_path / "a.checkpoint"
    with Trainer(stories, **files, options=options) as trainer:
        before = trainer.evaluate()
        steps = list(trainer.run())
        trainer.save(tmp_path / "whole.gguf")
    assert steps[-1].held_out_loss is not None
    assert steps[-1].held_out_loss < before - 1.5
    with Trainer(stories, **files, options=replace(options, n_threads=1), checkpoint=checkpoint) as trainer:
        for step in trainer.run():
            if step.step == 30:
                trainer.stop()
    with Trainer.resume(checkpoint, n_threads=2) as trainer:
        list(trainer.run())
        trainer.save(tmp_path / "resumed.gguf")
    assert (tmp_path / "resumed.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    values = []
    for path in (stories, tmp_path / "whole.gguf"):
        with Model(path, n_ctx=64) as model:
            values.append(perplexity(model, Windows.of(model, unread, 64, n_windows=100)).perplexity.value)
    assert values[1] < values[0] / 4
    assert math.log(values[1]) == pytest.approx(steps[-1].held_out_loss, abs=0.3)  # the trainer told the truth

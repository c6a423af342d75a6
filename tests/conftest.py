"""Models that tests share: a tiny random one made on the spot, and stories260K where the test data is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanollm import _core
from nanollm.convert import convert

# A template that shows each of its parts, so that tests can tell what a model was given.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)

_PIECES = [*"▁etaoinshrdlucmfwypvbgkjqxz.,!?'\"[]", "▁t", "he", "▁the", "in", "▁a", "on", "re", "er", "▁Once", "ed"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of third-party test data."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("NANOLLM_TEST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data: {folder} is no folder (NANOLLM_TEST_DATA names one)")
    return folder


@pytest.fixture(scope="session")
def stories(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories260K as a GGUF file."""
    path = tmp_path_factory.mktemp("stories") / "stories260K.gguf"
    convert(data_dir / "stories260K.bin", path, "f32", tokenizer=data_dir / "tok512.bin", report=lambda note: None)
    return path


@pytest.fixture(scope="session")
def stories_text(data_dir: Path) -> str:
    """How stories260K goes on from nothing, greedily."""
    lines = (data_dir / "README.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("> ") for line in lines if line.startswith("> "))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 12,000 random weights with a context of 128, and no chat template."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template and a longer context."""
    return write_tiny(tmp_path_factory.mktemp("chatty") / "chatty.gguf", n_ctx=4000, template=CHAT_TEMPLATE)


def write_tiny(path: Path, n_ctx: int = 128, template: str | None = None, name: str = "tiny") -> Path:
    """Writes a Llama with random weights and a SentencePiece-style vocabulary with all bytes."""
    rng = np.random.default_rng(3)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_PIECES]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(_PIECES)]
    scores = [*[0.0] * 259, *(-float(i) for i in range(len(_PIECES)))]
    n_vocab, n_embd, n_ff, n_layer, n_head, n_head_kv = len(tokens), 32, 48, 2, 4, 2
    n_kv = n_embd // n_head * n_head_kv
    metadata: list[tuple[str, str, Any]] = [
        ("general.architecture", "string", "llama"),
        ("general.name", "string", name),
        ("llama.context_length", "uint32", n_ctx),
        ("llama.embedding_length", "uint32", n_embd),
        ("llama.block_count", "uint32", n_layer),
        ("llama.feed_forward_length", "uint32", n_ff),
        ("llama.attention.head_count", "uint32", n_head),
        ("llama.attention.head_count_kv", "uint32", n_head_kv),
        ("llama.attention.layer_norm_rms_epsilon", "float32", 1e-5),
        ("llama.rope.dimension_count", "uint32", n_embd // n_head),
        ("tokenizer.ggml.model", "string", "llama"),
        ("tokenizer.ggml.tokens", "string", tokens),
        ("tokenizer.ggml.scores", "float32", np.array(scores, np.float32)),
        ("tokenizer.ggml.token_type", "int32", np.array(kinds, np.int32)),
        ("tokenizer.ggml.bos_token_id", "uint32", 1),
        ("tokenizer.ggml.eos_token_id", "uint32", 2),
        ("tokenizer.ggml.unknown_token_id", "uint32", 0),
    ]
    if template is not None:
        metadata.append(("tokenizer.chat_template", "string", template))
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd), "output_norm.weight": (n_embd,)}
    for i in range(n_layer):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (n_embd,),
            f"blk.{i}.attn_q.weight": (n_embd, n_embd),
            f"blk.{i}.attn_k.weight": (n_kv, n_embd),
            f"blk.{i}.attn_v.weight": (n_kv, n_embd),
            f"blk.{i}.attn_output.weight": (n_embd, n_embd),
            f"blk.{i}.ffn_norm.weight": (n_embd,),
            f"blk.{i}.ffn_gate.weight": (n_ff, n_embd),
            f"blk.{i}.ffn_up.weight": (n_ff, n_embd),
            f"blk.{i}.ffn_down.weight": (n_embd, n_ff),
        }
    with _core.GgufWriter(path) as writer:
        for key, kind, value in metadata:
            writer.set(key, kind, value)
        for name, shape in shapes.items():
            writer.add_tensor(name, shape, "F32")
        for name, shape in shapes.items():
            weights = np.ones(shape) if name.endswith("norm.weight") else rng.normal(0, 0.5, shape)
            writer.write(weights.astype(np.float32))
    return path

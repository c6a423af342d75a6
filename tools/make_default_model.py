"""Make the placeholder default model: a small Llama trained for minutes on generated stories.

It stands in until the project has trained a real one, and its file says so. To reproduce it::

    pip install torch transformers tokenizers
    python tools/make_default_model.py /some/folder/default-model
    nanollm convert /some/folder/default-model -o nanollm/data/default.gguf --outtype q8_0 \\
        --name "nanollm placeholder (stories)" \\
        --description "A quickly made placeholder, trained for minutes on generated stories. It knows nothing else."

The first command writes a Hugging Face folder (config.json, model.safetensors, tokenizer.json); it takes about
25 minutes on one core. The seed is fixed, so the same versions on the same machine give the same file.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from stories import story
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

N_VOCAB = 1024
N_CTX = 512
BOS, EOS = "<s>", "</s>"


def make_tokenizer(rng: random.Random, n_stories: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's pre-tokenizer, so any text can be written; ids 0 and 1 are BOS and EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((story(rng) for _ in range(n_stories)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return tokenizer


def rows(tokenizer: Tokenizer, rng: random.Random, n_rows: int) -> Iterator[torch.Tensor]:
    """Endless (n_rows, N_CTX + 1) ids: stories one after the other, each between BOS and EOS."""
    ids: list[int] = []
    size = n_rows * (N_CTX + 1)
    while True:
        while len(ids) < size:
            ids += [*tokenizer.encode(story(rng)).ids, 1]
        yield torch.tensor(ids[:size]).view(n_rows, N_CTX + 1)
        ids = ids[size:]


def make_model() -> LlamaForCausalLM:
    """1.1 M parameters; every matrix row is a multiple of 32 long, as block quantisation wants it."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=N_VOCAB,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=5,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=N_CTX,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def train(model: LlamaForCausalLM, batches: Iterator[torch.Tensor], n_steps: int, learning_rate: float) -> float:
    """AdamW, a short warm-up, then a cosine down to a twentieth. Returns the mean loss of the last 20 steps."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    n_warm = min(100, n_steps // 5)
    recent: list[float] = []
    start = time.monotonic()
    model.train()
    for step in range(n_steps):
        done = max(0.0, (step - n_warm) / max(1, n_steps - n_warm))
        scale = min(1.0, (step + 1) / max(1, n_warm)) * (0.05 + 0.475 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * scale
        batch = next(batches)
        logits = model(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, N_VOCAB), batch[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-19:], loss.item()]
        if step % 20 == 0 or step == n_steps - 1:
            print(
                f"step {step:5d}  loss {sum(recent) / len(recent):.4f}  {time.monotonic() - start:7.1f} s", flush=True
            )
    return sum(recent) / len(recent)


def save(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": N_CTX,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def sample(model: LlamaForCausalLM, tokenizer: Tokenizer, prompt: str, temperature: float) -> str:
    """A continuation of `prompt`, at most N_CTX tokens in all; greedy at temperature 0."""
    model.eval()
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    how = {"do_sample": True, "temperature": temperature, "top_k": 40} if temperature > 0 else {"do_sample": False}
    out = model.generate(ids, max_new_tokens=N_CTX - ids.shape[1], pad_token_id=1, **how)
    return tokenizer.decode(out[0].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the placeholder default model.")
    parser.add_argument("folder", type=Path, help="where the Hugging Face folder is written")
    parser.add_argument("--steps", type=int, default=1800, help="training steps of 2048 tokens (default 1800)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="the highest (default 0.003)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="of the weights and the stories (default 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = make_tokenizer(rng, 20_000)
    model = make_model()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    loss = train(model, rows(tokenizer, rng, 4), args.steps, args.learning_rate)
    save(args.folder, model, tokenizer)
    print(f"loss {loss:.4f}; saved in {args.folder}\n")
    for temperature in (0.0, 0.8, 0.8):
        print(f"--- temperature {temperature}\n{sample(model, tokenizer, 'Once upon a time', temperature)}\n")


if __name__ == "__main__":
    main()

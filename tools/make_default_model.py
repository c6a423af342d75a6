"""Make the default model, a small Llama, from nothing by nanollm's own commands; or its sibling, a GPT-2 for tests.

    pip install '.[tokenizer]'
    python tools/make_default_model.py /some/folder              # corpus, tokenizer, training, quantising, scores
    python tools/make_default_model.py /some/folder --install    # and into nanollm/data/default.gguf
    python tools/make_default_model.py /other/folder --gpt2 --install

What is in the folder already is not made again, and an unfinished training goes on: the same command finishes the work
of an interrupted one. docs/default-model.md tells how long it takes and what came of it.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).parent
ROOT = TOOLS.parent


@dataclass(frozen=True)
class Recipe:
    """What a model is made of. Options are those of `nanollm train`."""

    target: Path
    name: str
    description: str
    n_stories: int
    """To learn from, each once."""
    plot: str | None
    """The only one, or None for all."""
    n_vocab: int
    shape: dict[str, Any]
    """Matrix rows are multiples of 32 long, as block quantisation wants it."""
    steps: dict[str, Any]
    """A batch is so many stories, each a sequence of its own: none is longer than the context."""
    outtype: str


DEFAULT = Recipe(
    target=ROOT / "nanollm" / "data" / "default.gguf",
    name="nanollm stories",
    description="A small Llama that writes little stories and knows nothing else. Trained from scratch by nanollm "
    "train on stories that tools/stories.py made.",
    n_stories=56_000,
    plot=None,
    n_vocab=2048,
    shape={"arch": "llama", "n-layer": 5, "n-embd": 128, "n-head": 8, "n-head-kv": 4, "n-ff": 384, "model-ctx": 512},
    steps={"ctx-size": 384, "batch-size": 8, "rate": 3e-3, "warmup": 200, "floor": 0.02, "beta2": 0.98},
    outtype="q8_0",
)
GPT2 = Recipe(
    target=ROOT / "tests" / "data" / "gpt2-stories.gguf",
    name="nanollm stories, GPT-2",
    description="A tiny GPT-2 for tests. Trained from scratch by nanollm train on stories that tools/stories.py made.",
    n_stories=10_000,
    plot="things",
    n_vocab=512,
    shape={"arch": "gpt2", "n-layer": 2, "n-embd": 64, "n-head": 4, "n-ff": 256, "model-ctx": 320},
    steps={"ctx-size": 320, "batch-size": 8, "rate": 4e-3, "warmup": 100, "floor": 0.02, "beta2": 0.98},
    outtype="q5_1",
)


def call(*words: object) -> None:
    """Runs Python with these words after saying so."""
    line = [sys.executable, *map(str, words)]
    print("$", shlex.join(["python", *line[1:]]), flush=True)
    subprocess.run(line, check=True)


def make(recipe: Recipe, folder: Path, seed: int, threads: int) -> Path:
    """Everything up to the quantised file, whose path it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, held_out, tokenizer = folder / "stories.txt", folder / "held-out.txt", folder / "tokenizer.json"
    trained, checkpoint, done = folder / "trained.gguf", folder / "trained.checkpoint", folder / recipe.target.name
    plot = ["--plot", recipe.plot] if recipe.plot else []
    for path, count, of in ((corpus, recipe.n_stories, seed), (held_out, 100, seed + 1_000_000)):
        if not path.exists():
            call(TOOLS / "stories.py", "--count", count, "--seed", of, "-o", path, *plot)
    if not tokenizer.exists():
        call("-P", "-m", "nanollm", "train-tokenizer", corpus, "-o", tokenizer, "--vocab-size", recipe.n_vocab)
    train = ["-P", "-m", "nanollm", "train", trained]
    where = ["--checkpoint", checkpoint, "--log", folder / "log.csv", "--threads", threads]
    if checkpoint.exists():
        call(*train, *where, "--resume")
    else:
        options = [word for name, value in (recipe.shape | recipe.steps).items() for word in (f"--{name}", value)]
        options += ["--epochs", 1, "--seed", seed, "--save-every", 250, "--eval-every", 500]
        texts = ["--eval-data", held_out, "--separator", r"\n\n", "--no-pack", "--tokenizer", tokenizer]
        call(*train, corpus, *texts, *options, *where)
    keys = {"general.name": recipe.name, "general.description": recipe.description, "general.license": "MIT"}
    words = [word for key, value in keys.items() for word in ("--override-kv", f"{key}=str:{value}")]
    call("-P", "-m", "nanollm", "quantize", "-q", *words, trained, done, recipe.outtype)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the default model.")
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument("--gpt2", action="store_true", help="the sibling for tests instead")
    parser.add_argument("--seed", type=int, default=1, help="of stories, weights and order (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="the result is the same for any number (default 2)")
    parser.add_argument("--install", action="store_true", help="copy the result into the tree")
    args = parser.parse_args()
    recipe = GPT2 if args.gpt2 else DEFAULT
    done = make(recipe, args.folder, args.seed, args.threads)
    call(TOOLS / "story_check.py", "--model", done, "--count", 400)
    print(f"{done}: {done.stat().st_size} bytes")
    if args.install:
        recipe.target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(done, recipe.target)
        print(f"{recipe.target}: replaced")


if __name__ == "__main__":
    main()

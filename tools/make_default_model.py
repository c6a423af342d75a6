"""Make the default model: a small Llama, from nothing, by nanollm's own commands.

    pip install '.[tokenizer]'
    python tools/make_default_model.py /some/folder            # corpus, tokenizer, training, quantising, scores
    python tools/make_default_model.py /some/folder --install  # and into nanollm/data/default.gguf

What is in the folder already is not made again, and an unfinished training goes on: the same command finishes the work
of an interrupted one. docs/default-model.md tells how long it takes and what came of it.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
TARGET = TOOLS.parent / "nanollm" / "data" / "default.gguf"

N_VOCAB = 2048
SHAPE = {"arch": "llama", "n-layer": 5, "n-embd": 128, "n-head": 8, "n-head-kv": 4, "n-ff": 384, "model-ctx": 512}
"""1.2 M parameters; every matrix row is a multiple of 32 long, as block quantisation wants it."""
STEPS = {"ctx-size": 384, "batch-size": 8, "rate": 3e-3, "warmup": 200, "floor": 0.02, "beta2": 0.98}
"""A batch is 8 stories, each a sequence of its own: none is longer than 384 tokens. Each is read once."""
NAME = "nanollm stories"
DESCRIPTION = (
    "A small Llama that writes little stories and knows nothing else. Trained from scratch by nanollm train on stories "
    "that tools/stories.py made."
)


def call(*words: object) -> None:
    """Runs Python with these words after saying so."""
    line = [sys.executable, *map(str, words)]
    print("$", shlex.join(["python", *line[1:]]), flush=True)
    subprocess.run(line, check=True)


def make(folder: Path, n_stories: int, seed: int, threads: int) -> Path:
    """Everything up to the quantised file, whose path it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, held_out, tokenizer = folder / "stories.txt", folder / "held-out.txt", folder / "tokenizer.json"
    trained, checkpoint, done = folder / "trained.gguf", folder / "trained.checkpoint", folder / "default.gguf"
    for path, count, of in ((corpus, n_stories, seed), (held_out, 100, seed + 1_000_000)):
        if not path.exists():
            call(TOOLS / "stories.py", "--count", count, "--seed", of, "-o", path)
    if not tokenizer.exists():
        call("-P", "-m", "nanollm", "train-tokenizer", corpus, "-o", tokenizer, "--vocab-size", N_VOCAB)
    train = ["-P", "-m", "nanollm", "train", trained]
    where = ["--checkpoint", checkpoint, "--log", folder / "log.csv", "--threads", threads]
    if checkpoint.exists():
        call(*train, *where, "--resume")
    else:
        options = [word for name, value in (SHAPE | STEPS).items() for word in (f"--{name}", value)]
        options += ["--epochs", 1, "--seed", seed, "--save-every", 250, "--eval-every", 500]
        texts = ["--eval-data", held_out, "--separator", r"\n\n", "--no-pack", "--tokenizer", tokenizer]
        call(*train, corpus, *texts, *options, *where)
    keys = {"general.name": NAME, "general.description": DESCRIPTION, "general.license": "MIT"}
    words = [word for key, value in keys.items() for word in ("--override-kv", f"{key}=str:{value}")]
    call("-P", "-m", "nanollm", "quantize", *words, trained, done, "q8_0")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the default model.")
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument("--stories", type=int, default=56_000, help="stories to learn from (default 56000)")
    parser.add_argument("--seed", type=int, default=1, help="of stories, weights and order (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="the result is the same for any number (default 2)")
    parser.add_argument("--install", action="store_true", help=f"copy the result to {TARGET.name} of the package")
    args = parser.parse_args()
    done = make(args.folder, args.stories, args.seed, args.threads)
    call(TOOLS / "story_check.py", "--model", done, "--count", 400)
    print(f"{done}: {done.stat().st_size} bytes")
    if args.install:
        shutil.copyfile(done, TARGET)
        print(f"{TARGET}: replaced")


if __name__ == "__main__":
    main()

"""`nanollm`: one command, one file a sub-command, each imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from .. import _core
from .common import EXIT_OK, ArgumentParser, UsageError, run

# Name: what --help says of it. The module of that name (with _ for -) holds main(argv) -> exit code.
_COMMANDS = {
    "adb": "models on a phone or a watch: push them, run them there",
    "bench": "measure the speed of prompts and of decoding",
    "compare": "tell size, quality and speed of several files of one model",
    "convert": "write a model of another format as GGUF",
    "export": "write a GGUF file that runs without Python: with its program and chat pieces inside",
    "fit": "tell the memory a model needs, and whether it fits this machine",
    "finetune": "teach a model new texts or conversations: a LoRA adapter, or all its weights",
    "imatrix": "tell what the columns of a model's matrices weigh in a text",
    "info": "explain a GGUF file: metadata, types, tokenizer, memory to run",
    "merge": "fold LoRA adapters into a model's file",
    "perplexity": "tell how well a model predicts a text, by itself or beside another",
    "quantize": "write a GGUF file with smaller types; nanollm-quantize is the same",
    "train": "train a model from scratch, or all the weights of one, on texts",
    "train-tokenizer": "learn a vocabulary from text files, for a model from scratch",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `nanollm`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in _COMMANDS:
        # Imported within `run`: Ctrl-C at any moment ends in one line.
        return run(
            f"nanollm {words[0]}",
            lambda: int(import_module(f".{words[0].replace('-', '_')}", __package__).main(words[1:])),
        )
    return run("nanollm", lambda: _overview(words))


def _overview(words: Sequence[str]) -> int:
    lines = [f"  {name:<17}{text}" for name, text in _COMMANDS.items()]
    parser = ArgumentParser(
        "nanollm",
        "Runs, quantises and fine-tunes small language models on small devices.",
        "commands:\n" + "\n".join(lines) + "\n\nnanollm COMMAND --help tells more; nanollm-cli generates text.\n",
        usage="nanollm COMMAND [options]",
    )
    parser.add_argument("-h", "--help", action="help", help="print this and exit")
    parser.add_argument("--version", action="version", version=f"nanollm {_core.version()}", help="print the version")
    if words and not words[0].startswith("-"):
        raise UsageError(f"{words[0]!r}: no such command, known are {', '.join(_COMMANDS)}")
    parser.parse(words)
    if not words:
        parser.print_help()
    return EXIT_OK

"""Tokenizers for models from scratch: a byte-level BPE learnt from text files, as tokenizer.json.

The `tokenizers` package (extra ``tokenizer``) learns the merges; what it writes is read by `nanollm.convert` and by
everything else that knows the format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..convert.source import write_atomically
from ..convert.tokenizer import PRE_TOKENIZERS
from ..errors import ArgumentError, FileError, FormatError, UnsupportedError

__all__ = ["MIN_VOCAB", "TokenizerReport", "train_tokenizer"]

MIN_VOCAB = 256 + 2
"""Every byte and two special tokens."""
MAX_VOCAB = 1 << 20

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenizerReport:
    """What was learnt."""

    path: Path
    n_vocab: int
    n_bytes: int
    """Of the text it was learnt from."""


def train_tokenizer(
    files: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    n_vocab: int,
    *,
    pre: str = "gpt-2",
    bos: str = "<s>",
    eos: str = "</s>",
    progress: Callable[[int, int], None] | None = None,
) -> TokenizerReport:
    """Learns a vocabulary of at most `n_vocab` tokens from UTF-8 text files; writes tokenizer.json into `folder`.

    All 256 bytes are tokens, so that any text can be written; less text than `n_vocab` needs gives fewer. Beside it,
    tokenizer_config.json says which tokens begin (id 0) and end a text (id 1; the same one where `bos` is `eos`);
    encoding puts `bos` in front. Both files are written atomically.

    :param pre: how text is cut into words before merging, by GGUF's name: a key of PRE_TOKENIZERS.
    :param progress: called with bytes read and bytes in all.
    :raises UnsupportedError: the `tokenizers` package is not there.
    :raises FormatError: a file is not UTF-8.
    """
    if not MIN_VOCAB <= n_vocab <= MAX_VOCAB:
        raise ArgumentError(f"vocabulary: found {n_vocab} tokens, expected {MIN_VOCAB} to {MAX_VOCAB}")
    if pre not in PRE_TOKENIZERS:
        raise ArgumentError(f"pre-tokenizer: found {pre!r}, expected one of {', '.join(PRE_TOKENIZERS)}")
    if not bos or not eos:
        raise ArgumentError("special tokens: found an empty one")
    if not files:
        raise ArgumentError("no text to learn a vocabulary from")
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, processors, trainers
    except ImportError:
        raise UnsupportedError("needs the tokenizers package: pip install 'nanollm[tokenizer]'") from None
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _cut(PRE_TOKENIZERS[pre])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=list(dict.fromkeys((bos, eos))),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    paths = [Path(file) for file in files]
    n_bytes = sum(_size(path) for path in paths)
    if not n_bytes and all(path.is_file() for path in paths):
        raise ArgumentError(f"{', '.join(map(str, paths))}: no text to learn a vocabulary from")
    tokenizer.train_from_iterator(_pieces(paths, n_bytes, progress), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    target = Path(folder) / "tokenizer.json"
    _write(target, tokenizer.to_str(pretty=True))
    _write(target.with_name("tokenizer_config.json"), json.dumps(config, indent=2) + "\n")
    return TokenizerReport(target, tokenizer.get_vocab_size(), n_bytes)


def _cut(steps: Sequence[str]) -> Any:
    """The pre-tokenizer whose steps `nanollm.convert.tokenizer` would write so."""
    from tokenizers import Regex, pre_tokenizers

    made: list[Any] = []
    for step in steps:
        kind, _, detail = step.partition(" ")
        if kind == "Split":
            made.append(pre_tokenizers.Split(Regex(detail), "isolated"))
        elif kind == "Digits":
            made.append(pre_tokenizers.Digits(individual_digits=True))
        else:
            made.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=detail == "regex"))
    return made[0] if len(made) == 1 else pre_tokenizers.Sequence(made)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


def _pieces(paths: Sequence[Path], n_bytes: int, progress: Callable[[int, int], None] | None) -> Iterator[str]:
    """The files' text in pieces of about a megabyte, cut between lines where a word begins, so that no word is cut."""
    done = 0
    for path in paths:
        rest = ""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                while text := file.read(_PIECE):
                    done += len(text.encode())
                    if progress is not None:
                        progress(done, n_bytes)
                    rest += text
                    cut = rest.rfind("\n") + 1
                    while 0 < cut < len(rest) and rest[cut].isspace():
                        cut = rest.rfind("\n", 0, cut - 1) + 1
                    if 0 < cut < len(rest):
                        yield rest[:cut]
                        rest = rest[cut:]
        except OSError as error:
            raise FileError(f"{path}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise FormatError(f"{path}: not UTF-8: {error.reason}") from None
        yield rest


def _write(path: Path, text: str) -> None:
    write_atomically(path, [text.encode("utf-8")])

"""A tokenizer as GGUF keeps it, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np

from nanollm.errors import FormatError
from nanollm.models import Value

__all__ = ["Kind", "Vocabulary"]


class Kind(IntEnum):
    """What a token is, by GGUF's (and SentencePiece's) number."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


Special = Literal["bos", "eos", "eot", "eom", "unknown", "padding"]


@dataclass(slots=True)
class Vocabulary:
    """``model``: "gpt2" (byte-level BPE, with ``merges``) or "llama" (SentencePiece BPE, with ``scores``)."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    kinds: list[Kind]
    scores: list[float] | None = None
    merges: list[str] | None = None
    special: dict[Special, int] = field(default_factory=dict)
    add_bos: bool | None = None
    add_eos: bool | None = None
    add_space_prefix: bool | None = None
    chat_templates: dict[str, str] = field(default_factory=dict)
    """By name; "default" is the one a chat uses."""

    def fit(self, n_vocab: int, source: str, notes: list[str]) -> None:
        """Makes the tokens as many as the embedding has rows: ``[PADn]`` fill up; added tokens beyond it go."""
        surplus = len(self.tokens) - n_vocab
        if surplus > 0:
            for i in range(n_vocab, len(self.tokens)):
                if self.kinds[i] not in (Kind.CONTROL, Kind.USER_DEFINED, Kind.UNUSED):
                    raise FormatError(
                        f"{source}: token {i} {self.tokens[i]!r} is beyond the embedding's {n_vocab} rows"
                    )
            notes.append(f"{surplus} added tokens beyond the embedding's {n_vocab} rows are left out")
            del self.tokens[n_vocab:], self.kinds[n_vocab:]
            if self.scores is not None:
                del self.scores[n_vocab:]
            self.special = {name: i for name, i in self.special.items() if i < n_vocab}
        elif surplus < 0:
            notes.append(f"{-surplus} tokens [PADn] fill the vocabulary up to the embedding's {n_vocab} rows")
            for i in range(len(self.tokens), n_vocab):
                self.tokens.append(f"[PAD{i}]")
                self.kinds.append(Kind.UNUSED)
                if self.scores is not None:
                    self.scores.append(-1000.0)

    def metadata(self) -> dict[str, Value]:
        """The ``tokenizer.*`` keys."""
        out: dict[str, Value] = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.token_type": np.array(self.kinds, np.int32),
        }
        if self.scores is not None:
            out["tokenizer.ggml.scores"] = np.array(self.scores, np.float32)
        if self.merges is not None:
            out["tokenizer.ggml.merges"] = self.merges
        out |= {f"tokenizer.ggml.{role}_token_id": i for role, i in self.special.items()}
        flags = {
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            "add_space_prefix": self.add_space_prefix,
        }
        out |= {f"tokenizer.ggml.{key}": flag for key, flag in flags.items() if flag is not None}
        for name, template in self.chat_templates.items():
            out["tokenizer.chat_template" if name == "default" else f"tokenizer.chat_template.{name}"] = template
        others = sorted(n for n in self.chat_templates if n != "default")
        if others:
            out["tokenizer.chat_templates"] = others
        return out

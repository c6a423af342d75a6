"""SentencePiece's tokenizer.model: the few fields that matter of its protocol-buffer message.

Fields: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from pathlib import Path

from nanollm.convert.protobuf import Field, fields, message, number
from nanollm.convert.source import map_file
from nanollm.convert.vocabulary import Kind, Special, Vocabulary
from nanollm.errors import FormatError, UnsupportedError

__all__ = ["read"]

_ALGORITHMS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_BPE = 2


def _piece(piece: dict[int, Field]) -> tuple[str, float, Kind]:
    text, score = piece.get(1, b""), piece.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise ValueError("a piece without text or score")
    return text.decode(), struct.unpack("<f", score)[0], Kind(number(piece, 3, Kind.NORMAL))


def read(path: Path) -> Vocabulary:
    """The vocabulary of a BPE model. Raises UnsupportedError for other algorithms and for normalising ones."""
    try:
        pieces: list[tuple[str, float, Kind]] = []
        trainer: dict[int, Field] = {}
        normalizer: dict[int, Field] = {}
        for i, value in fields(bytes(map_file(path))):
            if i == 1:
                pieces.append(_piece(message(value)))
            elif i == 2:
                trainer = message(value)
            elif i == 3:
                normalizer = message(value)
        algorithm = number(trainer, 3, 1)
        special: dict[Special, int] = {
            "unknown": number(trainer, 40, 0),
            "bos": number(trainer, 41, 1),
            "eos": number(trainer, 42, 2),
            "padding": number(trainer, 43, -1),
        }
        space_prefix = bool(number(normalizer, 3, 1))
        name = normalizer.get(1, b"identity")
    except ValueError as e:  # UnicodeDecodeError too
        raise FormatError(f"{path}: not a SentencePiece model: {e}") from None
    if not pieces:
        raise FormatError(f"{path}: not a SentencePiece model: found no pieces")
    if algorithm != _BPE:
        found = _ALGORITHMS.get(algorithm, str(algorithm))
        raise UnsupportedError(f"{path}: trainer_spec.model_type: found {found}, only BPE is supported")
    if normalizer.get(2):
        raise UnsupportedError(f"{path}: normalizer_spec.name: found {name!r}, only identity is supported")
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=[text for text, _, _ in pieces],
        kinds=[kind for _, _, kind in pieces],
        scores=[score for _, score, _ in pieces],
        special={k: i for k, i in special.items() if 0 <= i < len(pieces)},
        add_bos=True,
        add_eos=False,
        add_space_prefix=space_prefix,
    )

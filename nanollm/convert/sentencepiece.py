"""SentencePiece's tokenizer.model: the few fields that matter of its protocol-buffer message.

Fields: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto;
encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from nanollm.convert.source import map_file
from nanollm.convert.vocabulary import Kind, Special, Vocabulary
from nanollm.errors import FormatError, UnsupportedError

__all__ = ["read"]

_ALGORITHMS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_BPE = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = int | bytes


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """(number, value) of each field of one message; fixed-size values as their bytes. Raises ValueError."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        wire = key & 7
        if wire == _VARINT:
            number, offset = _varint(data, offset)
            yield key >> 3, number
            continue
        if wire == _BYTES:
            size, offset = _varint(data, offset)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - offset:
            raise ValueError("truncated")
        yield key >> 3, data[offset : offset + size]
        offset += size


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise ValueError("truncated")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise ValueError("a number of more than 10 bytes")


def _message(value: Field | None) -> dict[int, Field]:
    """A sub-message's fields, the last of each number."""
    return dict(_fields(value)) if isinstance(value, bytes) else {}


def _number(fields: dict[int, Field], key: int, default: int) -> int:
    value = fields.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"field {key} is not a number")
    return value - (1 << 64) if value >= 1 << 63 else value


def _piece(fields: dict[int, Field]) -> tuple[str, float, Kind]:
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise ValueError("a piece without text or score")
    return text.decode(), struct.unpack("<f", score)[0], Kind(_number(fields, 3, Kind.NORMAL))


def read(path: Path) -> Vocabulary:
    """The vocabulary of a BPE model. Raises UnsupportedError for other algorithms and for normalising ones."""
    try:
        pieces: list[tuple[str, float, Kind]] = []
        trainer: dict[int, Field] = {}
        normalizer: dict[int, Field] = {}
        for number, value in _fields(bytes(map_file(path))):
            if number == 1:
                pieces.append(_piece(_message(value)))
            elif number == 2:
                trainer = _message(value)
            elif number == 3:
                normalizer = _message(value)
        algorithm = _number(trainer, 3, 1)
        special: dict[Special, int] = {
            "unknown": _number(trainer, 40, 0),
            "bos": _number(trainer, 41, 1),
            "eos": _number(trainer, 42, 2),
            "padding": _number(trainer, 43, -1),
        }
        space_prefix = bool(_number(normalizer, 3, 1))
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

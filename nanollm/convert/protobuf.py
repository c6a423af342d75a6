"""Protocol-buffer messages, field by field: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Field", "fields", "message", "number", "varint"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = int | bytes


def fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """(number, value) of each field of one message; fixed-size values as their bytes. Raises ValueError."""
    offset = 0
    while offset < len(data):
        key, offset = varint(data, offset)
        wire = key & 7
        if wire == _VARINT:
            value, offset = varint(data, offset)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, offset = varint(data, offset)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(data) - offset:
            raise ValueError("truncated")
        yield key >> 3, data[offset : offset + size]
        offset += size


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """The number at ``offset`` and where it ends. Raises ValueError."""
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


def message(value: Field | None) -> dict[int, Field]:
    """A sub-message's fields, the last of each number."""
    return dict(fields(value)) if isinstance(value, bytes) else {}


def number(message: dict[int, Field], key: int, default: int) -> int:
    """A signed number among a message's fields. Raises ValueError."""
    value = message.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"field {key} is not a number")
    return value - (1 << 64) if value >= 1 << 63 else value

"""Byte-level BPE: how GPT-2 spells bytes, and the merges that a vocabulary's order implies.

Spelling: https://github.com/openai/gpt-2 (src/encoder.py).
"""

from __future__ import annotations

from itertools import pairwise

from nanollm.errors import FormatError

__all__ = ["merges", "spell"]

# Bytes that Latin-1 prints stand for themselves; the rest, in order, are the characters from 256 on.
_PRINTED = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTED)]
_ALPHABET = {byte: chr(byte) for byte in _PRINTED} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
# GPT-2's longest token has 128 bytes. A bound keeps the search short.
_MAX_TOKEN = 256

Pair = tuple[bytes, bytes]


def spell(token: bytes) -> str:
    """A token's bytes in characters that are all visible."""
    return "".join(_ALPHABET[byte] for byte in token)


def merges(tokens: list[bytes]) -> tuple[list[Pair], int]:
    """The merges that made a vocabulary, and how many tokens are bytes or come from them: the rest are control tokens.

    A vocabulary starts with the 256 bytes; token 256 + k is what the k-th merge made. The pair is what a tokenizer
    with only the merges before it makes of the token's bytes. Raises FormatError for a vocabulary of another kind;
    ``<...>`` at its end are taken for control tokens.
    """
    ranks: dict[bytes, int] = {}
    n = len(tokens)
    while n > 256 and tokens[n - 1].startswith(b"<") and tokens[n - 1].endswith(b">"):
        n -= 1
    for i, token in enumerate(tokens[:n]):
        if token in ranks:
            raise FormatError(f"token {i} {token!r}: found it at {ranks[token]}, too")
        ranks[token] = i
    if n < 256 or any(len(token) != 1 for token in tokens[:256]):
        raise FormatError("the vocabulary does not begin with the 256 bytes: not GPT-2's byte-level BPE")
    pairs: list[Pair] = []
    for i, token in enumerate(tokens[256:n], 256):
        parts = _parts(token, ranks, i) if len(token) <= _MAX_TOKEN else []
        if len(parts) != 2:
            raise FormatError(f"token {i} {token!r}: no pair of earlier tokens makes it: not GPT-2's byte-level BPE")
        pairs.append((parts[0], parts[1]))
    return pairs, n


def _parts(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    """What the merges before ``limit`` make of a token: always the pair of lowest rank first, leftmost first."""
    ways = [k for k in range(1, len(token)) if ranks.get(token[:k], limit) < limit > ranks.get(token[k:], limit)]
    if len(ways) == 1:  # no other pair could make it
        return [token[: ways[0]], token[ways[0] :]]
    parts = [token[k : k + 1] for k in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        lowest = min(found)
        if lowest >= limit:
            break
        k = found.index(lowest)
        parts[k : k + 2] = [parts[k] + parts[k + 1]]
    return parts

"""The types' reference conversions against the gguf package: sizes, bytes and floats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nanollm import _core

gguf = pytest.importorskip("gguf")
quants = pytest.importorskip("gguf.quants")

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


def samples() -> Iterator[np.ndarray]:
    """Rows of every magnitude: bell-shaped, rounded so that maxima tie, and constant."""
    rng = np.random.default_rng(3)
    for scale in (1e-8, 1e-5, 0.02, 1.0, 1000.0, 1e4):
        x = rng.standard_normal((64, 256)).astype(np.float32)
        yield x * np.float32(scale)
        yield np.round(x * 4) * np.float32(scale) + np.float32(0.0)
    yield np.zeros((2, 64), np.float32)
    yield np.full((2, 64), -3.5, np.float32)


def test_sizes() -> None:
    for type_, (block_size, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        assert _core.type_block_size(int(type_)) == block_size
        assert _core.type_block_bytes(int(type_)) == block_bytes
        assert _core.type_name(int(type_)) == type_.name
        assert _core.type_from_name(type_.name.lower()) == int(type_)


@pytest.mark.parametrize("name", TYPES)
def test_bytes_and_floats(name: str) -> None:
    type_ = gguf.GGMLQuantizationType[name]
    for x in samples():
        with np.errstate(all="ignore"):
            expected = np.ascontiguousarray(quants.quantize(x, type_)).view(np.uint8).ravel()
            floats = quants.dequantize(expected.reshape(x.shape[0], -1), type_).ravel()
        np.testing.assert_array_equal(_core.from_float(name, x), expected)
        back = _core.to_float(name, expected, x.size)
        np.testing.assert_array_equal(back.view(np.uint32), np.ascontiguousarray(floats, np.float32).view(np.uint32))


@pytest.mark.parametrize("name", [t for t in TYPES if t.startswith("Q")])
def test_any_bytes(name: str) -> None:
    """Blocks of random bytes, among them scales that are infinite or NaN."""
    type_ = gguf.GGMLQuantizationType[name]
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[type_]
    raw = np.random.default_rng(4).integers(0, 256, (4096, block_bytes)).astype(np.uint8)
    with np.errstate(all="ignore"):
        expected = quants.dequantize(raw, type_).ravel()
    np.testing.assert_array_equal(_core.to_float(name, raw.ravel(), 4096 * block_size), expected)


def test_every_f16() -> None:
    every = np.arange(65536, dtype=np.uint16)
    found = _core.to_float("F16", every.view(np.uint8), every.size)
    np.testing.assert_array_equal(found, every.view(np.float16).astype(np.float32))
    back = _core.from_float("F16", found).view(np.float16)
    np.testing.assert_array_equal(back, every.view(np.float16))

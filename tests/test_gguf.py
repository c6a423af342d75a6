"""GGUF files against the independent `gguf` package, both ways, and hostile ones from Python."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nanollm import _core
from nanollm.errors import ArgumentError, FileError, FormatError, NanoError, NotFoundError, UnsupportedError

SCALARS: dict[str, tuple[str, Any]] = {
    "k.u8": ("uint8", 255),
    "k.i8": ("int8", -128),
    "k.u16": ("uint16", 65535),
    "k.i16": ("int16", -32768),
    "k.u32": ("uint32", 2**32 - 1),
    "k.i32": ("int32", -(2**31)),
    "k.u64": ("uint64", 2**64 - 1),
    "k.i64": ("int64", -(2**63)),
    "k.f32": ("float32", 1.5),
    "k.f64": ("float64", 0.1),
    "k.bool": ("bool", True),
    "k.str": ("string", "größer als 世界"),
}
ARRAYS: dict[str, tuple[str, list[Any]]] = {
    "a.str": ("string", ["a", "", "ü", "\n"]),
    "a.i32": ("int32", [1, -2, 3]),
    "a.f32": ("float32", [0.5, -1.25]),
    "a.bool": ("bool", [True, False]),
}
# NumPy's types of the types that NumPy has.
PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}


def is_known(t: gguf.GGMLQuantizationType) -> bool:
    """False for a type that a later version of the other package has brought."""
    try:
        return _core.type_from_name(t.name) == t
    except ArgumentError:
        return False


KNOWN_TYPES = [t for t in gguf.GGMLQuantizationType if is_known(t)]


def data_of(kind: gguf.GGMLQuantizationType) -> NDArray[Any]:
    """Random tensor data, (2, 3, 5) of a plain type or the bytes of 3 rows of two blocks of a quantised one."""
    rng = np.random.default_rng(int(kind))
    if kind.name in PLAIN:
        return rng.integers(-100, 100, (2, 3, 5)).astype(PLAIN[kind.name])
    return rng.integers(0, 256, (3, 2 * gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)


def write_reference(path: Path, alignment: int | None) -> None:
    """The sample as the other package writes it."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, (kind, value) in SCALARS.items():
        writer.add_key_value(key, value, gguf.GGUFValueType[kind.upper()])
    for key, (_, values) in ARRAYS.items():
        writer.add_array(key, values)
    for t in KNOWN_TYPES:
        writer.add_tensor(f"t.{t.name}", data_of(t), raw_dtype=None if t.name in PLAIN else t)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ours(path: Path, alignment: int | None) -> None:
    with _core.GgufWriter(path) as writer:
        writer.set("general.architecture", "string", "llama")
        if alignment is not None:
            writer.set("general.alignment", "uint32", alignment)
        for key, (kind, value) in (SCALARS | ARRAYS).items():
            writer.set(key, kind, value)
        for t in KNOWN_TYPES:
            shape = (2, 3, 5) if t.name in PLAIN else (3, 2 * gguf.GGML_QUANT_SIZES[t][0])
            writer.add_tensor(f"t.{t.name}", shape, t.name)
        for t in KNOWN_TYPES:
            writer.write(data_of(t).tobytes())


@pytest.mark.parametrize("alignment", [None, 8, 64])
def test_writes_the_same_bytes(tmp_path: Path, alignment: int | None) -> None:
    write_reference(tmp_path / "theirs.gguf", alignment)
    write_ours(tmp_path / "ours.gguf", alignment)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_sizes_of_types() -> None:
    assert len(KNOWN_TYPES) >= 25
    for t in KNOWN_TYPES:
        assert (_core.type_block_size(t.name), _core.type_block_bytes(t.name)) == gguf.GGML_QUANT_SIZES[t]


def test_reads_the_other_package(tmp_path: Path) -> None:
    write_reference(tmp_path / "theirs.gguf", 64)
    with _core.Gguf.open(tmp_path / "theirs.gguf") as file:
        assert file.version == 3
        assert file.alignment == 64
        assert file["general.architecture"] == "llama"
        for key, (kind, value) in SCALARS.items():
            assert file.kind(key) == (kind, False)
            assert file[key] == value
        for key, (kind, values) in ARRAYS.items():
            assert file.kind(key) == (kind, True)
            assert list(file[key]) == values
        assert [t.name for t in file.tensors] == [f"t.{t.name}" for t in KNOWN_TYPES]
        for t in KNOWN_TYPES:
            info = file.tensor(f"t.{t.name}")
            assert info.type == t.name
            assert bytes(file.tensor_data(info.name)) == data_of(t).tobytes()


def test_is_read_by_the_other_package(tmp_path: Path) -> None:
    write_ours(tmp_path / "ours.gguf", None)
    reader = gguf.GGUFReader(tmp_path / "ours.gguf")
    for key, (_, value) in (SCALARS | ARRAYS).items():
        found = reader.get_field(key)
        assert found is not None
        assert found.contents() == value
    assert len(reader.tensors) == len(KNOWN_TYPES)
    for tensor, t in zip(reader.tensors, KNOWN_TYPES, strict=True):
        assert tensor.name == f"t.{t.name}"
        assert tensor.tensor_type == t
        assert tensor.data.tobytes() == data_of(t).tobytes()


def test_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"old")

    def write_and_fail() -> None:
        with _core.GgufWriter(path) as writer:
            writer.add_tensor("t", (4,), "F32")
            writer.write(b"\0" * 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    with pytest.raises(ArgumentError, match=r'tensor "t": 0 of its 16 bytes'), _core.GgufWriter(path) as writer:
        writer.add_tensor("t", (4,), "F32")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_errors_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(FileError, match="No such file"):
        _core.Gguf.open(path)
    with pytest.raises(FormatError, match=r'm\.bin: header: starts with "lmgg", expected "GGUF"'):
        _core.Gguf.from_bytes(b"lmgg" + bytes(40), "m.bin")
    with pytest.raises(UnsupportedError, match="big-endian"):
        _core.Gguf.from_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(FormatError, match="claims 9223372036854775808 tensors"):
        _core.Gguf.from_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0))
    with _core.GgufWriter(path) as writer:
        writer.set("k", "uint32", 1)
        with pytest.raises(ArgumentError, match='key "k": given before'):
            writer.set("k", "uint32", 2)
    with _core.Gguf.open(path) as file, pytest.raises(NotFoundError):
        file["absent"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "sample.gguf"
    write_ours(path, None)
    return path.read_bytes()


def read_all(data: bytes) -> None:
    with _core.Gguf.from_bytes(data) as file:
        for key in file.keys():  # noqa: SIM118
            assert file[key] is not None
        assert all(len(file.tensor_data(t.name)) == t.n_bytes for t in file.tensors)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutations_give_typed_errors(sample: bytes, data: st.DataObject) -> None:
    mutated = bytearray(sample)
    with _core.Gguf.from_bytes(sample) as file:
        descriptions = min(t.offset for t in file.tensors)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, descriptions))
        mutated[at : at + 8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    size = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    message = ""
    try:
        read_all(bytes(mutated[:size]))
    except NanoError as error:
        message = str(error)
    assert not message or message.startswith("<memory>: ")

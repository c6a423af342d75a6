"""The bindings: lifetimes, threads, arguments and types. What the core computes is tested elsewhere."""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanollm import _core, models
from nanollm._core import CoreModel, Gguf, GgufWriter, Graph, Plan, Sampler, Session, Tokenizer
from nanollm.errors import (
    ArgumentError,
    FormatError,
    LimitError,
    NanoError,
    NotFoundError,
    ShapeError,
    UnsupportedError,
)


def load(path: Path, **limits: Any) -> Plan:
    gguf = Gguf.open(path)
    model = CoreModel(gguf, models.build_program(gguf))
    small = replace(_core.limits_default(), n_ctx=128, n_threads=1)
    return Plan(model, replace(small, **limits))


@pytest.fixture
def session(tiny: Path) -> Iterator[Session]:
    with Session(load(tiny, n_slots=2, n_outputs=8)) as made:
        yield made


def collect() -> None:
    for _ in range(2):
        gc.collect()


# ---------------------------------------------------------------- lifetimes


def test_objects_keep_what_they_borrow(tiny: Path) -> None:
    session = Session(load(tiny))
    collect()
    session.eval([1, 2, 3])
    assert np.isfinite(session.logits).all()


def test_views_outlive_close(tiny: Path, session: Session) -> None:
    gguf = Gguf.open(tiny)
    expected = gguf.tensor_f32("output_norm.weight")
    view = gguf.tensor_data("output_norm.weight")
    session.eval([1])
    logits = session.logits
    before = logits.copy()
    gguf.close()
    session.close()
    collect()
    np.testing.assert_array_equal(np.frombuffer(view, np.float32), expected)
    np.testing.assert_array_equal(logits, before)


def test_bytes_are_kept_while_they_are_read(tiny: Path) -> None:
    gguf = Gguf.from_bytes(tiny.read_bytes(), "in memory")
    collect()
    assert gguf.path == "in memory"
    assert gguf["general.architecture"] == "llama"
    np.testing.assert_array_equal(
        gguf.tensor_f32("blk.0.attn_q.weight"), Gguf.open(tiny).tensor_f32("blk.0.attn_q.weight")
    )


def test_close_may_be_called_again_and_use_after_it_is_an_error(tiny: Path, session: Session) -> None:
    gguf = Gguf.open(tiny)
    model = CoreModel(gguf, models.build_program(gguf))
    for thing in (gguf, model, session):
        assert not thing.closed
        thing.close()
        thing.close()
        assert thing.closed
    uses: list[Callable[[], object]] = [
        gguf.keys,
        lambda: gguf["general.architecture"],
        lambda: "general.architecture" in gguf,
        lambda: len(gguf),
        lambda: gguf.tensors,
        lambda: Tokenizer(gguf),
        lambda: CoreModel(gguf, b""),
        lambda: model.n_vocab,
        lambda: Plan(model),
        lambda: session.eval([1]),
        lambda: session.logits,
        session.n_past,
        lambda: session.truncate(0, 0),
    ]
    for use in uses:
        with pytest.raises(ArgumentError, match="closed"):
            use()
    session.cancel()  # allowed: another thread may be late


def test_nothing_is_pickled(tiny: Path, session: Session) -> None:
    gguf = Gguf.open(tiny)
    for thing in (gguf, session, Graph(), Tokenizer(gguf), Sampler(4)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_a_session_belongs_to_one_thread_at_a_time(chatty: Path) -> None:
    gguf = Gguf.open(chatty)
    model = CoreModel(gguf, models.build_program(gguf))
    session = Session(Plan(model, replace(_core.limits_default(), n_ctx=4000, n_batch=2000, n_threads=1)))
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            session.truncate(0, 0)
            session.eval(np.ones(2000, np.int32))

    def use_while_it_works() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            session.n_past()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with pytest.raises(ArgumentError, match="another thread"):
            use_while_it_works()  # this one runs because the other thread, in C, holds no GIL
    finally:
        done.set()
        thread.join()


# ------------------------------------------------------------------ session


def test_logits_are_a_view(session: Session) -> None:
    assert session.logits.shape == (0, session_vocab(session))
    session.eval([1, 2, 3], wanted=[True, False, True])
    first, second = session.logits, session.logits
    assert first.shape == (2, session_vocab(session))
    assert first.dtype == np.float32
    assert np.shares_memory(first, second)
    first[0, 0] = 42
    assert second[0, 0] == 42


def session_vocab(session: Session) -> int:
    return int(session.logits.shape[1])


@pytest.mark.parametrize(
    "tokens", [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), np.array([1, 2, 3], np.int32), range(1, 4)]
)
def test_tokens_may_be_any_integers(session: Session, tokens: Any) -> None:
    session.eval(tokens)
    assert session.n_past() == 3


@pytest.mark.parametrize(
    ("tokens", "more"),
    [
        ([1.5], {}),
        ([2**31], {}),
        ([2**80], {}),
        ([-1], {}),
        ([10**6], {}),
        (["a"], {}),
        ([[1, 2]], {}),
        ([1, 2], {"slots": [0]}),
        ([1, 2], {"wanted": [True]}),
        ([1], {"slots": [2]}),
        ([1], {"slots": [-1]}),
    ],
)
def test_bad_tokens_move_nothing(session: Session, tokens: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        session.eval(tokens, **more)
    assert session.n_past(0) == session.n_past(1) == 0


def test_limits_are_limits(session: Session) -> None:
    for n in (0, 129):
        with pytest.raises(LimitError):
            session.eval(np.ones(n, np.int32))
    session.eval([1] * 128)
    with pytest.raises(LimitError):
        session.eval([1])
    with pytest.raises(ArgumentError):
        session.truncate(0, 129)
    session.truncate(0, 100)
    assert session.n_past() == 100


def test_slots(session: Session) -> None:
    session.eval([1, 2, 3, 4], slots=[0, 0, 1, 0])
    assert (session.n_past(0), session.n_past(1)) == (3, 1)
    session.copy_slot(0, 1, 2)
    assert session.n_past(1) == 2
    with pytest.raises(ArgumentError):
        session.copy_slot(0, 1, 4)


def test_importance_is_the_sum_of_squares(tiny: Path) -> None:
    session = Session(load(tiny, importance=True))
    session.eval([1, 2, 3])
    sums, n_rows = session.importance("blk.0.attn_q.weight")
    assert (sums.shape, sums.dtype, n_rows) == ((32,), np.float64, 3)
    assert (sums > 0).all()
    before = sums.copy()
    session.eval([4])
    np.testing.assert_array_equal(sums, before)  # a copy, not a view
    with pytest.raises(NotFoundError):
        session.importance("no such weight")
    plain = Session(load(tiny))
    plain.eval([1])
    with pytest.raises(ArgumentError):
        plain.importance("blk.0.attn_q.weight")


def test_plans_tell_their_limits_and_bytes(tiny: Path) -> None:
    plan = load(tiny, n_batch=32, type_k="F32", deterministic=True)
    asked = replace(_core.limits_default(), n_ctx=128, n_batch=32, n_threads=1, type_k="F32", deterministic=True)
    assert plan.limits == replace(asked, n_threads_batch=1)  # as many as n_threads, since nothing else was asked for
    m = plan.memory
    assert m.parameters == m.gradients == m.optimizer == 0  # nothing is trained
    assert m.allocated == m.cache + m.activations + m.outputs + m.scratch + m.bookkeeping
    assert m.total == m.weights + m.allocated
    gguf = Gguf.open(tiny)
    model = CoreModel(gguf, models.build_program(gguf))
    assert Plan.fit(model, plan.limits, m.total) == 128
    assert 0 < Plan.fit(model, plan.limits, m.total - 64) < 128
    assert Plan.fit(model, plan.limits, 0) == 0


@pytest.mark.parametrize("name", ["n_ctx", "n_threads", "n_threads_batch", "poll"])
def test_limits_that_no_integer_holds_are_told(tiny: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"limits: {name}: 1099511627776, expected"):
        load(tiny, **{name: 1 << 40})


# -------------------------------------------------------------------- graph


def build() -> Graph:
    g = Graph()
    rows = g.op("rows", [g.weight("token_embd.weight", (320, 64)), g.input("tokens")])
    wanted = g.op("rows", [rows, g.input("wanted")])
    g.set_output(g.op("linear", [wanted, g.weight("token_embd.weight", (320, 64)), None], [0]))
    return g


def test_graphs_are_saved_and_loaded() -> None:
    g = build()
    data = g.save()
    again = Graph.load(data)
    assert again.n_tensors == g.n_tensors
    assert [again.shape(i) for i in range(g.n_tensors)] == [g.shape(i) for i in range(g.n_tensors)]
    assert again.save() == data
    assert again.shape(again.n_tensors - 1) == (_core.DIM_W, 320)


def test_shapes_are_outermost_first() -> None:
    g = Graph()
    assert g.shape(g.weight("w", (5, 32))) == (5, 32)
    assert g.shape(g.input("tokens")) == (_core.DIM_T,)
    assert g.weight("w", (5, 32)) == g.weight("w", [5, 32])


def test_bad_graph_calls_are_typed_errors() -> None:
    g = Graph()
    w = g.weight("w", (5, 32))
    calls: list[tuple[type[NanoError], Callable[[], object]]] = [
        (ArgumentError, lambda: g.input("nothing")),
        (UnsupportedError, lambda: g.op("no such op", [w])),
        (ArgumentError, lambda: g.op("add", [w] * 5)),
        (ArgumentError, lambda: g.op("add", [w, 99])),
        (ArgumentError, lambda: g.shape(99)),
        (ArgumentError, lambda: g.weight("x", ())),
        (ArgumentError, lambda: g.weight("x", (1, 1, 1, 1, 1))),
        (ArgumentError, lambda: g.weight("a\0b", (1,))),
        (ShapeError, lambda: g.op("add", [w, g.weight("v", (3, 32))])),
        (FormatError, lambda: Graph.load(b"")),
        (FormatError, lambda: Graph.load(b"not a program at all")),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()


# --------------------------------------------------------- types and system


def test_types_convert() -> None:
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    assert _core.type_name(_core.type_from_name("q8_0")) == "Q8_0"
    assert (_core.type_block_size("Q8_0"), _core.type_block_bytes("Q8_0")) == (32, 34)
    assert _core.type_row_bytes("Q8_0", 64) == 68
    np.testing.assert_array_equal(_core.to_float("F32", _core.from_float("F32", x), 64), x)
    np.testing.assert_array_equal(_core.from_float("F16", x).view(np.float16), x.astype(np.float16))
    np.testing.assert_allclose(_core.to_float("Q8_0", _core.from_float("Q8_0", x), 64), x, atol=3 / 127 / 2 * 1.01)


def test_quantize_takes_rows_and_importances() -> None:
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    assert _core.quantize("Q8_0", x).shape == (3, 68)
    np.testing.assert_array_equal(_core.quantize("F32", x).view(np.float32), x)
    first = np.zeros(64, np.float32)
    first[:8] = 1
    weighed = _core.to_float("Q4_0", _core.quantize("Q4_0", x, first), x.size).reshape(x.shape)
    plain = _core.to_float("Q4_0", _core.quantize("Q4_0", x), x.size).reshape(x.shape)
    assert np.square(weighed - x)[:, :8].sum() <= np.square(plain - x)[:, :8].sum()


def test_bad_conversions_are_argument_errors() -> None:
    calls: list[Callable[[], object]] = [
        lambda: _core.quantize("Q8_0", np.zeros(32)),
        lambda: _core.quantize("Q8_0", np.zeros((2, 33))),
        lambda: _core.quantize("Q8_0", np.zeros((2, 32)), np.ones(31)),
        lambda: _core.quantize("Q4_0", np.zeros((2, 32)), -np.ones(32)),
        lambda: _core.type_from_name("Q9_9"),
        lambda: _core.type_name(12345),
        lambda: _core.from_float("Q8_0", np.zeros(31)),
        lambda: _core.to_float("Q8_0", b"\0" * 33, 32),
        lambda: _core.to_float("F32", b"", -1),
        lambda: _core.set_cpu_level("no such level"),
    ]
    for call in calls:
        with pytest.raises(ArgumentError):
            call()


def test_levels() -> None:
    levels = _core.cpu_levels()
    best = _core.cpu_level()
    assert levels[0] == "generic"
    assert best in levels
    try:
        for level in levels:
            _core.set_cpu_level(level)
            assert _core.cpu_level() == level
    finally:
        _core.set_cpu_level(best)


def test_the_machine() -> None:
    assert _core.default_threads() >= 1
    assert 1 << 20 < _core.memory_available() < 1 << 50
    assert 1 << 20 < _core.memory_peak() < 1 << 50


# ------------------------------------------------------------------- writer


def test_writers_refuse_what_would_change_a_value(tmp_path: Path) -> None:
    with GgufWriter(tmp_path / "x.gguf") as writer:
        for kind, value in (
            ("uint8", 256), ("uint8", -1), ("int32", 1.5), ("int32", "1"), ("uint64", 2**64), ("bool", 1),
            ("array", [1]), ("decimal", 1), ("int32", [[1, 2]]),
        ):  # fmt: skip
            with pytest.raises(ArgumentError):
                writer.set("key", kind, value)
        writer.set("key", "uint8", 255)
    assert Gguf.open(tmp_path / "x.gguf")["key"] == 255


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError), GgufWriter(tmp_path / "x.gguf") as writer:
        writer.copy(Gguf.from_bytes(b"GGUF\3\0\0\0" + bytes(16)), "no such key")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArgumentError, match="closed"):
        writer.finish()

"""Optimisers against PyTorch's and SciPy's, and against what mathematics says of them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nanollm import _core
from nanollm.errors import ArgumentError
from nanollm.graph import Graph
from nanollm.optim import LBFGS, Adam, Group, Iteration, schedule, session

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


# ------------------------------------------------------------------ ADAM


def parameters(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and gradients of a matrix, a vector and a number of elements that fills no vector register."""
    rng = np.random.default_rng(seed)
    shapes = {"blk.0.attn_q.weight": (40, 33), "blk.0.attn_q.bias": (33,), "output_norm.weight": (1031,)}
    return {
        name: (rng.standard_normal(shape, dtype=np.float32), np.zeros(shape, np.float32))
        for name, shape in shapes.items()
    }


def set_gradients(params: dict[str, tuple[np.ndarray, np.ndarray]], step: int) -> None:
    rng = np.random.default_rng(1000 + step)
    for value, gradient in params.values():
        gradient[...] = rng.standard_normal(gradient.shape, dtype=np.float32) + 0.1 * value


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"decay": 0.1},
        {"decay": 0.1, "decoupled": False},
        {"decay": 0.1, "max_norm": 1.0, "beta1": 0.8, "beta2": 0.95},
        {"decay": 0.3, "groups": [Group("*_norm.*", rate=0.5), Group(max_dims=1, decay=0.0)]},
    ],
)
def test_fifty_steps_are_those_of_torch(case: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="the reference needs torch (extra reference)")
    params = parameters()
    adam = Adam(params, rate=3e-3, **case)
    theirs = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, (value, _) in params.items()}
    decay = {name: case.get("decay", 0.0) for name in params}
    rate = dict.fromkeys(params, 3e-3)
    if "groups" in case:
        decay["blk.0.attn_q.bias"] = 0.0
        rate["output_norm.weight"] = 1.5e-3
    kind = torch.optim.AdamW if case.get("decoupled", True) else torch.optim.Adam
    optimizer = kind(
        [{"params": [p], "lr": rate[name], "weight_decay": decay[name]} for name, p in theirs.items()],
        betas=(case.get("beta1", 0.9), case.get("beta2", 0.999)),
    )
    for step in range(1, 51):
        set_gradients(params, step)
        for name, p in theirs.items():
            p.grad = torch.from_numpy(params[name][1].copy())
        norm = adam.step()
        if "max_norm" in case:
            assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs.values(), case["max_norm"])), 1e-5)
        optimizer.step()
    for name, p in theirs.items():
        found, expected = params[name][0], p.detach().numpy()
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max(), name
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected), name


def test_state_is_taken_over_to_the_bit() -> None:
    whole, parts = parameters(), parameters()
    options = {"decay": 0.1, "max_norm": 5.0, "groups": [Group(max_dims=1, decay=0.0)]}
    one, two = Adam(whole, **options), Adam(parts, **options)
    for step in range(1, 21):
        if step == 11:
            state = copy.deepcopy(two.state_dict())
            two = Adam(parts, **options)
            two.load_state_dict(state)
        for params, adam in ((whole, one), (parts, two)):
            set_gradients(params, step)
            adam.step(schedule("cosine", step, 5, 20))
    for name, (value, _) in whole.items():
        assert value.tobytes() == parts[name][0].tobytes()
    assert two.n_steps == 20


def test_a_state_of_other_parameters_is_refused() -> None:
    adam = Adam(parameters())
    state = copy.deepcopy(adam.state_dict())
    state["m"].pop("output_norm.weight")
    with pytest.raises(ArgumentError, match=r"'output_norm\.weight' is not in both"):
        adam.load_state_dict(state)
    state = copy.deepcopy(adam.state_dict())
    state["v"]["output_norm.weight"] = np.zeros(3, np.float32)
    with pytest.raises(ArgumentError, match=r"found \(3,\), expected \(1031,\)"):
        adam.load_state_dict(state)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    params = parameters()
    adam = Adam(params)
    set_gradients(params, 1)
    adam.step()
    before = copy.deepcopy((params, adam.state_dict()))
    params["output_norm.weight"][1][1030] = bad
    with pytest.raises(ArgumentError, match="a gradient is not finite"):
        adam.step()
    before[0]["output_norm.weight"][1][1030] = bad
    after = (params, adam.state_dict())
    assert str(after) == str(before)
    assert all(before[0][name][0].tobytes() == params[name][0].tobytes() for name in params)


def test_arrays_are_used_where_they_are_or_refused() -> None:
    good, gradient = np.ones(6, np.float32), np.ones(6, np.float32)
    Adam({"w": (good, gradient)}, rate=0.5).step()
    assert np.allclose(good, 0.5, atol=1e-6)
    with pytest.raises(ArgumentError, match="contiguous array of float32"):
        Adam({"w": (np.ones(6), np.ones(6))})
    with pytest.raises(ArgumentError, match="contiguous array of float32"):
        Adam({"w": (np.ones(12, np.float32)[::2], gradient)})
    with pytest.raises(ArgumentError, match="expected one"):
        Adam({"w": (np.ones(5, np.float32), gradient)})
    with pytest.raises(ArgumentError, match="cannot be written"):
        Adam({"w": (np.frombuffer(bytes(24), np.float32), gradient)})
    with pytest.raises(ArgumentError, match="betas"):
        Adam({"w": (good, gradient)}, beta1=1.0).step()


def test_schedules() -> None:
    assert [schedule("linear", s, 4, 8, floor=0.2) for s in (0, 1, 4, 6, 8, 9)] == pytest.approx(
        [0, 0.25, 1, 0.6, 0.2, 0.2]
    )
    assert [schedule("cosine", s, 0, 8) for s in (0, 2, 4, 8)] == pytest.approx([1, 0.5 + 0.5 * math.sqrt(0.5), 0.5, 0])
    assert [schedule("constant", s, 2, 4) for s in (1, 2, 9)] == [0.5, 1, 1]
    with pytest.raises(ArgumentError, match="expected one of constant, linear, cosine"):
        schedule("step", 1, 2, 3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ L-BFGS


def rosenbrock(n: int) -> tuple[Objective, np.ndarray]:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        g = np.zeros(n)
        g[:-1] = -400 * x[:-1] * a - 2 * b
        g[1:] += 200 * a
        return float(100 * a @ a + b @ b), g

    return f, np.where(np.arange(n) % 2 == 0, -1.2, 1.0)


def logistic_regression(n: int, d: int, penalty: float) -> tuple[Objective, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, d))
    y = np.sign(x @ rng.standard_normal(d) + rng.standard_normal(n))

    def f(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = y * (x @ w)
        return float(np.logaddexp(0, -z).mean() + penalty * (w @ w) / 2), (
            -x.T @ (y / (1 + np.exp(z))) / n + penalty * w
        )

    return f, np.zeros(d)


def network(seed: int) -> tuple[Objective, np.ndarray]:
    """A hidden layer of 16 tanh units, fitted to a function of 4 numbers at 64 points."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((64, 4))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]

    def f(w: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, c = w[:64].reshape(4, 16), w[64:80], w[80:96]
        hidden = np.tanh(x @ a + b)
        error = (hidden @ c + w[96] - y) / len(x)
        inner = np.outer(error, c) * (1 - hidden**2)
        g = np.concatenate([(x.T @ inner).ravel(), inner.sum(0), hidden.T @ error, [error.sum()]])
        return float(len(x) * (error @ error) / 2 + 5e-4 * (w @ w)), g + 1e-3 * w

    return f, 0.3 * rng.standard_normal(97)


PROBLEMS = {
    "rosenbrock-2": rosenbrock(2),
    "rosenbrock-100": rosenbrock(100),
    "logistic-50x20": logistic_regression(50, 20, 1e-2),
    "logistic-500x50": logistic_regression(500, 50, 1e-3),
    "network-0": network(0),
    "network-2": network(2),
}


@pytest.mark.parametrize("line_search", ["wolfe", "backtracking"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_as_good_as_scipys(name: str, line_search: Any) -> None:
    """The same minimum within 1e-6, in at most a third more evaluations and 10; of a network, which has many minima,
    one at most a twentieth worse, in at most twice the evaluations."""
    optimize = pytest.importorskip("scipy.optimize", reason="the reference is SciPy's L-BFGS-B")
    f, x0 = PROBLEMS[name]
    theirs = optimize.minimize(
        f, x0, jac=True, method="L-BFGS-B", options={"maxcor": 10, "gtol": 1e-5, "ftol": 0, "maxiter": 3000}
    )
    ours = LBFGS(gradient_tolerance=1e-5, f_tolerance=0, max_iterations=3000, line_search=line_search).minimize(f, x0)
    assert ours.reason == "gradient", ours
    assert ours.gradient <= 1e-5
    assert (ours.f, np.abs(f(ours.x)[1]).max()) == (f(ours.x)[0], ours.gradient)
    if name.startswith("network"):
        assert ours.f <= 1.05 * theirs.fun
        assert ours.evaluations <= 2 * theirs.nfev
    else:
        assert ours.f <= theirs.fun + 1e-6 * max(1, abs(theirs.fun))
        assert np.allclose(ours.x, theirs.x, atol=1e-3)
        assert ours.evaluations <= 4 / 3 * theirs.nfev + 10


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    n=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0, 3),
    history=st.integers(1, 20),
    line_search=st.sampled_from(["wolfe", "backtracking"]),
    size=st.floats(1e-3, 1e3),
)
def test_convex_quadratics(n: int, seed: int, spread: float, history: int, line_search: Any, size: float) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    curvatures = 10 ** rng.uniform(-spread / 2, spread / 2, n)
    target = size * rng.standard_normal(n)
    matrix = (turn * curvatures) @ turn.T
    seen: list[Iteration] = []

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float((x - target) @ matrix @ (x - target)) / 2, matrix @ (x - target)

    found = LBFGS(
        history=history, line_search=line_search, gradient_tolerance=1e-6, f_tolerance=0, max_iterations=5000
    ).minimize(f, np.zeros(n), progress=seen.append)
    assert found.is_converged or found.reason == "line search", found
    assert found.f <= f(np.zeros(n))[0]
    assert all(a.f >= b.f for a, b in itertools.pairwise(seen))
    assert len(seen) == found.iterations
    assert np.abs(found.x - target).max() <= 1e-5 * 10 ** (spread / 2) * (1 + size) * math.sqrt(n)


def test_exceptions_come_out() -> None:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x[0] < 0.9:
            raise KeyError("mine")
        return float(x @ x), 2 * x

    with pytest.raises(KeyError, match="mine"):
        LBFGS().minimize(f, [1.0, 2.0])

    def interrupted(now: Iteration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LBFGS().minimize(lambda x: (float(x @ x), 2 * x), [1.0, 2.0], progress=interrupted)


def test_progress_ends_it() -> None:
    f, x0 = rosenbrock(10)
    found = LBFGS().minimize(f, x0, progress=lambda now: now.iterations < 7)
    assert (found.reason, found.iterations, found.message) == ("cancelled", 7, "cancelled")
    assert found.f == f(found.x)[0] < f(x0)[0]
    assert not found.is_converged


@pytest.mark.parametrize("options", [{"max_iterations": 3}, {"max_evaluations": 3}])
def test_limits(options: dict[str, int]) -> None:
    f, x0 = rosenbrock(10)
    found = LBFGS(**options).minimize(f, x0)
    assert found.reason == next(iter(options)).removeprefix("max_")
    assert getattr(found, found.reason) == 3
    assert found.f <= f(x0)[0]


def test_x_is_of_any_shape_and_read_only() -> None:
    x0 = np.arange(6, dtype=np.int32).reshape(2, 3)

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        assert x.shape == (2, 3)
        assert not x.flags.writeable
        return float((x * x).sum()), (2 * x).astype(np.float32)

    found = LBFGS().minimize(f, x0)
    assert found.x.shape == (2, 3)
    assert np.abs(found.x).max() < 1e-5
    assert x0.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: (1.0, x[:-1]), r"gradient of shape \(2,\), expected \(3,\)"),
        (lambda x: (1.0, x * 1j), "expected float64 values"),
        (lambda x: 1.0, "float"),
        (lambda x: (None, x), "real number"),
    ],
)
def test_what_a_function_may_not_give(f: Any, message: str) -> None:
    with pytest.raises((ArgumentError, TypeError), match=message):
        LBFGS().minimize(f, np.ones(3))


def test_not_finite() -> None:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return float((x - np.log(x)).sum()), 1 - 1 / x

    found = LBFGS().minimize(f, [100.0, 0.01, 3.0])  # the logarithm ends at 0
    assert found.is_converged
    assert np.allclose(found.x, 1, atol=1e-4)
    found = LBFGS().minimize(f, [-1.0])
    assert (found.reason, found.iterations, found.evaluations, found.x.tolist()) == ("not finite", 0, 1, [-1.0])
    wrong = LBFGS().minimize(lambda x: (float(x @ x), -2 * x), [1.0, 2.0])
    assert (wrong.reason, wrong.f, wrong.x.tolist()) == ("line search", 5.0, [1.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": -1}, "history -1"),
        ({"history": 2**40}, "32 bits"),
        ({"line_search": "golden"}, "expected one of wolfe, backtracking"),
        ({"decrease": 0.7}, "decrease 0.7"),
        ({"gradient_tolerance": math.nan}, "tolerances"),
    ],
)
def test_options_out_of_their_ranges(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LBFGS(**options).minimize(lambda x: (float(x @ x), 2 * x), [1.0])


def test_nothing_to_minimise() -> None:
    with pytest.raises(ArgumentError, match="n 0"):
        LBFGS().minimize(lambda x: (0.0, x), np.zeros(0))


def test_histories() -> None:
    f, x0 = logistic_regression(100, 10, 0.1)
    minima = [LBFGS(history=m, f_tolerance=0, max_iterations=5000).minimize(f, x0) for m in (0, 1, 3, 20)]
    assert all(found.reason == "gradient" for found in minima)
    assert np.ptp([found.f for found in minima]) < 1e-8
    assert minima[-1].evaluations <= minima[0].evaluations


# ------------------------------------------------------------------ sessions

CLASSES = np.random.default_rng(7).integers(0, 3, 90)
ROWS = list(range(90))


def classifier(optimizer: Any, **options: Any) -> _core.Session:
    """A hidden layer over 90 points of three classes; the points are frozen weights."""
    rng = np.random.default_rng(8)
    weights = {
        "data": np.eye(3, 5)[CLASSES] + 0.3 * rng.standard_normal((90, 5)),
        "a.weight": 0.3 * rng.standard_normal((7, 5)),
        "a.bias": np.zeros(7),
        "b.weight": 0.3 * rng.standard_normal((3, 7)),
    }
    g = Graph({name: w.shape for name, w in weights.items()})
    a, b = g.w("a"), g.w("b")
    loss = g.cross_entropy(g.linear(g.wanted(g.linear(g.rows("data", g.tokens), a, act="silu")), b))
    g.backward(loss, [a, b])
    return session(g.save(loss), weights, optimizer, n_tokens=90, **options)


def fit(train: _core.Session, lbfgs: LBFGS, **options: Any) -> Any:
    return lbfgs.minimize_session(train, lambda: train.gradient(ROWS, None, CLASSES), **options)


@pytest.mark.parametrize("line_search", ["wolfe", "backtracking"])
def test_lbfgs_of_a_session_is_that_of_its_function(line_search: Any) -> None:
    """The values are those of the best point, where the loss is as told; the same minimum as of the plain callback."""
    train = classifier("lbfgs", history=5)
    lbfgs = LBFGS(history=5, max_iterations=25, line_search=line_search)
    params = train.params
    assert [p.name for p in params] == ["a.weight", "a.bias", "b.weight"]
    starts = [p.value.copy() for p in params]
    seen: list[Iteration] = []
    found = fit(train, lbfgs, progress=seen.append)
    assert found.x is None
    assert len(seen) == found.iterations > 10
    assert found.f < 0.2
    train.zero_gradients()
    assert train.gradient(ROWS, None, CLASSES) == found.f
    assert max(np.abs(p.gradient).max() for p in params) == pytest.approx(found.gradient, rel=1e-6)

    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        at = 0
        for p in params:
            p.value[...] = x[at : at + p.value.size].reshape(p.value.shape)
            at += p.value.size
        train.zero_gradients()
        loss = train.gradient(ROWS, None, CLASSES)
        return loss, np.concatenate([p.gradient.ravel() for p in params])

    plain = lbfgs.minimize(f, np.concatenate([start.ravel() for start in starts]))
    assert plain.f == pytest.approx(found.f, rel=0.05)


def test_lbfgs_of_a_session_makes_the_same_bits_for_any_number_of_threads() -> None:
    values = []
    for n_threads in (1, 2):
        train = classifier("lbfgs", n_threads=n_threads)
        fit(train, LBFGS(max_iterations=10))
        values.append(train.flat()[0].tobytes())
    assert values[0] == values[1]


def test_an_exception_leaves_the_session_at_its_best_point() -> None:
    train = classifier("lbfgs")
    losses: list[float] = []

    def loss() -> float:
        losses.append(train.gradient(ROWS, None, CLASSES))
        if len(losses) == 8:
            raise KeyboardInterrupt
        return losses[-1]

    with pytest.raises(KeyboardInterrupt):
        LBFGS().minimize_session(train, loss)
    train.zero_gradients()
    assert train.gradient(ROWS, None, CLASSES) == min(losses[:7])


def test_adam_of_a_session_is_that_of_arrays() -> None:
    train = classifier("adam")
    options: dict[str, Any] = {"rate": 0.02, "decay": 0.1, "groups": [Group(max_dims=1, decay=0.0)]}
    arrays = {p.name: (p.value.copy(), np.zeros_like(p.gradient)) for p in train.params}
    one, two = Adam(train, **options), Adam(arrays, **options)
    for _ in range(20):
        train.zero_gradients()
        train.gradient(ROWS, None, CLASSES)
        for p in train.params:
            arrays[p.name][1][...] = p.gradient
        assert one.step() == two.step()
    for p in train.params:
        assert p.value.tobytes() == arrays[p.name][0].tobytes()
    values, _, state = train.flat()
    assert np.count_nonzero(state.view(np.float32)) <= 2 * values.size
    assert one.state_dict()["m"]["a.weight"].tobytes() == two.state_dict()["m"]["a.weight"].tobytes()


def test_a_session_without_room_is_refused() -> None:
    with pytest.raises(ArgumentError, match="optimizer must be 'adam'"):
        Adam(classifier("lbfgs"))
    with pytest.raises(ArgumentError, match="bytes of work memory, expected"):
        fit(classifier("lbfgs", history=3), LBFGS(history=4))
    with pytest.raises(ArgumentError, match="bytes of work memory"):
        fit(classifier("adam"), LBFGS())

"""Optimisers: ADAM and AdamW, L-BFGS, and schedules for the rate.

They work in place on NumPy arrays or on the parameters of a training session, in the C core and with the memory that
there is: arrays are never copied, a session's optimiser state is part of its plan. docs/training.md has examples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from nanollm import _core
from nanollm.errors import ArgumentError, MemoryLimitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LBFGS", "Adam", "Group", "Iteration", "Minimum", "Optimizer", "Reason", "Schedule", "schedule", "session"]

Optimizer = Literal["adam", "lbfgs"]
Schedule = Literal["constant", "linear", "cosine"]
Reason = Literal["gradient", "decrease", "iterations", "evaluations", "line search", "not finite", "cancelled"]


def schedule(kind: Schedule, step: int, n_warm: int, n_steps: int, *, floor: float = 0.0) -> float:
    """What the rate of a step (1 … ``n_steps``) is multiplied with.

    ``step / n_warm`` up to step ``n_warm``, then from 1 on down to ``floor`` at ``n_steps``, where it stays: along a
    line, or half a cosine (Loshchilov and Hutter, 2016, arXiv:1608.03983), or not at all.
    """
    return _core.schedule(kind, step, n_warm, n_steps, floor)


def session(
    program: bytes,
    weights: Mapping[str, ArrayLike],
    optimizer: Optimizer,
    *,
    n_tokens: int,
    history: int = 10,
    n_threads: int = 0,
) -> _core.Session:
    """A session over a program with gradients (`Graph.backward`) whose weights are arrays, not a model's file.

    ``weights``: every tensor that the program reads, by name; they are stored as float32 and may go afterwards.
    ``n_tokens``: the most that one step takes. ``history`` is L-BFGS's. All of the memory is taken here: what does not
    fit raises MemoryLimitError.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="nanollm-") as folder:
        path = Path(folder, "weights.gguf")
        arrays = {name: np.ascontiguousarray(x, np.float32) for name, x in weights.items()}
        with _core.GgufWriter(path) as writer:
            for name, x in arrays.items():
                writer.add_tensor(name, x.shape, "F32")
            for x in arrays.values():
                writer.write(x.data)
        model = _core.CoreModel(_core.Gguf.open(path), program)  # the mapping outlives the file's name
    limits = replace(
        _core.limits_default(),
        n_ctx=n_tokens,
        n_batch=n_tokens,
        n_outputs=n_tokens,
        n_threads=n_threads,
        type_k="F32",
        type_v="F32",
        deterministic=True,
        optimizer=optimizer,
        history=history if optimizer == "lbfgs" else 0,
    )
    plan = _core.Plan(model, limits)
    if plan.memory.total > _core.memory_available():
        raise MemoryLimitError(
            f"session: {plan.memory.total >> 20} MiB are needed, {_core.memory_available() >> 20} MiB are available"
        )
    return _core.Session(plan)


# ------------------------------------------------------------------ ADAM


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters with other numbers than the rest: those whose name ``names`` (as in a shell: ``*_norm.*``) matches and
    that have at most ``max_dims`` dimensions (1: biases and norms; None: any)."""

    names: str = "*"
    max_dims: int | None = None
    rate: float = 1.0
    """Factor of the optimiser's rate."""
    decay: float | None = None
    """In place of the optimiser's; None: that one."""

    def has(self, name: str, n_dims: int) -> bool:
        """Is it one of these?"""
        return fnmatchcase(name, self.names) and (self.max_dims is None or n_dims <= self.max_dims)


class Adam:
    """ADAM (Kingma and Ba, 2014, arXiv:1412.6980) and AdamW (Loshchilov and Hutter, 2017, arXiv:1711.05101).

        adam = Adam({"w": (w, gradient)}, rate=1e-3, decay=0.1)
        for step in range(1, 101):
            gradient[...] = ...
            adam.step(schedule("cosine", step, 10, 100))

    ``parameters``: names with their values and gradients, two float32 arrays of one shape, which are read and written
    where they are; or a session whose plan has optimizer ``"adam"``. ``decay``: AdamW's decoupled weight decay or, with
    ``decoupled=False``, L2 regularisation. ``max_norm``: where the norm of all gradients together is larger they count
    scaled down to it; 0: no limit. ``groups``: the first that has a parameter counts for it; usual is
    ``[Group(max_dims=1, decay=0)]``, which leaves biases and norms without decay.

    One thread at a time. The same bits at every kernel level.
    """

    def __init__(
        self,
        parameters: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] | _core.Session,
        *,
        rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        decay: float = 0.0,
        max_norm: float = 0.0,
        decoupled: bool = True,
        groups: Sequence[Group] = (),
    ) -> None:
        self.rate = rate
        """May be changed between steps."""
        self.n_steps = 0
        """Taken so far."""
        slots = list(_slots(parameters))
        self._slots = dict(slots)
        if len(self._slots) != len(slots):
            raise ArgumentError("adam: two parameters have one name")
        groups = [*groups, Group()]
        chosen = [
            next(group for group in groups if group.has(name, slot[0].ndim)) for name, slot in self._slots.items()
        ]
        self._factors = [group.rate for group in chosen]
        self._decays = [decay if group.decay is None else group.decay for group in chosen]
        self._core = _core.Adam(
            list(self._slots.values()), beta1=beta1, beta2=beta2, eps=eps, max_norm=max_norm, decoupled=decoupled
        )

    def step(self, factor: float = 1.0) -> float:
        """One step with ``factor`` times the rate. The norm of all gradients, before any scaling.

        Raises ArgumentError where a gradient is not finite: nothing has changed then.
        """
        rate = self.rate * factor
        norm = self._core.step(self.n_steps + 1, [rate * f for f in self._factors], self._decays)
        self.n_steps += 1
        return norm

    def state_dict(self) -> dict[str, Any]:
        """What a later run goes on from with the same bits: ``step``, and by name ``m`` and ``v``. The arrays are the
        optimiser's own, float32 of the parameters' shapes: copy what is to stay."""
        return {
            "step": self.n_steps,
            "m": {name: slot[2] for name, slot in self._slots.items()},
            "v": {name: slot[3] for name, slot in self._slots.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a state. Raises ArgumentError, with nothing changed, unless it is one of these parameters."""
        moments = [(state["m"], 2), (state["v"], 3)]
        for arrays, _ in moments:
            if arrays.keys() != self._slots.keys():
                odd = sorted(arrays.keys() ^ self._slots.keys())
                raise ArgumentError(f"adam: state of other parameters: '{odd[0]}' is not in both")
            for name, slot in self._slots.items():
                if arrays[name].shape != slot[0].shape:
                    raise ArgumentError(
                        f"adam: state of '{name}': found {arrays[name].shape}, expected {slot[0].shape}"
                    )
        for arrays, at in moments:
            for name, slot in self._slots.items():
                slot[at][...] = arrays[name]
        self.n_steps = int(state["step"])


_Slot = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]"]


def _slots(
    parameters: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] | _core.Session,
) -> Iterator[tuple[str, _Slot]]:
    """Names with value, gradient, m and v."""
    import numpy as np

    if isinstance(parameters, _core.Session):
        values, _, state = parameters.flat()
        if state.nbytes != 2 * values.nbytes:
            raise ArgumentError("adam: the session's plan has no room for it: its optimizer must be 'adam'")
        m, v = state.view(np.float32).reshape(2, -1)
        for p in parameters.params:
            part = slice(p.offset, p.offset + p.value.size)
            yield p.name, (p.value, p.gradient, m[part].reshape(p.value.shape), v[part].reshape(p.value.shape))
        return
    for name, (value, gradient) in parameters.items():
        yield name, (value, gradient, np.zeros(value.shape, np.float32), np.zeros(value.shape, np.float32))


# ------------------------------------------------------------------ L-BFGS


@dataclass(frozen=True, slots=True)
class Iteration:
    """Where a minimisation is after an iteration."""

    iterations: int
    evaluations: int
    """Of the function, so far."""
    f: float
    gradient: float
    """The largest component's size."""


@dataclass(frozen=True, slots=True)
class Minimum(Iteration):
    """Where a minimisation ended, and why."""

    reason: Reason
    """``"gradient"`` and ``"decrease"``: a tolerance is reached. ``"iterations"`` and ``"evaluations"``: used up.
    ``"line search"``: no step along the gradient lowers f enough, as where rounding is all that is left, or where the
    gradient is not f's. ``"not finite"``: f or its gradient is not, at the start or wherever it led. ``"cancelled"``:
    by ``progress``."""
    x: NDArray[np.float64] | None = None
    """The best point found; None for a session, whose parameters it is."""

    @property
    def message(self) -> str:
        """The reason in words."""
        return _core.lbfgs_reason_text(self.reason)

    @property
    def is_converged(self) -> bool:
        """Is a tolerance reached?"""
        return self.reason in ("gradient", "decrease")


class LBFGS:
    """L-BFGS (Liu and Nocedal, 1989; Nocedal and Wright, Numerical Optimization, chapters 3 and 7), in float64.

    For smooth functions that give the same value each time they are asked: all data in one batch, no dropout.
    ``history``: how many steps and gradient changes stand for the curvature; 0 is steepest descent. Ends when no
    component of the gradient is larger than ``gradient_tolerance``, or when an iteration lowers f by no more than
    ``f_tolerance * max(|f|, 1)``. ``line_search``: ``"wolfe"`` looks for a point that fulfils the strong Wolfe
    conditions, with ``decrease`` (c1) and ``curvature`` (c2); ``"backtracking"`` is content with sufficient decrease.
    Each takes at most ``max_line_steps`` evaluations.

    Memory: (4 + 2 ``history``) numbers a variable.
    """

    def __init__(
        self,
        *,
        history: int = 10,
        max_iterations: int = 1000,
        max_evaluations: int = 10000,
        gradient_tolerance: float = 1e-5,
        f_tolerance: float = 1e-9,
        line_search: Literal["wolfe", "backtracking"] = "wolfe",
        decrease: float = 1e-4,
        curvature: float = 0.9,
        max_line_steps: int = 20,
    ) -> None:
        self._options: dict[str, Any] = {
            "history": history,
            "max_iterations": max_iterations,
            "max_evaluations": max_evaluations,
            "gradient_tolerance": gradient_tolerance,
            "f_tolerance": f_tolerance,
            "line_search": line_search,
            "decrease": decrease,
            "curvature": curvature,
            "max_line_steps": max_line_steps,
        }

    def minimize(
        self,
        fun: Callable[[NDArray[np.float64]], tuple[float, ArrayLike]],
        x0: ArrayLike,
        *,
        progress: Callable[[Iteration], object] | None = None,
    ) -> Minimum:
        """Minimises ``fun`` from ``x0``, an array of any shape; f there is never larger than at the start.

        ``fun(x)`` gives f and its gradient, of x's shape. It sees x where it is, read-only: copy what is to stay.
        Values that are not finite are legal and mean that x is too far. ``progress`` is called after each iteration;
        False ends. An exception of either ends the minimisation and comes out here.
        """
        import numpy as np

        x = np.array(x0, dtype=np.float64, order="C")
        return _minimum(_core.lbfgs(fun, x, progress=_watch(progress), **self._options), x)

    def minimize_session(
        self,
        session: _core.Session,
        loss: Callable[[], float],
        *,
        progress: Callable[[Iteration], object] | None = None,
    ) -> Minimum:
        """Minimises a training session's loss over its parameters, which end at the best point found.

        ``loss()`` calls ``session.gradient`` for every batch of the data, the same ones each time, and gives the sum of
        their losses; the gradients are zeros before. The session's plan has optimizer ``"lbfgs"`` and a history that is
        at least this one's: its state is the work memory, and nothing else is allocated. ``progress`` and exceptions as
        in `minimize`; after an exception the parameters are those of the best point, too.
        """
        values, gradients, state = session.flat()

        def fun() -> float:
            session.zero_gradients()
            return loss()

        found = _core.lbfgs_flat(fun, values, gradients, state.data, progress=_watch(progress), **self._options)
        return _minimum(found, None)


def _minimum(found: tuple[str, int, int, float, float], x: NDArray[np.float64] | None) -> Minimum:
    reason, iterations, evaluations, f, gradient = found
    return Minimum(iterations, evaluations, f, gradient, cast(Reason, reason), x)


def _watch(progress: Callable[[Iteration], object] | None) -> Callable[[int, int, float, float], object] | None:
    return None if progress is None else lambda *now: progress(Iteration(*now))

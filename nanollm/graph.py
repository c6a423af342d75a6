"""The graph builder that model definitions use.

Shapes are written as NumPy writes them, outermost first: ``(T, n_embd)``. ``"T"`` stands for the tokens of a
step and ``"W"`` for those of them whose logits are wanted; only the outermost dim is ever symbolic. Every op
checks its sources as it is added, so a definition that does not fit its file fails here, with the tensor's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nanollm import _core
from nanollm.errors import NotFoundError, ShapeError, UnsupportedError

__all__ = ["Activation", "Dim", "Graph", "Rope", "Scope", "Tensor", "Weight"]

Dim = int | Literal["T", "W"]
Activation = Literal["none", "gelu", "silu"]

# As ops.inc numbers them.
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "gelu": 1, "silu": 2}
_ORDERS = {"pairs": 0, "halves": 1}
_SCALINGS = {"none": 0, "linear": 1, "yarn": 2}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph: its number there and its shape, outermost dim first."""

    index: int
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the file, with its bias where it has one. ``name`` is without ``.weight``."""

    name: str
    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rope:
    """Parameters of rotary position embeddings (Su et al., 2021, arXiv:2104.09864).

    ``order``: which components of a head turn together, ``"pairs"`` (2i, 2i + 1) or ``"halves"`` (i, i + n_rot / 2).
    ``scaling`` stretches the context by ``factor``: ``"linear"`` (position interpolation) or ``"yarn"`` (Peng et al.,
    2023, arXiv:2309.00071), whose ``n_ctx_orig`` is the context the model was first trained for.
    ``factors`` names a weight (n_rot / 2) that divides each frequency, as Llama 3.1 needs.
    """

    n_rot: int
    order: Literal["pairs", "halves"]
    freq_base: float = 10000.0
    scaling: Literal["none", "linear", "yarn"] = "none"
    factor: float = 1.0
    n_ctx_orig: int = 0
    ext_factor: float = 1.0
    attn_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    factors: str | None = None


class Scope:
    """Weights under one prefix: ``g.scope("blk.0").w("attn_q")`` is ``blk.0.attn_q.weight``."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix

    def scope(self, prefix: str) -> Scope:
        """A scope inside this one."""
        return Scope(self._graph, f"{self._prefix}{prefix}.")

    def has(self, name: str) -> bool:
        """Is ``name.weight`` in the file?"""
        return self._graph.has(f"{self._prefix}{name}.weight")

    def w(self, name: str, *, bias: bool = False, tied: str | None = None) -> Weight:
        """The weight ``name.weight`` and, where the file has one, ``name.bias``.

        ``bias=True`` makes the bias a must. ``tied`` names the weight that stands in when this one is absent.
        Raises NotFoundError with the missing tensor's name.
        """
        full = f"{self._prefix}{name}"
        if tied is not None and not self.has(name):
            full = f"{self._prefix}{tied}"
        weight = self._graph.weight(f"{full}.weight")
        has_bias = bias or self._graph.has(f"{full}.bias")
        return Weight(full, weight, self._graph.weight(f"{full}.bias") if has_bias else None)


class Graph(Scope):
    """A graph over the weights of one file.

    ``shapes``: every weight's name and shape, outermost dim first. ``source`` names the file in messages, and
    ``origin`` may tell how a weight is called where it comes from (for a converter's messages).
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        *,
        source: str = "graph",
        origin: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(self, "")
        self._core = _core.Graph()
        self._shapes = shapes
        self._source = source
        self._origin = origin
        self._used: set[str] = set()
        self._tables: dict[tuple[object, ...], Tensor] = {}

    # -- leaves

    def has(self, name: str) -> bool:
        """Is the tensor ``name`` in the file? For a scope's weights, ``.weight`` may be left out."""
        return name in self._shapes or f"{name}.weight" in self._shapes

    def weight(self, name: str) -> Tensor:
        """The file's tensor of exactly this name. Raises NotFoundError when it has none."""
        if name not in self._shapes:
            origin = self._origin(name) if self._origin is not None else None
            where = f" (there: '{origin}')" if origin else ""
            raise NotFoundError(f"{self._source}: tensor '{name}'{where} is missing")
        self._used.add(name)
        return self._tensor(self._core.weight(name, self._shapes[name]))

    def unused(self) -> list[str]:
        """Names of the file's tensors that nothing has asked for, sorted."""
        return sorted(set(self._shapes) - self._used)

    @property
    def tokens(self) -> Tensor:
        """Token ids, i32 (T)."""
        return self._input("tokens")

    @property
    def positions(self) -> Tensor:
        """Each token's position in its sequence, i32 (T)."""
        return self._input("positions")

    def _input(self, name: str) -> Tensor:
        return self._tensor(self._core.input(name))

    # -- ops

    def op(
        self,
        name: str,
        sources: Sequence[Tensor | Weight | None],
        ints: Sequence[int] = (),
        floats: Sequence[float] = (),
    ) -> Tensor:
        """Adds any op of the core by name; ``None`` leaves an optional source out."""
        src = [None if s is None else (s.weight if isinstance(s, Weight) else s).index for s in sources]
        return self._tensor(self._core.op(name, src, list(ints), [float(f) for f in floats]))

    def rows(self, table: Tensor | Weight | str, index: Tensor) -> Tensor:
        """Rows of ``table`` (n_rows, n) by number: (len(index), n), float32. A name is a weight's full name."""
        return self.op("rows", [self.weight(table) if isinstance(table, str) else table, index])

    def wanted(self, x: Tensor) -> Tensor:
        """Of ``x`` (T, n), the rows whose logits are wanted: (W, n)."""
        return self.rows(x, self._input("wanted"))

    def linear(self, x: Tensor, w: Weight, act: Activation = "none") -> Tensor:
        """``act(x @ w.T + bias)``: x (.., n_in), w (n_out, n_in) -> (.., n_out)."""
        return self.op("linear", [x, w.weight, w.bias], [_ACTIVATIONS[act]])

    def norm(self, x: Tensor, w: Weight, eps: float) -> Tensor:
        """LayerNorm over the innermost dim, scaled by ``w`` and shifted by its bias."""
        return self.op("norm", [x, w.weight, w.bias], floats=[eps])

    def rms_norm(self, x: Tensor, w: Weight, eps: float) -> Tensor:
        """RMSNorm (Zhang and Sennrich, 2019) over the innermost dim, scaled by ``w``."""
        if w.bias is not None:
            raise UnsupportedError(f"{self._source}: tensor '{w.name}.bias': an RMS norm takes no bias")
        return self.op("rms_norm", [x, w.weight], floats=[eps])

    def view(self, x: Tensor, *dims: int, at: int | None = None) -> Tensor:
        """Each row's elements as ``dims``, one or two, without moving data: (T, n) -> (T, \\*dims).

        With ``at``, only the elements from there on: what cuts a fused Q, K, V. Without, the row must fit exactly.
        """
        size, width = math.prod(dims), math.prod(int(d) for d in x.shape[1:])
        if at is None and size != width:
            raise ShapeError(f"{self._source}: rows of {width} elements cannot be seen as {dims}, {size} elements")
        return self.op("view", [x], [at or 0, len(dims), *reversed(dims)])

    def rope(self, x: Tensor, rope: Rope) -> Tensor:
        """Turns the first ``rope.n_rot`` components of each head of ``x`` (T, n_head, head_dim) by its position."""
        return self.op("rope", [x, self._rope_table(rope)], [_ORDERS[rope.order]])

    def _rope_table(self, r: Rope) -> Tensor:
        ints = (r.n_rot, _SCALINGS[r.scaling], r.n_ctx_orig)
        floats = (r.freq_base, r.factor, r.ext_factor, r.attn_factor, r.beta_fast, r.beta_slow)
        key = (ints, floats, r.factors)
        if key not in self._tables:
            factors = None if r.factors is None else self.weight(r.factors)
            self._tables[key] = self.op("rope_table", [self.positions, factors], ints, floats)
        return self._tables[key]

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, layer: int, window: int = 0, scale: float = 0.0, softcap: float = 0.0
    ) -> Tensor:
        """Causal attention over the token's own sequence, whose keys and values are kept: (T, n_head * head_dim).

        q (T, n_head, head_dim); k and v (T, n_head_kv, head_dim). ``window``: a token sees itself and the
        ``window`` - 1 before it; 0: all. ``scale`` 0: 1 / sqrt(head_dim). ``softcap`` 0: none.
        """
        keys, values = (
            self.op("kv_write", [x, self._tensor(self._core.cache(2 * layer + i, int(x.shape[1]), int(x.shape[2])))])
            for i, x in enumerate((k, v))
        )
        return self.op("attention", [q, keys, values], [window], [scale, softcap])

    def gelu(self, x: Tensor) -> Tensor:
        """GELU in its tanh form (Hendrycks and Gimpel, 2016)."""
        return self.op("gelu", [x])

    def silu(self, x: Tensor) -> Tensor:
        """``x * sigmoid(x)``."""
        return self.op("silu", [x])

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """``silu(gate) * up`` (Shazeer, 2020, arXiv:2002.05202)."""
        return self.op("swiglu", [gate, up])

    def add(self, a: Tensor, b: Tensor | Weight) -> Tensor:
        """``a + b``; ``b`` has a's shape or is a weight (n) for every row."""
        return self.op("add", [a, b])

    def mul(self, a: Tensor, b: Tensor | Weight) -> Tensor:
        """``a * b``; ``b`` has a's shape or is a weight (n) for every row."""
        return self.op("mul", [a, b])

    def scale(self, x: Tensor, factor: float) -> Tensor:
        """``factor * x``."""
        return self.op("scale", [x], floats=[factor])

    # -- losses, gradients

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The loss of ``logits`` (W, n) against a step's targets: (1), the sum over the wanted rows i of
        ``weights[i] * -log(softmax(logits[i])[targets[i]])``. Targets and weights come with each step."""
        return self.op("cross_entropy", [logits, self._input("targets"), self._input("weights")])

    def sum(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """``factor`` times the sum of all elements of ``x``: (1), as a loss is."""
        return self.op("sum", [x], floats=[factor])

    def backward(self, loss: Tensor, params: Iterable[Tensor | Weight | str], *, recompute: bool = False) -> None:
        """Differentiates ``loss`` (1), a result of ``cross_entropy`` or ``sum``, by ``params``: its weights as tensors,
        with their biases, or by their full names. Adds the gradients to the graph; then ``save(loss)`` is a program
        whose sessions have parameters (`Session.params`) and run forward and backward (`Session.gradient`).

        Everything else is frozen: weights of any type, a matrix of data that ``rows`` reads among them. With
        ``recompute`` what a layer (``blk.N.`` in its weights' names) computes is not kept for the gradients but
        computed again, but for what other layers read: the same bits in less memory and more time.

            g = Graph({"data": (150, 4), "a.weight": (8, 4), "a.bias": (8,), "b.weight": (3, 8)})
            a, b = g.w("a"), g.w("b")
            h = g.linear(g.rows("data", g.tokens), a, act="gelu")
            loss = g.cross_entropy(g.linear(g.wanted(h), b))
            g.backward(loss, [a, b])
            program = g.save(loss)

        A step's "tokens" are then numbers of rows of ``data``, its targets their classes. Raises ArgumentError for a
        parameter that the loss does not depend on and UnsupportedError where an op has no derivative.
        """
        self._core.backward(loss.index, [i for p in params for i in self._indices(p)], recompute)

    def _indices(self, param: Tensor | Weight | str) -> list[int]:
        if isinstance(param, Weight):
            return [t.index for t in (param.weight, param.bias) if t is not None]
        return [(self.weight(param) if isinstance(param, str) else param).index]

    # -- the result

    def save(self, output: Tensor) -> bytes:
        """The program: the graph serialised, with ``output`` as its result: logits (W, n_vocab), or a loss (1)."""
        self._core.set_output(output.index)
        return self._core.save()

    def _tensor(self, index: int) -> Tensor:
        symbols: dict[int, Dim] = {_core.DIM_T: "T", _core.DIM_W: "W"}
        return Tensor(index, tuple(symbols.get(d, d) for d in self._core.shape(index)))

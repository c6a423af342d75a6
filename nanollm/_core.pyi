"""Bindings to the C core (ggml_core.h): thin, typed, no logic.

Shapes are row-major, outermost first, as NumPy has them. Objects keep what they borrow alive; `close()` may be
called any number of times, and a view handed out before it stays valid. Every call that works releases the GIL.
Failures raise the classes of `nanollm.errors`.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

from nanollm._types import Device, Limits, Memory, Param, QuantizeStep, SamplerParams, TensorInfo

DIM_T: Final[int]
"""Stands in a shape for the tokens of a step."""
DIM_W: Final[int]
"""Stands in a shape for the rows of a step whose logits are wanted."""
PROGRAM_VERSION: Final[int]
"""What programs this build writes and reads."""
FTYPE_COPY: Final[int]
"""The file type that leaves every tensor as it is."""

def version() -> str: ...
def type_name(type: int) -> str: ...
def type_from_name(name: str) -> int: ...
def type_is_supported(type: str | int) -> bool: ...
def type_block_size(type: str | int) -> int: ...
def type_block_bytes(type: str | int) -> int: ...
def type_row_bytes(type: str | int, n: int) -> int: ...
def from_float(type: str | int, x: ArrayLike) -> NDArray[np.uint8]: ...
def to_float(type: str | int, data: Buffer, n: int) -> NDArray[np.float32]: ...
def quantize(type: str | int, x: ArrayLike, importance: ArrayLike | None = None) -> NDArray[np.uint8]:
    """(n_rows, n_per_row) floats -> (n_rows, bytes a row)."""

def memory_available() -> int: ...
def memory_peak() -> int: ...
def cpu_level() -> str: ...
def cpu_levels() -> list[str]: ...
def set_cpu_level(level: str | None) -> None: ...
def default_threads() -> int: ...
def limits_default() -> Limits: ...
def device_count() -> int:
    """Devices that can run layers; 0 without a driver, or where this library is built without."""

def device(i: int) -> Device:
    """One of them. Raises NotFoundError or UnsupportedError that says why there is none."""

def sampler_params_default() -> SamplerParams: ...

@final
class Gguf:
    """A GGUF file, mapped and checked."""

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Gguf: ...
    @staticmethod
    def from_bytes(data: Buffer, name: str = "<memory>") -> Gguf: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def file_size(self) -> int: ...
    @property
    def alignment(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def keys(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def kind(self, key: str) -> tuple[str, bool]: ...
    @property
    def tensors(self) -> list[TensorInfo]: ...
    def has_tensor(self, name: str) -> bool: ...
    def tensor(self, name: str) -> TensorInfo: ...
    def tensor_data(self, name: str) -> memoryview: ...
    def tensor_f32(self, name: str) -> NDArray[np.float32]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class GgufWriter:
    """Writes a GGUF file to a temporary one beside it; leaving the `with` block without an exception finishes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None: ...
    def set(self, key: str, kind: str, value: Any) -> None: ...
    def copy(self, gguf: Gguf, key: str) -> None: ...
    def add_tensor(self, name: str, shape: Sequence[int], type: str | int) -> None: ...
    def write(self, data: Buffer) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

def ftypes() -> dict[str, int]:
    """What a whole file can be quantised to: names and numbers, the best first."""

def ftype_from_name(name: str) -> int:
    """The number of a name in any case, or of a number in digits."""

def quantize_file(
    gguf: Gguf,
    out: str | os.PathLike[str] | None,
    ftype: int,
    *,
    n_threads: int = 0,
    allow_requantize: bool = False,
    pure: bool = False,
    leave_output: bool = False,
    no_fallback: bool = False,
    dry_run: bool = False,
    output_type: str | int | None = None,
    token_embedding_type: str | int | None = None,
    types: Mapping[str, str | int] | None = None,
    importance: Mapping[str, ArrayLike] | None = None,
    values: Sequence[tuple[str, str, Sequence[Any], bool]] = (),
    progress: Callable[[QuantizeStep], object] | None = None,
) -> None:
    """nano_quantize_file. `types`: matrices that are to become something else than the recipe says. `values`: (key,
    kind, items, is_array). An exception from `progress` ends it and comes out here."""

def program_version(data: Buffer) -> int:
    """The version that a program needs."""

@final
class Graph:
    """A graph, shape-checked as it is built. Tensors are numbers."""

    @staticmethod
    def load(data: Buffer) -> Graph: ...
    def weight(self, name: str, shape: Sequence[int], file: int = 0) -> int:
        """A weight of one of the files that `CoreModel` is given: 0 the model's."""

    def input(self, kind: str) -> int: ...
    def cache(self, index: int, n_head_kv: int, head_dim: int) -> int: ...
    def op(
        self, name: str, src: Sequence[int | None], ints: Sequence[int] = (), floats: Sequence[float] = ()
    ) -> int: ...
    def set_output(self, tensor: int) -> None: ...
    def loss(self) -> int:
        """Adds the cross entropy of the output against the inputs "targets" and "weights"; the output stays."""

    def find_weight(self, name: str, file: int = 0) -> int | None:
        """The tensor that is a weight of a file (0: the model's); None when the graph does not read it."""

    def backward(self, loss: int, params: Sequence[int], recompute: bool = False) -> None:
        """Makes weights parameters and appends their gradients; the loss becomes the output.

        `recompute`: of each layer ("blk.N." in the weights' names) only what other layers read is kept for the
        gradients. Fails without a change to the graph: ArgumentError for a parameter that the loss does not depend on,
        UnsupportedError where an op on the way has no derivative.
        """

    def adapt(self, adapter: Gguf | None, file: int = 1, scale: float = 1.0) -> Graph:
        """A new graph with a LoRA adapter in it, the file of this number in `CoreModel`.

        Without an adapter: the same graph with every linear's fused activation as an op of its own, which is what to
        differentiate. NotFoundError for a matrix that the graph has no use for.
        """

    @property
    def n_tensors(self) -> int: ...
    def shape(self, tensor: int) -> tuple[int, ...]: ...
    def save(self) -> bytes: ...

def adapter_check(adapter: Gguf, model: Gguf | None = None) -> None:
    """Raises UnsupportedError unless `adapter` is a LoRA adapter, and ArgumentError where it is one of another
    architecture than `model`."""

@final
class CoreModel:
    """Files (the model's, its adapters') and a program bound together. May be shared between threads."""

    def __init__(self, files: Gguf | Sequence[Gguf], program: Buffer) -> None: ...
    @property
    def n_vocab(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...

@final
class Plan:
    """A model and limits: every buffer's offset, the exact bytes. No weight is read."""

    def __init__(self, model: CoreModel, limits: Limits | None = None) -> None: ...
    @staticmethod
    def fit(model: CoreModel, limits: Limits, budget: int) -> int: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def limits(self) -> Limits: ...

@final
class Session:
    """A plan with its memory and threads. One thread at a time; only `cancel` may come from another."""

    def __init__(self, plan: Plan) -> None: ...
    def eval(self, tokens: ArrayLike, slots: ArrayLike | None = None, wanted: ArrayLike | None = None) -> None: ...
    @property
    def logits(self) -> NDArray[np.float32]: ...
    @property
    def closed(self) -> bool: ...
    def n_past(self, slot: int = 0) -> int: ...
    def truncate(self, slot: int, n_past: int) -> None: ...
    def copy_slot(self, source: int, target: int, n_past: int) -> None: ...
    def importance(self, weight: str) -> tuple[NDArray[np.float64], int]:
        """A copy of the sums of squares of each column that `weight` was multiplied with, and over how many rows."""

    def save(self, path: str | os.PathLike[str], tokens: Sequence[int], slot: int = 0) -> None:
        """Writes a slot's first positions, those that `tokens` made."""

    def load(self, path: str | os.PathLike[str], capacity: int, slot: int = 0) -> list[int]:
        """Makes the slot hold what a file has; its tokens, at most `capacity`."""

    @property
    def params(self) -> list[Param]:
        """What is trained, in the order of the program's weights: the session's own memory."""

    def flat(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """All parameters and all gradients, each as one vector of the session's own memory, parameter after parameter
        with zeros between; and the room for the optimiser of the limits, zeros when the session is made."""

    def gradient(
        self, tokens: ArrayLike, slots: ArrayLike | None, targets: ArrayLike, weights: ArrayLike | None = None
    ) -> float:
        """Forward and backward over sequences from position 0: adds to the gradients; the weighted sum of losses.

        A slot's tokens lie next to each other. `targets`: the token to predict at each one, below 0 for none.
        `weights`: what each target counts; None is 1 / number of targets.
        """

    def loss(
        self, tokens: ArrayLike, slots: ArrayLike | None, targets: ArrayLike, weights: ArrayLike | None = None
    ) -> float:
        """The same sum with the same bits, forward alone: gradients stay as they are."""

    def zero_gradients(self) -> None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Tokenizer:
    """The tokenizer of a GGUF file; copies what it needs of it. May be shared between threads."""

    def __init__(self, gguf: Gguf) -> None: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def eot(self) -> int | None: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def adds_eos(self) -> bool: ...
    def is_end(self, id: int) -> bool: ...
    def is_special(self, id: int) -> bool: ...
    def spelling(self, id: int) -> str: ...
    def find(self, spelling: str | bytes) -> int | None: ...
    def encode(self, text: str | bytes, add_special: bool = True, parse_special: bool = False) -> list[int]: ...
    def decode(self, ids: Iterable[int], show_special: bool = False) -> str: ...
    def decoder(self, show_special: bool = False) -> Decoder: ...

@final
class Decoder:
    """Streaming decoding: each push gives the whole characters that are ready."""

    def __init__(self, tokenizer: Tokenizer, show_special: bool = False) -> None: ...
    def push(self, id: int) -> str: ...
    def flush(self) -> str: ...

def lookup_draft(tokens: ArrayLike, max_draft: int) -> list[int]:
    """How the text goes on if it repeats itself: `max_draft` ids, or none."""

@final
class Chat:
    """A chat template as literal pieces: a file's, or the built-in one of a name."""

    def __init__(self, gguf: Gguf | None, tokenizer: Tokenizer | None = None, name: str | None = None) -> None: ...
    @staticmethod
    def names() -> list[str]: ...
    def turn(self, user: str | bytes, system: str | bytes | None = None, is_first: bool = True) -> str:
        """The text before the answer to `user`."""

@final
class Sampler:
    """Draws tokens from logits. One thread at a time."""

    def __init__(self, n_vocab: int, params: SamplerParams | None = None) -> None: ...
    def sample(self, logits: ArrayLike) -> int: ...
    def sample_session(self, session: Session, row: int = -1) -> int:
        """Draws from one row of the session's last logits: `sample(session.logits[row])` without NumPy."""

    def accept(self, id: int) -> None: ...
    def reset(self, seed: int) -> None: ...

@final
class Adam:
    """nano_adam_step over spans: (value, gradient, m, v), contiguous float32 arrays of one shape, held as they are."""

    def __init__(
        self,
        spans: Sequence[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]],
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        max_norm: float = 0.0,
        decoupled: bool = True,
    ) -> None: ...
    def step(self, step: int, rates: Sequence[float], decays: Sequence[float]) -> float:
        """The norm of all gradients."""

def schedule(kind: str, step: int, n_warm: int, n_steps: int, floor: float = 0.0) -> float: ...
def lbfgs_reason_text(reason: str) -> str: ...
def lbfgs_flat_bytes(n: int, history: int) -> int: ...
def lbfgs(
    fun: Callable[[NDArray[np.float64]], tuple[float, ArrayLike]],
    x: NDArray[np.float64],
    *,
    progress: Callable[[int, int, float, float], object] | None = None,
    **options: Any,
) -> tuple[str, int, int, float, float]:
    """nano_lbfgs from x, which it changes: reason, iterations, evaluations, f, largest component of the gradient.
    `progress` gets the last four; False ends. `options`: the fields of nano_lbfgs_options. Exceptions come out here."""

def lbfgs_flat(
    fun: Callable[[], float],
    values: NDArray[np.float32],
    gradients: NDArray[np.float32],
    work: Buffer,
    *,
    progress: Callable[[int, int, float, float], object] | None = None,
    **options: Any,
) -> tuple[str, int, int, float, float]:
    """nano_lbfgs_flat; `fun` makes `gradients` those of `values`, and gives f."""

"""Plain records that cross between Python and the core. Each mirrors a struct of ggml_core.h, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Limits", "Memory", "Param", "QuantizeStep", "SamplerParams", "TensorInfo"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a GGUF file. `shape` is row-major, outermost first, as NumPy has it."""

    name: str
    type: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session is planned for: `limits_default()`, changed with `dataclasses.replace`."""

    n_ctx: int
    """Positions a slot."""
    n_batch: int
    """Most tokens in one step."""
    n_slots: int
    """Sequences held at once."""
    n_outputs: int
    """Most rows of logits in one step."""
    n_threads: int
    """0: one per physical core that is fast."""
    type_k: str
    """Type of the key cache: F16 or F32."""
    type_v: str
    """Type of the value cache: F16 or F32."""
    deterministic: bool
    """Prompts add up in the decode kernels' order."""
    importance: bool = False
    """Keep the sums that `Session.importance` hands out."""
    n_threads_batch: int = 0
    """Threads of steps of more tokens than slots; 0: `n_threads`."""
    cpu_mask: int = 0
    """CPUs 0 to 255 that threads may run on, bit by bit; 0: the fast ones where the system tells them apart."""
    poll: int = 50
    """How idle threads wait: 0 sleep at once .. 100 spin long."""
    optimizer: str = "none"
    """Whose state a training session keeps room for: "none", "adam" or "lbfgs"."""
    history: int = 0
    """Of "lbfgs": pairs of steps and gradients kept."""
    n_gpu_layers: int = 0
    """The last so many layers, and the output, on a device; -1: as many as it has memory for."""
    device: int = 0
    """Which of `devices()`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Exact bytes of a plan. `weights` is mapped from the file, the rest is one allocation."""

    weights: int
    cache: int
    activations: int
    outputs: int
    scratch: int
    parameters: int
    """Weights that have gradients, as float32; not among `weights`."""
    gradients: int
    optimizer: int
    bookkeeping: int
    allocated: int
    """All but the weights."""
    total: int
    device: int = 0
    """What a device holds; counted in `total` where its memory is the processor's."""
    device_weights: int = 0
    device_cache: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can run layers."""

    name: str
    image: str
    """The device code that it will run; empty: this build has none for it."""
    compute_capability: int
    """53 is 5.3."""
    shares_memory: bool
    """With the processor: everything is counted once."""
    memory_available: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a training session. `value` and `gradient` are the session's own memory, of the weight's shape."""

    name: str
    file: int
    """Which of the model's files it came from: 0 the model's own."""
    type: str
    """There: F32, F16 or BF16."""
    offset: int
    """Of its first element in the flat vectors."""
    value: NDArray[np.float32]
    gradient: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SamplerParams:
    """The sampler's chain, field by field as in ggml_core.h: `sampler_params_default()`, changed with `replace`."""

    seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_last_n: int
    max_last_n: int
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    min_keep: int
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, value added to its logit)."""


@dataclass(frozen=True, slots=True)
class QuantizeStep:
    """Where quantising a file is: at one of its tensors."""

    tensor: TensorInfo
    """As it is in the file."""
    type: str
    """What it becomes."""
    wanted: str
    """What the recipe or the caller chose; not `type` where its blocks do not fill a row: a fallback."""
    has_importance: bool
    n_bytes: int
    """After."""
    index: int
    is_done: bool
    """With this tensor."""
    n_read: int
    """Bytes of tensors read so far."""

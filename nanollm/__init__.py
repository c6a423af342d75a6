"""Run, quantise and fine-tune small language models on small devices."""

from nanollm._core import version as _version
from nanollm._types import Limits, Memory, SamplerParams, TensorInfo
from nanollm.errors import (
    ArgumentError,
    CancelledError,
    FileError,
    FormatError,
    InternalError,
    LimitError,
    MemoryLimitError,
    NanoError,
    NotFoundError,
    ShapeError,
    UnsupportedError,
)
from nanollm.generation import Generation, Timings
from nanollm.model import MemoryReport, Model
from nanollm.quantize import QuantizedTensor, QuantizeReport, quantize

__all__ = [
    "ArgumentError",
    "CancelledError",
    "FileError",
    "FormatError",
    "Generation",
    "InternalError",
    "LimitError",
    "Limits",
    "Memory",
    "MemoryLimitError",
    "MemoryReport",
    "Model",
    "NanoError",
    "NotFoundError",
    "QuantizeReport",
    "QuantizedTensor",
    "SamplerParams",
    "ShapeError",
    "TensorInfo",
    "Timings",
    "UnsupportedError",
    "quantize",
]

__version__ = _version()

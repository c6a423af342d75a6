"""Run, quantise and fine-tune small language models on small devices."""

try:
    from nanollm._core import version as _version
except ModuleNotFoundError as error:
    if error.name != "nanollm._core":
        raise
    raise ImportError(
        f"{__path__[0]} holds no compiled core: it is the source tree, which Python prefers where it is started in it. "
        "Install with pip install . and start Python elsewhere, or with -P"
    ) from None

from nanollm._types import Device, Limits, Memory, SamplerParams, TensorInfo
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
from nanollm.export import ExportReport, export
from nanollm.generation import Generation, Timings
from nanollm.merge import MergeReport, merge
from nanollm.model import MemoryReport, Model, devices
from nanollm.quantize import QuantizedTensor, QuantizeReport, quantize

__all__ = [
    "ArgumentError",
    "CancelledError",
    "Device",
    "ExportReport",
    "FileError",
    "FormatError",
    "Generation",
    "InternalError",
    "LimitError",
    "Limits",
    "Memory",
    "MemoryLimitError",
    "MemoryReport",
    "MergeReport",
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
    "devices",
    "export",
    "merge",
    "quantize",
]

__version__ = _version()

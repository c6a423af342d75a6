# cython: language_level=3, binding=True
"""Bindings to the C core (ggml_core.h): thin, typed, no logic. The stubs in _core.pyi are their documentation.

Ownership: every C object sits in a private handle that frees it when the last reference goes. Public objects, the
handles of what they borrow from and the views they hand out each hold such a reference, so `close()` only drops one
and no view can dangle.
"""

import os
from array import array

from nanollm._types import Device, Limits, Memory, Param, QuantizeStep, SamplerParams, TensorInfo
from nanollm.errors import ArgumentError, NotFoundError, error_from_status

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy

DIM_T = NANO_DIM_T
DIM_W = NANO_DIM_W
PROGRAM_VERSION = NANO_PROGRAM_VERSION

# By nano_gguf_kind: our name and NumPy's.
cdef tuple _KINDS = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64",
    "float64",
)
cdef str _FORMATS = "BbHhIifB??Qqd"  # of memoryview; strings and arrays have none
cdef dict _INPUTS = {
    "tokens": NANO_INPUT_TOKENS, "positions": NANO_INPUT_POSITIONS, "wanted": NANO_INPUT_WANTED,
    "targets": NANO_INPUT_TARGETS, "weights": NANO_INPUT_WEIGHTS,
}

cdef tuple _OPTIMIZERS = ("none", "adam", "lbfgs")  # by nano_optimizer

include "_core_crossing.pxi"
include "_core_types.pxi"
include "_core_gguf.pxi"
include "_core_graph.pxi"
include "_core_session.pxi"
include "_core_text.pxi"
include "_core_optim.pxi"

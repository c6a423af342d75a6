# cython: language_level=3, binding=True
"""Bindings to the C core (ggml_core.h): thin, typed, no logic. The stubs in _core.pyi are their documentation.

Ownership: every C object sits in a private handle that frees it when the last reference goes. Public objects, the
handles of what they borrow from and the views they hand out each hold such a reference, so `close()` only drops one
and no view can dangle.
"""

import os

import numpy as np

from nanollm._types import Limits, Memory, QuantizeStep, SamplerParams, TensorInfo
from nanollm.errors import ArgumentError, NotFoundError, error_from_status

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc

DIM_T = NANO_DIM_T
DIM_W = NANO_DIM_W

# By nano_gguf_kind: our name and NumPy's.
cdef tuple _KINDS = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64",
    "float64",
)
cdef dict _INPUTS = {"tokens": NANO_INPUT_TOKENS, "positions": NANO_INPUT_POSITIONS, "wanted": NANO_INPUT_WANTED}


# ---------------------------------------------------------------- crossing

cdef int _check(nano_status status, nano_error *err) except -1:
    if status != NANO_OK:
        raise error_from_status(<int>status, (<bytes>err.message).decode("utf-8", "replace"))
    return 0


cdef class _Handle:
    """Owner of one C object. `busy` stands while a call on it runs without the GIL."""

    cdef bint busy

    cdef int enter(self) except -1:
        if self.busy:
            raise ArgumentError("this object is in use by another thread")
        self.busy = True
        return 0


cdef class _Input:
    """A contiguous buffer of the caller's, held while C reads (or fills) it."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, obj, bint writable=False):
        PyObject_GetBuffer(obj, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class _View:
    """Memory of the core as a Python buffer that keeps its owner alive."""

    cdef _Handle owner
    cdef void *data
    cdef const char *format
    cdef bint readonly
    cdef int ndim
    cdef Py_ssize_t itemsize
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef int i
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("this memory is mapped read-only")
        buffer.buf = self.data
        buffer.obj = self
        buffer.len = self.itemsize
        for i in range(self.ndim):
            buffer.len *= self.shape[i]
        buffer.itemsize = self.itemsize
        buffer.readonly = self.readonly
        buffer.ndim = self.ndim
        buffer.format = <char *>self.format if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL


cdef bytes _name(text):
    cdef bytes data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    if b"\0" in data:
        raise ArgumentError(f"{text!r}: a name cannot contain a NUL character")
    return data


cdef bytes _path(path):
    return _name(os.fsencode(path))


cdef bytes _text(text):
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)


cdef str _str(const char *data, size_t size):
    return (<bytes>data[:size]).decode("utf-8", "replace")


cdef nano_type _type(type) except? -2:
    cdef nano_type t
    if not isinstance(type, str):
        return type
    t = nano_type_from_name(_name(type))
    if t < 0:
        raise ArgumentError(f"unknown tensor type {type!r}")
    return t


cdef str _type_str(nano_type type):
    cdef const char *name = nano_type_name(type)
    if name == NULL:
        raise ArgumentError(f"unknown tensor type {type}")
    return name.decode("ascii")


cdef object _exact(value, dtype):
    """`value` as a contiguous array of `dtype`; ArgumentError where a number would change (floats may round)."""
    array = np.asarray(value)
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if array.size and array.dtype.kind not in kinds:
        raise ArgumentError(f"expected {dtype} values, found {array.dtype}")
    converted = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind in "iu" and not np.array_equal(array, converted):
        raise ArgumentError(f"a value is out of the range of {dtype}")
    return converted


cdef object _INT32 = np.dtype(np.int32)
cdef object _FLOAT32 = np.dtype(np.float32)


cdef object _flat(value, dtype):
    array = _exact(value, dtype)
    if array.ndim != 1:
        raise ArgumentError(f"expected one dimension, found shape {array.shape}")
    return array


cdef int _kind(key, kind) except -1:
    if kind not in _KINDS or kind == "array":
        known = ", ".join(name for name in _KINDS if name != "array")
        raise ArgumentError(f"{key}: unknown kind {kind!r}, expected one of {known}")
    return _KINDS.index(kind)


cdef int _dims(shape, int64_t *ne) except -1:
    """Row-major `shape` to GGUF's innermost-first order; the number of dims."""
    cdef int n = len(shape), i
    if not 1 <= n <= 4:
        raise ArgumentError(f"expected 1 to 4 dimensions, found {n}")
    for i in range(4):
        ne[i] = shape[n - 1 - i] if i < n else 1
    return n


cdef tuple _shape(int n, const int64_t *ne):
    return tuple([ne[n - 1 - i] for i in range(n)])


# ------------------------------------------------------------------- types

def version():
    return nano_version().decode("utf-8")


def type_name(type):
    return _type_str(type)


def type_from_name(name):
    return _type(name)


def type_is_supported(type):
    return bool(nano_type_is_supported(_type(type)))


def type_block_size(type):
    return nano_type_block_size(_type(type))


def type_block_bytes(type):
    return nano_type_block_bytes(_type(type))


def type_row_bytes(type, n):
    return nano_type_row_bytes(_type(type), n)


cdef size_t _bytes_for(nano_type t, int64_t n) except? 0:
    cdef size_t size = nano_type_row_bytes(t, n)
    if size == 0 and n != 0:
        raise ArgumentError(f"{n} elements are not whole blocks of {_type_str(t)}")
    return size


def from_float(type, x):
    cdef nano_error err
    cdef nano_status status
    cdef nano_type t = _type(type)
    source = np.ascontiguousarray(x, dtype=np.float32)
    cdef int64_t n = source.size
    target = np.empty(_bytes_for(t, n), dtype=np.uint8)
    cdef _Input a = _Input(source), b = _Input(target, True)
    with nogil:
        status = nano_type_from_float(t, <const float *>a.view.buf, b.view.buf, n, &err)
    _check(status, &err)
    return target


def to_float(type, data, n):
    cdef nano_error err
    cdef nano_status status
    cdef nano_type t = _type(type)
    cdef int64_t count = n
    cdef size_t size = _bytes_for(t, count)
    cdef _Input a = _Input(data)
    if <size_t>a.view.len != size:
        raise ArgumentError(f"{n} elements of {_type_str(t)} take {size} bytes, found {a.view.len}")
    target = np.empty(n, dtype=np.float32)
    cdef _Input b = _Input(target, True)
    with nogil:
        status = nano_type_to_float(t, a.view.buf, <float *>b.view.buf, count, &err)
    _check(status, &err)
    return target


def quantize(type, x, importance=None):
    cdef nano_error err
    cdef nano_status status
    cdef nano_type t = _type(type)
    cdef _Input weights
    cdef const float *p_weights = NULL
    source = np.ascontiguousarray(x, dtype=np.float32)
    if source.ndim != 2:
        raise ArgumentError(f"expected rows, found shape {source.shape}")
    cdef int64_t n_rows = source.shape[0], n_per_row = source.shape[1]
    if importance is not None:
        columns = _flat(importance, _FLOAT32)
        if columns.size != n_per_row:
            raise ArgumentError(f"{n_per_row} columns, but importance has {columns.size}")
        weights = _Input(columns)
        p_weights = <const float *>weights.view.buf
    target = np.empty((n_rows, _bytes_for(t, n_per_row)), dtype=np.uint8)
    cdef _Input a = _Input(source), b = _Input(target, True)
    with nogil:
        status = nano_type_quantize(t, <const float *>a.view.buf, p_weights, b.view.buf, n_rows, n_per_row, &err)
    _check(status, &err)
    return target


# ------------------------------------------------------------------ system

def memory_available():
    return nano_memory_available()


def memory_peak():
    return nano_memory_peak()


def cpu_level():
    return nano_cpu_level().decode("ascii")


def cpu_levels():
    return nano_cpu_levels().decode("ascii").split(",")


def set_cpu_level(level):
    cdef nano_error err
    cdef bytes name
    cdef const char *c_name = NULL
    if level is not None:
        name = _name(level)
        c_name = name
    _check(nano_cpu_set_level(c_name, &err), &err)


def default_threads():
    return nano_cpu_default_threads()


# -------------------------------------------------------------------- GGUF

cdef class _Gguf(_Handle):
    cdef nano_gguf *p
    cdef _Input data

    def __dealloc__(self):
        nano_gguf_free(self.p)


cdef object _value(const nano_gguf_value *value):
    cdef size_t cursor = 0
    cdef nano_str text
    cdef list texts
    if value.item_kind == NANO_GGUF_STRING:
        texts = []
        while nano_gguf_next_str(value, &cursor, &text):
            texts.append(_str(text.data, text.size))
        return texts if value.kind == NANO_GGUF_ARRAY else texts[0]
    raw = <bytes>(<const char *>value.data)[:value.n_bytes]
    if value.item_kind == NANO_GGUF_BOOL:
        items = np.frombuffer(raw, dtype=np.uint8) != 0
    else:
        items = np.frombuffer(raw, dtype=_KINDS[value.item_kind])
    return items if value.kind == NANO_GGUF_ARRAY else items[0].item()


cdef object _info(const nano_gguf_tensor *tensor):
    return TensorInfo(tensor.name.decode("utf-8", "replace"), _type_str(tensor.type),
                      _shape(tensor.n_dims, tensor.ne), tensor.n_bytes, tensor.offset)


@cython.final
cdef class Gguf:
    cdef _Gguf handle

    @staticmethod
    def open(path):
        cdef nano_error err
        cdef nano_status status
        cdef bytes name = _path(path)
        cdef const char *c_name = name
        cdef _Gguf handle = _Gguf()
        with nogil:
            status = nano_gguf_open(c_name, &handle.p, &err)
        _check(status, &err)
        cdef Gguf self = Gguf()
        self.handle = handle
        return self

    @staticmethod
    def from_bytes(data, name="<memory>"):
        cdef nano_error err
        cdef nano_status status
        cdef bytes encoded = _name(name)
        cdef const char *c_name = encoded
        cdef _Gguf handle = _Gguf()
        handle.data = _Input(data)
        with nogil:
            status = nano_gguf_open_memory(handle.data.view.buf, handle.data.view.len, c_name, &handle.p, &err)
        _check(status, &err)
        cdef Gguf self = Gguf()
        self.handle = handle
        return self

    cdef nano_gguf *get_p(self) except NULL:
        if self.handle is None:
            raise ArgumentError("the GGUF file is closed")
        return self.handle.p

    cdef const nano_gguf_value *find(self, key) except NULL:
        cdef bytes name = _name(key)
        cdef const nano_gguf_value *value = nano_gguf_find(self.get_p(), name)
        if value == NULL:
            raise NotFoundError(f"{self.path}: no key {key!r}")
        return value

    cdef const nano_gguf_tensor *find_tensor(self, name) except NULL:
        cdef bytes encoded = _name(name)
        cdef const nano_gguf_tensor *tensor = nano_gguf_find_tensor(self.get_p(), encoded)
        if tensor == NULL:
            raise NotFoundError(f"{self.path}: no tensor {name!r}")
        return tensor

    @property
    def path(self):
        return os.fsdecode(nano_gguf_path(self.get_p()))

    @property
    def version(self):
        return nano_gguf_version(self.get_p())

    @property
    def file_size(self):
        return nano_gguf_file_size(self.get_p())

    @property
    def alignment(self):
        return nano_gguf_alignment(self.get_p())

    @property
    def closed(self):
        return self.handle is None

    def keys(self):
        cdef nano_gguf *p = self.get_p()
        cdef const nano_gguf_value *value
        cdef uint64_t i
        keys = []
        for i in range(nano_gguf_n_values(p)):
            value = nano_gguf_value_at(p, i)
            keys.append(_str(value.key.data, value.key.size))
        return keys

    def __len__(self):
        return nano_gguf_n_values(self.get_p())

    def __contains__(self, key):
        cdef nano_gguf *p = self.get_p()
        return isinstance(key, str) and nano_gguf_find(p, _name(key)) != NULL

    def __getitem__(self, key):
        return _value(self.find(key))

    def get(self, key, default=None):
        return _value(self.find(key)) if key in self else default

    def kind(self, key):
        cdef const nano_gguf_value *value = self.find(key)
        return _KINDS[value.item_kind], value.kind == NANO_GGUF_ARRAY

    @property
    def tensors(self):
        cdef nano_gguf *p = self.get_p()
        cdef uint64_t i
        return [_info(nano_gguf_tensor_at(p, i)) for i in range(nano_gguf_n_tensors(p))]

    def has_tensor(self, name):
        cdef nano_gguf *p = self.get_p()
        return nano_gguf_find_tensor(p, _name(name)) != NULL

    def tensor(self, name):
        return _info(self.find_tensor(name))

    def tensor_data(self, name):
        cdef const nano_gguf_tensor *tensor = self.find_tensor(name)
        cdef _View view = _View()
        view.owner = self.handle
        view.data = <void *>tensor.data
        view.format = b"B"
        view.readonly = True
        view.ndim = 1
        view.itemsize = view.strides[0] = 1
        view.shape[0] = tensor.n_bytes
        return memoryview(view)

    def tensor_f32(self, name):
        info = self.tensor(name)
        cdef int64_t n = 1
        for dim in info.shape:
            n *= dim
        return to_float(info.type, self.tensor_data(name), n).reshape(info.shape)

    def close(self):
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        self.close()


# ------------------------------------------------------------- GGUF writer

cdef class _GgufWriter(_Handle):
    cdef nano_gguf_writer *p

    def __dealloc__(self):
        nano_gguf_writer_free(self.p)


@cython.final
cdef class GgufWriter:
    cdef _GgufWriter handle

    def __init__(self, path):
        cdef nano_error err
        cdef bytes name = _path(path)
        cdef _GgufWriter handle = _GgufWriter()
        _check(nano_gguf_writer_open(name, &handle.p, &err), &err)
        self.handle = handle

    cdef _GgufWriter get_idle(self):
        if self.handle is None:
            raise ArgumentError("the GGUF writer is closed")
        if self.handle.busy:
            self.handle.enter()
        return self.handle

    def set(self, key, kind, value):
        cdef nano_error err
        cdef bytes name = _name(key)
        cdef bint is_array = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
        cdef _GgufWriter handle = self.get_idle()
        cdef nano_gguf_kind c_kind = <nano_gguf_kind>_kind(key, kind)
        if kind == "string":
            self._set_str(handle, name, is_array, value if is_array else [value])
            return
        items = _flat(value if is_array else [value], np.dtype(kind))
        cdef _Input data = _Input(items)
        _check(nano_gguf_writer_set(handle.p, name, c_kind, is_array, data.view.buf, items.size, &err), &err)

    cdef int _set_str(self, _GgufWriter handle, bytes name, bint is_array, value) except -1:
        cdef nano_error err
        cdef list texts = [_text(item) for item in value]
        cdef size_t n = len(texts), i
        cdef nano_str *items = <nano_str *>PyMem_Malloc((n + 1) * sizeof(nano_str))
        cdef bytes text
        if items == NULL:
            raise MemoryError
        try:
            for i in range(n):
                text = texts[i]
                items[i].data = text
                items[i].size = len(text)
            return _check(nano_gguf_writer_set_str(handle.p, name, is_array, items, n, &err), &err)
        finally:
            PyMem_Free(items)

    def copy(self, Gguf gguf not None, key):
        cdef nano_error err
        cdef _GgufWriter handle = self.get_idle()
        _check(nano_gguf_writer_copy(handle.p, gguf.find(key), &err), &err)

    def add_tensor(self, name, shape, type):
        cdef nano_error err
        cdef int64_t ne[4]
        cdef bytes encoded = _name(name)
        cdef int n = _dims(shape, ne)
        cdef _GgufWriter handle = self.get_idle()
        _check(nano_gguf_writer_tensor(handle.p, encoded, _type(type), n, ne, &err), &err)

    def write(self, data):
        cdef nano_error err
        cdef nano_status status
        cdef _Input a = _Input(data)
        cdef _GgufWriter handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_gguf_writer_write(handle.p, a.view.buf, a.view.len, &err)
        handle.busy = False
        _check(status, &err)

    def finish(self):
        cdef nano_error err
        cdef nano_status status
        cdef _GgufWriter handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_gguf_writer_finish(handle.p, &err)
        handle.busy = False
        self.handle = None
        _check(status, &err)

    def abort(self):
        if self.handle is not None:
            self.get_idle()
            self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        if kind is None and self.handle is not None:
            self.finish()
        else:
            self.abort()


# --------------------------------------------------------- quantising files

FTYPE_COPY = NANO_FTYPE_COPY


def ftypes():
    cdef int32_t i = 0
    numbers = {}
    while nano_ftype_at(i) != -1:
        numbers[nano_ftype_name(nano_ftype_at(i)).decode("ascii")] = nano_ftype_at(i)
        i += 1
    return numbers


def ftype_from_name(name):
    cdef nano_ftype ftype = nano_ftype_from_name(_name(name))
    if ftype == -1:
        raise ArgumentError(f"unknown file type {name!r}, expected one of {', '.join(ftypes())} or a number of these")
    return ftype


cdef class _QuantizeJob:
    """What nano_quantize_file points at: the caller's functions, and everything that C reads while it runs."""

    cdef dict types
    cdef dict importance
    cdef object progress
    cdef object error
    cdef list held
    cdef nano_quantize_value *values
    cdef nano_str *strings

    def __dealloc__(self):
        PyMem_Free(self.values)
        PyMem_Free(self.strings)

    cdef int set_values(self, values) except -1:
        cdef Py_ssize_t i = 0, n_strings = sum([len(value[2]) for value in values if value[1] == "string"])
        cdef nano_str *string
        cdef _Input data
        cdef bytes text
        self.held = []
        self.values = <nano_quantize_value *>PyMem_Malloc((len(values) + 1) * sizeof(nano_quantize_value))
        self.strings = <nano_str *>PyMem_Malloc((n_strings + 1) * sizeof(nano_str))
        if self.values == NULL or self.strings == NULL:
            raise MemoryError
        string = self.strings
        for key, kind, items, is_array in values:
            text = _name(key)
            self.held.append(text)
            self.values[i].key = text
            self.values[i].kind = <nano_gguf_kind>_kind(key, kind)
            self.values[i].is_array = is_array
            self.values[i].n_items = len(items)
            if kind == "string":
                self.values[i].items = string
                for item in items:
                    text = _text(item)
                    self.held.append(text)
                    string.data = text
                    string.size = len(text)
                    string += 1
            else:
                data = _Input(_flat(items, np.dtype(kind)))
                self.held.append(data)
                self.values[i].items = data.view.buf
            i += 1
        return 0


cdef nano_type _choose(void *context, const char *name, nano_type proposed) noexcept with gil:
    return (<_QuantizeJob>context).types.get(<bytes>name, proposed)


cdef const float *_importance(void *context, const char *name, int64_t *n) noexcept with gil:
    cdef _Input data = (<_QuantizeJob>context).importance.get(<bytes>name)
    if data is None:
        return NULL
    n[0] = data.view.len // <Py_ssize_t>sizeof(float)
    return <const float *>data.view.buf


cdef c_bool _on_step(void *context, const nano_quantize_step *step) noexcept with gil:
    cdef _QuantizeJob job = <_QuantizeJob>context
    try:
        PyErr_CheckSignals()
        if job.progress is not None:
            job.progress(QuantizeStep(_info(step.tensor), _type_str(step.type), _type_str(step.wanted),
                                      step.has_importance, step.n_bytes, step.index, step.is_done, step.n_read))
    except BaseException as error:
        job.error = error
        return False
    return True


def quantize_file(Gguf gguf not None, out, ftype, *, n_threads=0, allow_requantize=False, pure=False,
                  leave_output=False, no_fallback=False, dry_run=False, output_type=None, token_embedding_type=None,
                  types=None, importance=None, values=(), progress=None):
    cdef nano_error err
    cdef nano_status status
    cdef nano_quantize_options options = nano_quantize_options_default()
    cdef _QuantizeJob job = _QuantizeJob()
    cdef _Gguf handle = gguf.handle
    cdef nano_gguf *file = gguf.get_p()
    cdef bytes path = b"" if out is None else _path(out)
    cdef const char *c_path = path
    job.types = {_name(name): _type(type) for name, type in (types or {}).items()}
    job.importance = {_name(name): _Input(_flat(x, _FLOAT32)) for name, x in (importance or {}).items()}
    job.progress = progress
    job.set_values(values)
    options.ftype = ftype
    options.n_threads = n_threads
    options.allow_requantize = allow_requantize
    options.pure = pure
    options.leave_output = leave_output
    options.no_fallback = no_fallback
    options.dry_run = dry_run
    options.output_type = -1 if output_type is None else _type(output_type)
    options.token_embedding_type = -1 if token_embedding_type is None else _type(token_embedding_type)
    options.context = <void *>job
    options.choose = _choose
    if importance is not None:
        options.importance = _importance
    options.progress = _on_step
    options.values = job.values
    options.n_values = len(values)
    with nogil:
        status = nano_quantize_file(file, c_path, &options, &err)
    if job.error is not None:
        raise job.error
    _check(status, &err)


# ------------------------------------------------------------------- graph

@cython.final
cdef class Graph:
    cdef nano_graph *p

    def __cinit__(self):
        cdef nano_error err
        _check(nano_graph_create(&self.p, &err), &err)

    def __dealloc__(self):
        nano_graph_free(self.p)

    @staticmethod
    def load(data):
        cdef nano_error err
        cdef nano_status status
        cdef nano_graph *p = NULL
        cdef _Input a = _Input(data)
        with nogil:
            status = nano_graph_load(a.view.buf, a.view.len, &p, &err)
        _check(status, &err)
        cdef Graph self = Graph()
        nano_graph_free(self.p)
        self.p = p
        return self

    def weight(self, name, shape):
        cdef nano_error err
        cdef int64_t ne[4]
        cdef int32_t out = -1
        cdef bytes encoded = _name(name)
        cdef int n = _dims(shape, ne)
        _check(nano_graph_weight(self.p, encoded, n, ne, &out, &err), &err)
        return out

    def input(self, kind):
        cdef nano_error err
        cdef int32_t out = -1
        if kind not in _INPUTS:
            raise ArgumentError(f"unknown input {kind!r}, expected one of {', '.join(_INPUTS)}")
        cdef int number = _INPUTS[kind]
        _check(nano_graph_input(self.p, <nano_input>number, &out, &err), &err)
        return out

    def cache(self, index, n_head_kv, head_dim):
        cdef nano_error err
        cdef int32_t out = -1
        _check(nano_graph_cache(self.p, index, n_head_kv, head_dim, &out, &err), &err)
        return out

    def op(self, name, src, ints=(), floats=()):
        cdef nano_error err
        cdef int32_t out = -1
        cdef int32_t c_src[NANO_MAX_SRC]
        cdef int64_t c_ints[NANO_MAX_INTS]
        cdef double c_floats[NANO_MAX_FLOATS]
        cdef bytes encoded = _name(name)
        if len(src) > NANO_MAX_SRC or len(ints) > NANO_MAX_INTS or len(floats) > NANO_MAX_FLOATS:
            raise ArgumentError(f"{name}: at most {NANO_MAX_SRC} sources, {NANO_MAX_INTS} integers and "
                                f"{NANO_MAX_FLOATS} floats")
        for i, tensor in enumerate(src):
            c_src[i] = -1 if tensor is None else tensor
        for i, number in enumerate(ints):
            c_ints[i] = number
        for i, number in enumerate(floats):
            c_floats[i] = number
        _check(nano_graph_op(self.p, encoded, len(src), c_src, len(ints), c_ints, len(floats), c_floats, &out, &err),
               &err)
        return out

    def set_output(self, tensor):
        cdef nano_error err
        _check(nano_graph_set_output(self.p, tensor, &err), &err)

    @property
    def n_tensors(self):
        return nano_graph_n_tensors(self.p)

    def shape(self, tensor):
        cdef nano_error err
        cdef int32_t n = 0
        cdef int64_t ne[4]
        _check(nano_graph_shape(self.p, tensor, &n, ne, &err), &err)
        return _shape(n, ne)

    def save(self):
        cdef nano_error err
        cdef size_t size = 0
        _check(nano_graph_save(self.p, NULL, 0, &size, &err), &err)
        data = bytearray(size)
        cdef _Input a = _Input(data, True)
        _check(nano_graph_save(self.p, a.view.buf, size, &size, &err), &err)
        return bytes(data)


# ------------------------------------------------------------- model, plan

cdef class _Model(_Handle):
    cdef nano_model *p
    cdef _Gguf gguf

    def __dealloc__(self):
        nano_model_free(self.p)


@cython.final
cdef class CoreModel:
    cdef _Model handle

    def __init__(self, Gguf gguf not None, program):
        cdef nano_error err
        cdef nano_status status
        cdef _Input a = _Input(program)
        cdef _Model handle = _Model()
        cdef nano_gguf *file = gguf.get_p()
        handle.gguf = gguf.handle
        with nogil:
            status = nano_model_create(file, a.view.buf, a.view.len, &handle.p, &err)
        _check(status, &err)
        self.handle = handle

    cdef _Model get_open(self):
        if self.handle is None:
            raise ArgumentError("the model is closed")
        return self.handle

    @property
    def n_vocab(self):
        return nano_model_n_vocab(self.get_open().p)

    @property
    def closed(self):
        return self.handle is None

    def close(self):
        self.handle = None


cdef object _limits_from_c(nano_limits c):
    return Limits(n_ctx=c.n_ctx, n_batch=c.n_batch, n_slots=c.n_slots, n_outputs=c.n_outputs, n_threads=c.n_threads,
                  type_k=_type_str(c.type_k), type_v=_type_str(c.type_v), deterministic=c.deterministic,
                  importance=c.importance)


cdef nano_limits _limits_to_c(limits) except *:
    cdef nano_limits c = nano_limits_default()
    if limits is not None:
        c.n_ctx = limits.n_ctx
        c.n_batch = limits.n_batch
        c.n_slots = limits.n_slots
        c.n_outputs = limits.n_outputs
        c.n_threads = limits.n_threads
        c.type_k = _type(limits.type_k)
        c.type_v = _type(limits.type_v)
        c.deterministic = limits.deterministic
        c.importance = limits.importance
    return c


def limits_default():
    return _limits_from_c(nano_limits_default())


cdef class _Plan(_Handle):
    cdef nano_plan *p
    cdef _Model model

    def __dealloc__(self):
        nano_plan_free(self.p)


@cython.final
cdef class Plan:
    cdef _Plan handle

    def __init__(self, CoreModel model not None, limits=None):
        cdef nano_error err
        cdef nano_status status
        cdef nano_limits c = _limits_to_c(limits)
        cdef _Plan handle = _Plan()
        handle.model = model.get_open()
        with nogil:
            status = nano_plan_create(handle.model.p, &c, &handle.p, &err)
        _check(status, &err)
        self.handle = handle

    cdef _Plan get_made(self):
        if self.handle is None:
            raise ArgumentError("the plan was never made")
        return self.handle

    @staticmethod
    def fit(CoreModel model not None, limits, budget):
        cdef nano_error err
        cdef nano_status status
        cdef nano_limits c = _limits_to_c(limits)
        cdef uint64_t c_budget = budget
        cdef int32_t n_ctx = 0
        cdef _Model handle = model.get_open()
        with nogil:
            status = nano_plan_fit(handle.p, &c, c_budget, &n_ctx, &err)
        _check(status, &err)
        return n_ctx

    @property
    def memory(self):
        cdef nano_memory m = nano_plan_memory(self.get_made().p)
        return Memory(weights=m.weights, cache=m.cache, activations=m.activations, outputs=m.outputs,
                      scratch=m.scratch, bookkeeping=m.bookkeeping, allocated=m.allocated, total=m.total)

    @property
    def limits(self):
        return _limits_from_c(nano_plan_limits(self.get_made().p))


# ----------------------------------------------------------------- session

cdef class _Session(_Handle):
    cdef nano_session *p
    cdef _Model model

    def __dealloc__(self):
        nano_session_free(self.p)


@cython.final
cdef class Session:
    cdef _Session handle

    def __init__(self, Plan plan not None):
        cdef nano_error err
        cdef nano_status status
        cdef _Session handle = _Session()
        cdef _Plan c_plan = plan.get_made()
        handle.model = c_plan.model
        with nogil:
            status = nano_session_create(c_plan.p, &handle.p, &err)
        _check(status, &err)
        self.handle = handle

    cdef _Session get_idle(self):
        if self.handle is None:
            raise ArgumentError("the session is closed")
        if self.handle.busy:
            self.handle.enter()
        return self.handle

    def eval(self, tokens, slots=None, wanted=None):
        cdef nano_error err
        cdef nano_status status
        cdef _Input c_tokens, c_slots, c_wanted
        cdef const int32_t *p_slots = NULL
        cdef const uint8_t *p_wanted = NULL
        ids = _flat(tokens, _INT32)
        cdef int32_t n = ids.size
        c_tokens = _Input(ids)
        if slots is not None:
            numbers = _flat(slots, _INT32)
            if numbers.size != n:
                raise ArgumentError(f"{n} tokens, but {numbers.size} slots")
            c_slots = _Input(numbers)
            p_slots = <const int32_t *>c_slots.view.buf
        if wanted is not None:
            flags = np.ascontiguousarray(wanted, dtype=np.bool_)
            if flags.shape != (n,):
                raise ArgumentError(f"{n} tokens, but wanted has shape {flags.shape}")
            c_wanted = _Input(flags)
            p_wanted = <const uint8_t *>c_wanted.view.buf
        cdef _Session handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_session_eval(handle.p, n, <const int32_t *>c_tokens.view.buf, p_slots, p_wanted, &err)
        handle.busy = False
        _check(status, &err)

    @property
    def logits(self):
        cdef int32_t n_rows = 0
        cdef _Session handle = self.get_idle()
        cdef float *data = nano_session_logits(handle.p, &n_rows)
        cdef _View view = _View()
        view.owner = handle
        view.data = data
        view.format = b"f"
        view.ndim = 2
        view.itemsize = sizeof(float)
        view.shape[0] = n_rows
        view.shape[1] = nano_model_n_vocab(handle.model.p)
        view.strides[1] = sizeof(float)
        view.strides[0] = view.shape[1] * view.strides[1]
        if data == NULL or n_rows == 0:
            return np.empty((0, view.shape[1]), dtype=np.float32)
        return np.asarray(view)

    @property
    def closed(self):
        return self.handle is None

    def n_past(self, slot=0):
        return nano_session_n_past(self.get_idle().p, slot)

    def truncate(self, slot, n_past):
        cdef nano_error err
        _check(nano_session_truncate(self.get_idle().p, slot, n_past, &err), &err)

    def copy_slot(self, source, target, n_past):
        cdef nano_error err
        cdef nano_status status
        cdef int32_t c_source = source, c_target = target, c_n_past = n_past
        cdef _Session handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_session_copy_slot(handle.p, c_source, c_target, c_n_past, &err)
        handle.busy = False
        _check(status, &err)

    def importance(self, weight):
        cdef nano_error err
        cdef const double *sums = NULL
        cdef int64_t n = 0, n_rows = 0
        cdef bytes name = _name(weight)
        cdef _Session handle = self.get_idle()
        _check(nano_session_importance(handle.p, name, &sums, &n, &n_rows, &err), &err)
        cdef _View view = _View()
        view.owner = handle
        view.data = <void *>sums
        view.format = b"d"
        view.readonly = True
        view.ndim = 1
        view.itemsize = view.strides[0] = sizeof(double)
        view.shape[0] = n
        return np.array(view), n_rows

    def cancel(self):
        if self.handle is not None:
            nano_session_cancel(self.handle.p)

    def close(self):
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        self.close()


# --------------------------------------------------------------- tokenizer

cdef object _id_or_none(int32_t id):
    return None if id < 0 else id


@cython.final
cdef class Tokenizer:
    cdef nano_tokenizer *p

    def __cinit__(self, Gguf gguf not None):
        cdef nano_error err
        cdef nano_status status
        cdef _Gguf handle
        cdef nano_gguf *file = gguf.get_p()
        handle = gguf.handle
        with nogil:
            status = nano_tokenizer_create(file, &self.p, &err)
        _check(status, &err)

    def __init__(self, gguf):
        pass

    def __dealloc__(self):
        nano_tokenizer_free(self.p)

    @property
    def n_tokens(self):
        return nano_tokenizer_n_tokens(self.p)

    @property
    def bos(self):
        return _id_or_none(nano_tokenizer_bos(self.p))

    @property
    def eos(self):
        return _id_or_none(nano_tokenizer_eos(self.p))

    @property
    def eot(self):
        return _id_or_none(nano_tokenizer_eot(self.p))

    @property
    def adds_bos(self):
        return bool(nano_tokenizer_adds_bos(self.p))

    @property
    def adds_eos(self):
        return bool(nano_tokenizer_adds_eos(self.p))

    def is_end(self, id):
        return bool(nano_tokenizer_is_end(self.p, id))

    def is_special(self, id):
        return bool(nano_tokenizer_is_special(self.p, id))

    def spelling(self, id):
        cdef nano_str text = nano_tokenizer_spelling(self.p, id)
        if text.size == 0:
            raise ArgumentError(f"token {id} is out of range: the vocabulary has {self.n_tokens}")
        return _str(text.data, text.size)

    def find(self, spelling):
        cdef bytes text = _text(spelling)
        return _id_or_none(nano_tokenizer_find(self.p, text, len(text)))

    def encode(self, text, add_special=True, parse_special=False):
        cdef nano_error err
        cdef nano_status status
        cdef bytes data = _text(text)
        cdef const char *c_data = data
        cdef size_t size = len(data), n = 0, i
        cdef size_t scratch_size = nano_tokenizer_scratch(self.p, size)
        cdef size_t capacity = nano_tokenizer_max_ids(self.p, size)
        cdef bint c_add = add_special, c_parse = parse_special
        cdef void *scratch = PyMem_Malloc(scratch_size + 1)
        cdef int32_t *ids = <int32_t *>PyMem_Malloc((capacity + 1) * sizeof(int32_t))
        try:
            if scratch == NULL or ids == NULL:
                raise MemoryError
            with nogil:
                status = nano_tokenizer_encode(self.p, c_data, size, c_add, c_parse, scratch, scratch_size, ids,
                                               capacity, &n, &err)
            _check(status, &err)
            return [ids[i] for i in range(n)]
        finally:
            PyMem_Free(scratch)
            PyMem_Free(ids)

    def decode(self, ids, show_special=False):
        cdef Decoder decoder = Decoder(self, show_special)
        pieces = [decoder.push(id) for id in ids]
        pieces.append(decoder.flush())
        return "".join(pieces)

    def decoder(self, show_special=False):
        return Decoder(self, show_special)


@cython.final
cdef class Decoder:
    cdef Tokenizer tokenizer
    cdef nano_decoder decoder
    cdef char *out
    cdef size_t capacity

    def __cinit__(self, Tokenizer tokenizer not None, show_special=False):
        self.tokenizer = tokenizer
        self.capacity = nano_decoder_max_bytes(tokenizer.p)
        self.out = <char *>PyMem_Malloc(self.capacity + 1)
        if self.out == NULL:
            raise MemoryError
        nano_decoder_init(&self.decoder, tokenizer.p, show_special)

    def __init__(self, tokenizer, show_special=False):
        pass

    def __dealloc__(self):
        PyMem_Free(self.out)

    def push(self, id):
        cdef nano_error err
        cdef size_t n = 0
        _check(nano_decoder_push(&self.decoder, self.tokenizer.p, id, self.out, self.capacity, &n, &err), &err)
        return _str(self.out, n)

    def flush(self):
        return _str(self.out, nano_decoder_flush(&self.decoder, self.out, self.capacity))


# ----------------------------------------------------------------- sampler

cdef double _short(float x):
    """The double that reads as the float does: 0.8, not 0.800000011920929."""
    return float(str(np.float32(x)))


def sampler_params_default():
    cdef nano_sampler_params c = nano_sampler_params_default()
    return SamplerParams(
        seed=c.seed, temperature=_short(c.temperature), top_k=c.top_k, top_p=_short(c.top_p), min_p=_short(c.min_p),
        typical_p=_short(c.typical_p), repeat_penalty=_short(c.repeat_penalty),
        presence_penalty=_short(c.presence_penalty), frequency_penalty=_short(c.frequency_penalty),
        penalty_last_n=c.penalty_last_n, max_last_n=c.max_last_n, mirostat=c.mirostat,
        mirostat_tau=_short(c.mirostat_tau), mirostat_eta=_short(c.mirostat_eta), min_keep=c.min_keep,
    )


cdef class _Sampler(_Handle):
    cdef nano_sampler *p

    def __dealloc__(self):
        nano_sampler_free(self.p)


@cython.final
cdef class Sampler:
    cdef _Sampler handle
    cdef int32_t n_vocab

    def __init__(self, n_vocab, params=None):
        cdef nano_error err
        cdef nano_sampler_params c = nano_sampler_params_default()
        cdef _Sampler handle = _Sampler()
        cdef _Input ids, values
        if params is not None:
            c.seed = params.seed
            c.temperature = params.temperature
            c.top_k = params.top_k
            c.top_p = params.top_p
            c.min_p = params.min_p
            c.typical_p = params.typical_p
            c.repeat_penalty = params.repeat_penalty
            c.presence_penalty = params.presence_penalty
            c.frequency_penalty = params.frequency_penalty
            c.penalty_last_n = params.penalty_last_n
            c.max_last_n = params.max_last_n
            c.mirostat = params.mirostat
            c.mirostat_tau = params.mirostat_tau
            c.mirostat_eta = params.mirostat_eta
            c.min_keep = params.min_keep
            ids = _Input(_flat([id for id, _ in params.logit_bias], _INT32))
            values = _Input(_flat([value for _, value in params.logit_bias], _FLOAT32))
            c.bias_ids = <const int32_t *>ids.view.buf
            c.bias_values = <const float *>values.view.buf
            c.n_bias = len(params.logit_bias)
        self.n_vocab = n_vocab
        _check(nano_sampler_create(&c, self.n_vocab, &handle.p, &err), &err)
        self.handle = handle

    cdef _Sampler get_idle(self):
        if self.handle is None:
            raise ArgumentError("the sampler was never made")
        if self.handle.busy:
            self.handle.enter()
        return self.handle

    def sample(self, logits):
        cdef nano_error err
        cdef nano_status status
        cdef int32_t id = -1
        row = _flat(logits, _FLOAT32)
        if row.size != self.n_vocab:
            raise ArgumentError(f"expected {self.n_vocab} logits, found {row.size}")
        cdef _Input a = _Input(row)
        cdef _Sampler handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_sampler_sample(handle.p, <const float *>a.view.buf, &id, &err)
        handle.busy = False
        _check(status, &err)
        return id

    def accept(self, id):
        nano_sampler_accept(self.get_idle().p, id)

    def reset(self, seed):
        nano_sampler_reset(self.get_idle().p, seed)

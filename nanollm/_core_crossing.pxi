# Part of _core.pyx. How values and errors cross: checks, handles, buffers, views.

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


cdef class _NumPy:
    """NumPy, imported where it is first needed: half of the time to a first token would be its import."""

    def __getattr__(self, name):
        import numpy
        return getattr(numpy, name)


cdef object np = _NumPy()


cdef object _vector(_Handle owner, void *data, Py_ssize_t n, bint is_float):
    """n floats, or bytes, of the core's memory as an array that keeps `owner` alive."""
    cdef _View view = _View()
    view.owner = owner
    view.data = data
    view.format = b"f" if is_float else b"B"
    view.ndim = 1
    view.itemsize = view.strides[0] = sizeof(float) if is_float else 1
    view.shape[0] = n
    return np.asarray(view) if n > 0 else np.empty(0, dtype=np.float32 if is_float else np.uint8)


cdef int32_t _int32(str name, value) except? -1:
    try:
        return value
    except OverflowError:
        raise ArgumentError(f"{name}: {value}, expected a number of 32 bits") from None


cdef bytes _name(text):
    if isinstance(text, int):
        raise TypeError(f"expected a name, found {text}")  # bytes() would make so many zeros of it
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


cdef object _exact(value, str dtype):
    """`value` as a contiguous array of `dtype`; ArgumentError where a number would change (floats may round)."""
    found = np.asarray(value)
    wanted = np.dtype(dtype)
    if found.dtype == wanted:
        return np.ascontiguousarray(found)
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[wanted.kind]
    if found.size and found.dtype.kind not in kinds:
        raise ArgumentError(f"expected {wanted} values, found {found.dtype}")
    converted = np.ascontiguousarray(found, dtype=wanted)
    if wanted.kind in "iu" and not np.array_equal(found, converted):
        raise ArgumentError(f"a value is out of the range of {wanted}")
    return converted


cdef object _flat(value, str dtype):
    found = _exact(value, dtype)
    if found.ndim != 1:
        raise ArgumentError(f"expected one dimension, found shape {found.shape}")
    return found


cdef object _ints(value):
    """`value` as a buffer of int32 in one dimension; lists of numbers, the usual case, do without NumPy."""
    if isinstance(value, array) and value.typecode == "i":
        return value
    if isinstance(value, list):
        try:
            return array("i", value)
        except (TypeError, OverflowError):
            pass  # NumPy's types, or a mistake that _flat puts into words
    return _flat(value, "int32")


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

# Part of _core.pyx. Tensor types; the machine.

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
        columns = _flat(importance, "float32")
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

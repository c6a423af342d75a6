# Part of _core.pyx. GGUF files: reading, writing, quantising.

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
    if value.kind != NANO_GGUF_ARRAY:
        number = memoryview(raw).cast(_FORMATS[value.item_kind])[0]
        return number != 0 if value.item_kind == NANO_GGUF_BOOL else number
    if value.item_kind == NANO_GGUF_BOOL:
        return np.frombuffer(raw, dtype=np.uint8) != 0
    return np.frombuffer(raw, dtype=_KINDS[value.item_kind])


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
        items = _flat(value if is_array else [value], kind)
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
                data = _Input(_flat(items, kind))
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
    job.importance = {_name(name): _Input(_flat(x, "float32")) for name, x in (importance or {}).items()}
    job.progress = progress
    job.set_values(values)
    options.ftype = ftype
    options.n_threads = _int32("n_threads", n_threads)
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

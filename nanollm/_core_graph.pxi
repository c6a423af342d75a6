# Part of _core.pyx. Graphs, models, plans.

# ------------------------------------------------------------------- graph

def program_version(data):
    cdef nano_error err
    cdef uint64_t version = 0
    cdef _Input a = _Input(data)
    _check(nano_program_version(a.view.buf, a.view.len, &version, &err), &err)
    return version


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

    def weight(self, name, shape, file=0):
        cdef nano_error err
        cdef int64_t ne[4]
        cdef int32_t out = -1
        cdef bytes encoded = _name(name)
        cdef int n = _dims(shape, ne)
        _check(nano_graph_weight_of(self.p, file, encoded, n, ne, &out, &err), &err)
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

    def loss(self):
        cdef nano_error err
        cdef int32_t out = -1
        _check(nano_graph_loss(self.p, &out, &err), &err)
        return out

    def find_weight(self, name, file=0):
        cdef bytes encoded = _name(name)
        cdef int32_t out = nano_graph_find_weight(self.p, file, encoded)
        return None if out < 0 else out

    def backward(self, loss, params, recompute=False):
        cdef nano_error err
        cdef nano_status status
        cdef int32_t c_loss = loss
        cdef bint c_recompute = recompute
        numbers = array("i", params)
        cdef _Input a = _Input(numbers)
        cdef int32_t n = len(numbers)
        with nogil:
            status = nano_graph_backward(self.p, c_loss, n, <const int32_t *>a.view.buf, c_recompute, &err)
        _check(status, &err)

    def adapt(self, Gguf adapter, file=1, scale=1.0):
        cdef nano_error err
        cdef nano_status status
        cdef nano_graph *p = NULL
        cdef const nano_gguf *c_adapter = NULL if adapter is None else adapter.get_p()
        cdef int32_t c_file = file
        cdef float c_scale = scale
        with nogil:
            status = nano_graph_adapt(self.p, c_adapter, c_file, c_scale, &p, &err)
        _check(status, &err)
        cdef Graph out = Graph()
        nano_graph_free(out.p)
        out.p = p
        return out

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


def adapter_check(Gguf adapter not None, Gguf model=None):
    cdef nano_error err
    cdef const nano_gguf *c_model = NULL if model is None else model.get_p()
    _check(nano_adapter_check(adapter.get_p(), c_model, &err), &err)


# ------------------------------------------------------------- model, plan

cdef class _Model(_Handle):
    cdef nano_model *p
    cdef list files

    def __dealloc__(self):
        nano_model_free(self.p)


@cython.final
cdef class CoreModel:
    cdef _Model handle

    def __init__(self, files, program):
        cdef nano_error err
        cdef nano_status status
        cdef _Input a = _Input(program)
        cdef _Model handle = _Model()
        cdef Gguf gguf
        cdef int32_t i, n
        if isinstance(files, Gguf):
            files = (files,)
        n = len(files)
        cdef const nano_gguf **c_files = <const nano_gguf **>PyMem_Malloc(max(n, 1) * sizeof(nano_gguf *))
        if c_files == NULL:
            raise MemoryError
        try:
            handle.files = []
            for i in range(n):
                gguf = files[i]
                if gguf is None:
                    raise TypeError("expected a Gguf, found None")
                c_files[i] = gguf.get_p()
                handle.files.append(gguf.handle)
            with nogil:
                status = nano_model_create_with(c_files, n, a.view.buf, a.view.len, &handle.p, &err)
        finally:
            PyMem_Free(c_files)
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
    mask = sum(int(c.cpu_mask[i]) << (64 * i) for i in range(4))
    return Limits(n_ctx=c.n_ctx, n_batch=c.n_batch, n_slots=c.n_slots, n_outputs=c.n_outputs, n_threads=c.n_threads,
                  n_threads_batch=c.n_threads_batch, cpu_mask=mask, poll=c.poll,
                  type_k=_type_str(c.type_k), type_v=_type_str(c.type_v), deterministic=c.deterministic,
                  importance=c.importance, optimizer=_OPTIMIZERS[<int>c.optimizer], history=c.history,
                  n_gpu_layers=c.n_gpu_layers, device=c.device)


cdef nano_limits _limits_to_c(limits) except *:
    cdef nano_limits c = nano_limits_default()
    cdef int number
    if limits is not None:
        c.n_ctx = _int32("limits: n_ctx", limits.n_ctx)
        c.n_batch = _int32("limits: n_batch", limits.n_batch)
        c.n_slots = _int32("limits: n_slots", limits.n_slots)
        c.n_outputs = _int32("limits: n_outputs", limits.n_outputs)
        c.n_threads = _int32("limits: n_threads", limits.n_threads)
        c.n_threads_batch = _int32("limits: n_threads_batch", limits.n_threads_batch)
        if not 0 <= limits.cpu_mask < 1 << 256:
            raise ArgumentError(f"limits: cpu_mask {limits.cpu_mask:#x}, expected CPUs 0 to 255")
        for i in range(4):
            c.cpu_mask[i] = (limits.cpu_mask >> (64 * i)) & 0xffffffffffffffff
        c.poll = _int32("limits: poll", limits.poll)
        c.type_k = _type(limits.type_k)
        c.type_v = _type(limits.type_v)
        c.deterministic = limits.deterministic
        c.importance = limits.importance
        if limits.optimizer not in _OPTIMIZERS:
            raise ArgumentError(f"limits: unknown optimizer {limits.optimizer!r}, expected one of "
                                f"{', '.join(_OPTIMIZERS)}")
        number = _OPTIMIZERS.index(limits.optimizer)
        c.optimizer = <nano_optimizer>number
        c.history = _int32("limits: history", limits.history)
        c.n_gpu_layers = _int32("limits: n_gpu_layers", limits.n_gpu_layers)
        c.device = _int32("limits: device", limits.device)
    return c


def limits_default():
    return _limits_from_c(nano_limits_default())


def device_count():
    cdef int32_t n
    with nogil:
        n = nano_device_count()
    return n


def device(i):
    cdef nano_error err
    cdef nano_status status
    cdef nano_device d
    cdef int32_t c_i = _int32("device", i)
    with nogil:
        status = nano_device_at(c_i, &d, &err)
    _check(status, &err)
    return Device(name=d.name.decode("utf-8", "replace"), image=d.image.decode("utf-8", "replace"),
                  compute_capability=d.compute_capability, shares_memory=d.shares_memory,
                  memory_available=d.memory_available, memory_total=d.memory_total)


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
                      scratch=m.scratch, parameters=m.parameters, gradients=m.gradients, optimizer=m.optimizer,
                      bookkeeping=m.bookkeeping, allocated=m.allocated, total=m.total, device=m.device,
                      device_weights=m.device_weights, device_cache=m.device_cache)

    @property
    def limits(self):
        return _limits_from_c(nano_plan_limits(self.get_made().p))

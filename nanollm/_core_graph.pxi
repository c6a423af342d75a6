# Part of _core.pyx. Graphs, models, plans, sessions.

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
    mask = sum(int(c.cpu_mask[i]) << (64 * i) for i in range(4))
    return Limits(n_ctx=c.n_ctx, n_batch=c.n_batch, n_slots=c.n_slots, n_outputs=c.n_outputs, n_threads=c.n_threads,
                  n_threads_batch=c.n_threads_batch, cpu_mask=mask, poll=c.poll,
                  type_k=_type_str(c.type_k), type_v=_type_str(c.type_v), deterministic=c.deterministic,
                  importance=c.importance)


cdef nano_limits _limits_to_c(limits) except *:
    cdef nano_limits c = nano_limits_default()
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
        ids = _ints(tokens)
        cdef int32_t n = len(ids)
        c_tokens = _Input(ids)
        if slots is not None:
            numbers = _ints(slots)
            if len(numbers) != n:
                raise ArgumentError(f"{n} tokens, but {len(numbers)} slots")
            c_slots = _Input(numbers)
            p_slots = <const int32_t *>c_slots.view.buf
        if wanted is not None:
            flags = bytes([bool(flag) for flag in wanted])
            if len(flags) != n:
                raise ArgumentError(f"{n} tokens, but {len(flags)} wanted")
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

    def save(self, path, tokens, slot=0):
        cdef nano_error err
        cdef nano_status status
        cdef bytes name = _path(path)
        cdef const char *c_name = name
        ids = _ints(tokens)
        cdef _Input c_tokens = _Input(ids)
        cdef int32_t n = len(ids), c_slot = slot
        cdef _Session handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_session_save(handle.p, c_slot, <const int32_t *>c_tokens.view.buf, n, c_name, &err)
        handle.busy = False
        _check(status, &err)

    def load(self, path, capacity, slot=0):
        cdef nano_error err
        cdef nano_status status
        cdef bytes name = _path(path)
        cdef const char *c_name = name
        ids = array("i", bytes(4 * max(capacity, 0)))
        cdef _Input c_tokens = _Input(ids, True)
        cdef int32_t n = 0, c_slot = slot, c_capacity = capacity
        cdef _Session handle = self.get_idle()
        handle.enter()
        with nogil:
            status = nano_session_load(
                handle.p, c_slot, c_name, <int32_t *>c_tokens.view.buf, c_capacity, &n, &err)
        handle.busy = False
        _check(status, &err)
        return ids[:n].tolist()

    def cancel(self):
        if self.handle is not None:
            nano_session_cancel(self.handle.p)

    def close(self):
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        self.close()

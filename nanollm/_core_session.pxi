# Part of _core.pyx. Sessions: steps, slots, training.

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

    # -- training

    @property
    def params(self):
        cdef nano_error err
        cdef nano_param p
        cdef _Session handle = self.get_idle()
        cdef int32_t i
        out = []
        for i in range(nano_session_n_params(handle.p)):
            _check(nano_session_param(handle.p, i, &p, &err), &err)
            shape = _shape(p.n_dims, p.ne)
            out.append(Param(name=p.name.decode("utf-8", "replace"), file=p.file, type=_type_str(p.type), offset=p.offset,
                             value=_vector(handle, p.value, p.n, True).reshape(shape),
                             gradient=_vector(handle, p.gradient, p.n, True).reshape(shape)))
        return out

    def flat(self):
        cdef int64_t n = 0
        cdef float *values = NULL
        cdef float *gradients = NULL
        cdef void *state = NULL
        cdef size_t state_bytes = 0
        cdef _Session handle = self.get_idle()
        nano_session_flat(handle.p, &n, &values, &gradients, &state, &state_bytes)
        return (_vector(handle, values, n, True), _vector(handle, gradients, n, True),
                _vector(handle, state, state_bytes, False))

    cdef double batch(self, tokens, slots, targets, weights, bint backward) except *:
        cdef nano_error err
        cdef nano_status status
        cdef _Input c_tokens, c_slots, c_targets, c_weights
        cdef const int32_t *p_slots = NULL
        cdef const float *p_weights = NULL
        cdef double loss = 0
        ids, wanted = _ints(tokens), _ints(targets)
        cdef int32_t n = len(ids)
        if len(wanted) != n:
            raise ArgumentError(f"{n} tokens, but {len(wanted)} targets")
        c_tokens, c_targets = _Input(ids), _Input(wanted)
        if slots is not None:
            numbers = _ints(slots)
            if len(numbers) != n:
                raise ArgumentError(f"{n} tokens, but {len(numbers)} slots")
            c_slots = _Input(numbers)
            p_slots = <const int32_t *>c_slots.view.buf
        if weights is not None:
            factors = _flat(weights, "float32")
            if len(factors) != n:
                raise ArgumentError(f"{n} tokens, but {len(factors)} weights")
            c_weights = _Input(factors)
            p_weights = <const float *>c_weights.view.buf
        cdef _Session handle = self.get_idle()
        handle.enter()
        with nogil:
            status = (nano_session_gradient if backward else nano_session_loss)(
                handle.p, n, <const int32_t *>c_tokens.view.buf, p_slots, <const int32_t *>c_targets.view.buf,
                p_weights, &loss, &err)
        handle.busy = False
        _check(status, &err)
        return loss

    def gradient(self, tokens, slots, targets, weights=None):
        return self.batch(tokens, slots, targets, weights, True)

    def loss(self, tokens, slots, targets, weights=None):
        return self.batch(tokens, slots, targets, weights, False)

    def zero_gradients(self):
        nano_session_zero_gradients(self.get_idle().p)

    def cancel(self):
        if self.handle is not None:
            nano_session_cancel(self.handle.p)

    def close(self):
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        self.close()

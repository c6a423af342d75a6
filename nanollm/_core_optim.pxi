# Part of _core.pyx. Optimisers over vectors of the caller's, which are NumPy's arrays.

cdef dict _SCHEDULES = {
    "constant": NANO_SCHEDULE_CONSTANT, "linear": NANO_SCHEDULE_LINEAR, "cosine": NANO_SCHEDULE_COSINE,
}
cdef dict _LINE_SEARCHES = {"wolfe": NANO_LINE_SEARCH_WOLFE, "backtracking": NANO_LINE_SEARCH_BACKTRACKING}
# By nano_lbfgs_reason.
cdef tuple _REASONS = (
    "gradient", "decrease", "iterations", "evaluations", "line search", "not finite", "cancelled", "failed",
)


cdef int _number_of(dict numbers, str what, name) except -1:
    if name not in numbers:
        raise ArgumentError(f"{what}: found {name!r}, expected one of {', '.join(numbers)}")
    return numbers[name]


cdef _Input _in_place(str what, x, str dtype, bint writable):
    """The memory of an array, which is not converted: `what` says whose in messages."""
    if not isinstance(x, np.ndarray) or x.dtype != np.dtype(dtype) or not x.flags.c_contiguous:
        found = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ArgumentError(f"{what}: found {found}, expected a contiguous array of {dtype}")
    if writable and not x.flags.writeable:
        raise ArgumentError(f"{what}: the array cannot be written to")
    return _Input(x, writable)


# -------------------------------------------------------------------- ADAM

@cython.final
cdef class Adam:
    cdef nano_adam options
    cdef nano_adam_span *spans
    cdef int32_t n
    cdef list held
    cdef bint busy

    def __init__(self, spans, *, double beta1=0.9, double beta2=0.999, double eps=1e-8, double max_norm=0.0,
                 bint decoupled=True):
        cdef int32_t i = 0
        if self.spans != NULL:
            raise ArgumentError("adam: made already")
        self.options.beta1 = beta1
        self.options.beta2 = beta2
        self.options.eps = eps
        self.options.max_norm = max_norm
        self.options.decoupled = decoupled
        self.held = []
        self.spans = <nano_adam_span *>PyMem_Malloc((len(spans) + 1) * sizeof(nano_adam_span))
        if self.spans == NULL:
            raise MemoryError
        for value, gradient, m, v in spans:
            what = f"adam: span {i}"
            self.spans[i].value = <float *>self.hold(what, value, True)
            self.spans[i].gradient = <const float *>self.hold(what, gradient, False)
            self.spans[i].m = <float *>self.hold(what, m, True)
            self.spans[i].v = <float *>self.hold(what, v, True)
            self.spans[i].n = value.size
            if not value.shape == gradient.shape == m.shape == v.shape:
                raise ArgumentError(f"{what}: found shapes {value.shape}, {gradient.shape}, {m.shape} and {v.shape}, "
                                    "expected one")
            i += 1
        self.n = i

    cdef void *hold(self, str what, x, bint writable) except NULL:
        cdef _Input data = _in_place(what, x, "float32", writable)
        self.held.append(data)
        return data.view.buf

    def __dealloc__(self):
        PyMem_Free(self.spans)

    def step(self, step, rates, decays):
        cdef nano_error err
        cdef nano_status status
        cdef int64_t number = step
        cdef double norm = 0.0
        cdef int32_t i
        if self.busy:
            raise ArgumentError("this object is in use by another thread")
        if len(rates) != self.n or len(decays) != self.n:
            raise ArgumentError(f"adam: {self.n} spans, but {len(rates)} rates and {len(decays)} decays")
        for i in range(self.n):
            self.spans[i].rate = rates[i]
            self.spans[i].decay = decays[i]
        self.busy = True
        with nogil:
            status = nano_adam_step(&self.options, number, self.n, self.spans, &norm, &err)
        self.busy = False
        _check(status, &err)
        return norm


def schedule(kind, step, n_warm, n_steps, double floor=0.0):
    cdef int number = _number_of(_SCHEDULES, "schedule", kind)
    return nano_schedule(<nano_schedule_kind>number, step, n_warm, n_steps, floor)


# ------------------------------------------------------------------ L-BFGS

cdef class _LbfgsJob:
    """What nano_lbfgs points at: the caller's functions and arrays, and the exception that ended it."""

    cdef object fun
    cdef object x
    cdef object gradient
    cdef object progress
    cdef object error


cdef nano_status _objective(void *context, const double *x, double *f, double *g, nano_error *err) noexcept with gil:
    cdef _LbfgsJob job = <_LbfgsJob>context
    cdef _Input data
    try:
        PyErr_CheckSignals()
        value, gradient = job.fun(job.x)
        found = _exact(gradient, "float64")
        if found.shape != job.x.shape:
            raise ArgumentError(f"lbfgs: found a gradient of shape {found.shape}, expected {job.x.shape}")
        f[0] = value
        data = _Input(found)
        memcpy(g, data.view.buf, data.view.len)
    except BaseException as error:
        job.error = error
        return NANO_ERR_CANCELLED
    return NANO_OK


cdef nano_status _flat_objective(void *context, double *f, nano_error *err) noexcept with gil:
    cdef _LbfgsJob job = <_LbfgsJob>context
    try:
        PyErr_CheckSignals()
        f[0] = job.fun()
    except BaseException as error:
        job.error = error
        return NANO_ERR_CANCELLED
    return NANO_OK


cdef c_bool _on_iteration(void *context, const double *x, const nano_lbfgs_result *now) noexcept with gil:
    cdef _LbfgsJob job = <_LbfgsJob>context
    try:
        return job.progress(now.iterations, now.evaluations, now.f, now.gradient) is not False
    except BaseException as error:
        job.error = error
    return False


cdef nano_lbfgs_options _lbfgs_options(_LbfgsJob job, options) except *:
    cdef nano_lbfgs_options c = nano_lbfgs_options_default()
    cdef int number
    for name, value in options.items():
        if name == "history":
            c.history = _int32("lbfgs: history", value)
        elif name == "max_iterations":
            c.max_iterations = _int32("lbfgs: max_iterations", value)
        elif name == "max_evaluations":
            c.max_evaluations = _int32("lbfgs: max_evaluations", value)
        elif name == "gradient_tolerance":
            c.gradient_tolerance = value
        elif name == "f_tolerance":
            c.f_tolerance = value
        elif name == "line_search":
            number = _number_of(_LINE_SEARCHES, "lbfgs: line search", value)
            c.line_search = <nano_line_search>number
        elif name == "decrease":
            c.decrease = value
        elif name == "curvature":
            c.curvature = value
        elif name == "max_line_steps":
            c.max_line_steps = _int32("lbfgs: max_line_steps", value)
        else:
            raise TypeError(f"lbfgs: unknown option {name!r}")
    if job.progress is not None:
        c.progress = _on_iteration
        c.progress_context = <void *>job
    return c


cdef tuple _lbfgs_result(_LbfgsJob job, nano_status status, nano_lbfgs_result *r, nano_error *err):
    if job.error is not None:
        raise job.error
    _check(status, err)
    return _REASONS[<int>r.reason], r.iterations, r.evaluations, r.f, r.gradient


def lbfgs_reason_text(reason):
    return nano_lbfgs_reason_text(<nano_lbfgs_reason><int>_REASONS.index(reason)).decode("ascii")


def lbfgs_flat_bytes(n, history):
    return nano_lbfgs_flat_bytes(n, _int32("lbfgs: history", history))


def lbfgs(fun, x, *, progress=None, **options):
    cdef nano_error err
    cdef nano_status status
    cdef nano_lbfgs_result result
    cdef _LbfgsJob job = _LbfgsJob()
    cdef _Input c_x = _in_place("lbfgs: x", x, "float64", True), work
    cdef int64_t n = x.size
    job.fun = fun
    job.progress = progress
    cdef nano_lbfgs_options c = _lbfgs_options(job, options)
    job.x = x.view()
    job.x.flags.writeable = False
    work = _Input(np.empty(nano_lbfgs_bytes(n, c.history) // sizeof(double) + 1), True)
    with nogil:
        status = nano_lbfgs(&c, n, <double *>c_x.view.buf, _objective, <void *>job, work.view.buf, &result, &err)
    return _lbfgs_result(job, status, &result, &err)


def lbfgs_flat(fun, values, gradients, work, *, progress=None, **options):
    cdef nano_error err
    cdef nano_status status
    cdef nano_lbfgs_result result
    cdef _LbfgsJob job = _LbfgsJob()
    cdef _Input c_values = _in_place("lbfgs: values", values, "float32", True)
    cdef _Input c_gradients = _in_place("lbfgs: gradients", gradients, "float32", False)
    cdef _Input c_work = _Input(work, True)
    cdef int64_t n = values.size
    if values.shape != gradients.shape:
        raise ArgumentError(f"lbfgs: found values {values.shape} and gradients {gradients.shape}, expected one shape")
    job.fun = fun
    job.progress = progress
    cdef nano_lbfgs_options c = _lbfgs_options(job, options)
    cdef size_t needed = nano_lbfgs_flat_bytes(n, c.history)
    if <size_t>c_work.view.len < needed or <size_t>c_work.view.buf % sizeof(double) != 0:
        raise ArgumentError(f"lbfgs: found {c_work.view.len} bytes of work memory, expected {needed} for {n} parameters "
                            f"with history {c.history}, aligned to {sizeof(double)}")
    with nogil:
        status = nano_lbfgs_flat(&c, n, <float *>c_values.view.buf, <const float *>c_gradients.view.buf,
                                 _flat_objective, <void *>job, c_work.view.buf, &result, &err)
    return _lbfgs_result(job, status, &result, &err)

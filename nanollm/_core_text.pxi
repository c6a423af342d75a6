# Part of _core.pyx. Tokenizers, samplers.

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


# -------------------------------------------------------------------- chat

@cython.final
cdef class Chat:
    cdef nano_chat *p

    def __cinit__(self, Gguf gguf, Tokenizer tokenizer=None, name=None):
        cdef nano_error err
        cdef bytes encoded
        cdef const char *c_name = NULL
        cdef const nano_gguf *c_gguf = NULL
        cdef const nano_tokenizer *c_tokenizer = NULL
        if name is None and gguf is None or name is not None and tokenizer is None:
            raise ArgumentError("chat: expected a file, or a tokenizer and a name")
        if name is not None:
            encoded = _name(name)
            c_name = encoded
        if gguf is not None:
            c_gguf = gguf.get_p()
        if tokenizer is not None:
            c_tokenizer = tokenizer.p
        _check(nano_chat_create(c_gguf, c_tokenizer, c_name, &self.p, &err), &err)

    def __init__(self, gguf, tokenizer=None, name=None):
        pass

    def __dealloc__(self):
        nano_chat_free(self.p)

    @staticmethod
    def names():
        names, i = [], 0
        while nano_chat_name_at(i) != NULL:
            names.append(nano_chat_name_at(i).decode("ascii"))
            i += 1
        return names

    def turn(self, user, system=None, is_first=True):
        cdef nano_error err
        cdef bytes c_user = _text(user), c_system = b"" if system is None else _text(system)
        cdef nano_str user_str, system_str
        cdef size_t n = 0
        user_str.data, user_str.size = c_user, len(c_user)
        system_str.data, system_str.size = c_system, len(c_system)
        cdef const nano_str *given = NULL
        if system is not None:
            given = &system_str
        _check(nano_chat_turn(self.p, is_first, given, user_str, NULL, 0, &n, &err), &err)
        cdef bytearray out = bytearray(n)
        _check(nano_chat_turn(self.p, is_first, given, user_str, out, n, &n, &err), &err)
        return out.decode("utf-8", "replace")


# ----------------------------------------------------------------- sampler

def lookup_draft(tokens, max_draft):
    ids = _ints(tokens)
    draft = array("i", bytes(4 * max(max_draft, 0)))
    cdef _Input a = _Input(ids), b = _Input(draft, True)
    cdef int32_t n = nano_lookup_draft(<const int32_t *>a.view.buf, len(ids), <int32_t *>b.view.buf, len(draft))
    return draft[:n].tolist()


cdef double _short(float x):
    """The double that reads as the float does: 0.8, not 0.800000011920929."""
    return next(y for n in range(6, 10) if <float>(y := float(f"{x:.{n}g}")) == x)


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
            c.top_k = _int32("sampler: top_k", params.top_k)
            c.top_p = params.top_p
            c.min_p = params.min_p
            c.typical_p = params.typical_p
            c.repeat_penalty = params.repeat_penalty
            c.presence_penalty = params.presence_penalty
            c.frequency_penalty = params.frequency_penalty
            c.penalty_last_n = _int32("sampler: penalty_last_n", params.penalty_last_n)
            c.max_last_n = _int32("sampler: max_last_n", params.max_last_n)
            c.mirostat = _int32("sampler: mirostat", params.mirostat)
            c.mirostat_tau = params.mirostat_tau
            c.mirostat_eta = params.mirostat_eta
            c.min_keep = _int32("sampler: min_keep", params.min_keep)
            ids = _Input(_ints([id for id, _ in params.logit_bias]))
            values = _Input(array("f", [value for _, value in params.logit_bias]))
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
        row = _flat(logits, "float32")
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

    def sample_session(self, Session session not None, row=-1):
        cdef nano_error err
        cdef nano_status status
        cdef int32_t n_rows = 0, id = -1
        cdef _Sampler handle = self.get_idle()
        cdef _Session source = session.get_idle()
        cdef const float *logits = nano_session_logits(source.p, &n_rows)
        cdef int64_t n_vocab = nano_model_n_vocab(source.model.p)
        cdef int32_t at = row if row >= 0 else n_rows + row
        if not 0 <= at < n_rows:
            raise ArgumentError(f"row {row}: the last step gave {n_rows} rows of logits")
        if n_vocab != self.n_vocab:
            raise ArgumentError(f"expected {self.n_vocab} logits, found {n_vocab}")
        logits += at * n_vocab
        handle.busy = source.busy = True
        with nogil:
            status = nano_sampler_sample(handle.p, logits, &id, &err)
        handle.busy = source.busy = False
        _check(status, &err)
        return id

    def accept(self, id):
        nano_sampler_accept(self.get_idle().p, id)

    def reset(self, seed):
        nano_sampler_reset(self.get_idle().p, seed)

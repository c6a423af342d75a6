# The parts of ggml_core.h that the bindings use; the header documents them.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"


cdef extern from "ggml_core.h" nogil:
    ctypedef enum nano_status:
        NANO_OK
        NANO_ERR_CANCELLED

    ctypedef struct nano_error:
        nano_status status
        char message[500]

    const char *nano_version()

    # Types

    ctypedef int32_t nano_type

    const char *nano_type_name(nano_type type)
    nano_type nano_type_from_name(const char *name)
    bint nano_type_is_supported(nano_type type)
    int64_t nano_type_block_size(nano_type type)
    size_t nano_type_block_bytes(nano_type type)
    size_t nano_type_row_bytes(nano_type type, int64_t n)
    nano_status nano_type_from_float(nano_type type, const float *x, void *y, int64_t n, nano_error *err)
    nano_status nano_type_to_float(nano_type type, const void *x, float *y, int64_t n, nano_error *err)
    nano_status nano_type_quantize(
        nano_type type, const float *x, const float *importance, void *y, int64_t n_rows, int64_t n_per_row,
        nano_error *err)

    # GGUF

    ctypedef struct nano_gguf

    ctypedef enum nano_gguf_kind:
        NANO_GGUF_BOOL
        NANO_GGUF_STRING
        NANO_GGUF_ARRAY

    ctypedef struct nano_str:
        const char *data
        size_t size

    ctypedef struct nano_gguf_value:
        nano_str key
        nano_gguf_kind kind
        nano_gguf_kind item_kind
        uint64_t n_items
        const uint8_t *data
        size_t n_bytes

    ctypedef struct nano_gguf_tensor:
        const char *name
        nano_type type
        int32_t n_dims
        int64_t ne[4]
        size_t n_bytes
        uint64_t offset
        const void *data

    nano_status nano_gguf_open(const char *path, nano_gguf **out, nano_error *err)
    nano_status nano_gguf_open_memory(
        const void *data, size_t size, const char *name, nano_gguf **out, nano_error *err)
    void nano_gguf_free(nano_gguf *gguf)
    const char *nano_gguf_path(const nano_gguf *gguf)
    uint32_t nano_gguf_version(const nano_gguf *gguf)
    uint64_t nano_gguf_file_size(const nano_gguf *gguf)
    uint64_t nano_gguf_alignment(const nano_gguf *gguf)
    uint64_t nano_gguf_n_values(const nano_gguf *gguf)
    const nano_gguf_value *nano_gguf_value_at(const nano_gguf *gguf, uint64_t i)
    const nano_gguf_value *nano_gguf_find(const nano_gguf *gguf, const char *key)
    uint64_t nano_gguf_n_tensors(const nano_gguf *gguf)
    const nano_gguf_tensor *nano_gguf_tensor_at(const nano_gguf *gguf, uint64_t i)
    const nano_gguf_tensor *nano_gguf_find_tensor(const nano_gguf *gguf, const char *name)
    bint nano_gguf_next_str(const nano_gguf_value *value, size_t *cursor, nano_str *out)

    # GGUF writer

    ctypedef struct nano_gguf_writer

    nano_status nano_gguf_writer_open(const char *path, nano_gguf_writer **out, nano_error *err)
    nano_status nano_gguf_writer_set(
        nano_gguf_writer *w, const char *key, nano_gguf_kind kind, bint is_array, const void *items,
        uint64_t n_items, nano_error *err)
    nano_status nano_gguf_writer_set_str(
        nano_gguf_writer *w, const char *key, bint is_array, const nano_str *items, uint64_t n_items, nano_error *err)
    nano_status nano_gguf_writer_copy(nano_gguf_writer *w, const nano_gguf_value *value, nano_error *err)
    nano_status nano_gguf_writer_tensor(
        nano_gguf_writer *w, const char *name, nano_type type, int32_t n_dims, const int64_t *ne, nano_error *err)
    nano_status nano_gguf_writer_write(nano_gguf_writer *w, const void *data, size_t n_bytes, nano_error *err)
    nano_status nano_gguf_writer_finish(nano_gguf_writer *w, nano_error *err)
    void nano_gguf_writer_free(nano_gguf_writer *w)

    # Quantising files

    ctypedef int32_t nano_ftype

    enum:
        NANO_FTYPE_COPY

    nano_ftype nano_ftype_at(int32_t i)
    const char *nano_ftype_name(nano_ftype ftype)
    nano_ftype nano_ftype_from_name(const char *name)

    ctypedef struct nano_quantize_step:
        const nano_gguf_tensor *tensor
        nano_type type
        nano_type wanted
        bint has_importance
        uint64_t n_bytes
        uint64_t index
        bint is_done
        uint64_t n_read

    ctypedef struct nano_quantize_value:
        const char *key
        nano_gguf_kind kind
        bint is_array
        const void *items
        uint64_t n_items

    ctypedef struct nano_quantize_options:
        nano_ftype ftype
        int32_t n_threads
        bint allow_requantize
        bint pure
        bint leave_output
        bint no_fallback
        bint dry_run
        nano_type output_type
        nano_type token_embedding_type
        void *context
        nano_type (*choose)(void *context, const char *name, nano_type proposed) noexcept
        const float *(*importance)(void *context, const char *name, int64_t *n) noexcept
        c_bool (*progress)(void *context, const nano_quantize_step *step) noexcept
        const nano_quantize_value *values
        int32_t n_values

    nano_quantize_options nano_quantize_options_default()
    nano_status nano_quantize_file(
        const nano_gguf *gguf, const char *out_path, const nano_quantize_options *options, nano_error *err)

    # Graph

    ctypedef struct nano_graph

    enum:
        NANO_DIM_T
        NANO_DIM_W
        NANO_MAX_SRC
        NANO_MAX_INTS
        NANO_MAX_FLOATS

    ctypedef enum nano_input:
        NANO_INPUT_TOKENS
        NANO_INPUT_POSITIONS
        NANO_INPUT_WANTED
        NANO_INPUT_TARGETS
        NANO_INPUT_WEIGHTS

    nano_status nano_graph_create(nano_graph **out, nano_error *err)
    void nano_graph_free(nano_graph *graph)
    nano_status nano_graph_weight_of(
        nano_graph *graph, int32_t file, const char *name, int32_t n_dims, const int64_t *ne, int32_t *out,
        nano_error *err)
    nano_status nano_graph_adapt(
        const nano_graph *graph, const nano_gguf *adapter, int32_t file, float scale, nano_graph **out,
        nano_error *err)
    nano_status nano_adapter_check(const nano_gguf *adapter, const nano_gguf *model, nano_error *err)
    nano_status nano_graph_input(nano_graph *graph, nano_input kind, int32_t *out, nano_error *err)
    nano_status nano_graph_cache(
        nano_graph *graph, int32_t index, int64_t n_head_kv, int64_t head_dim, int32_t *out, nano_error *err)
    nano_status nano_graph_op(
        nano_graph *graph, const char *name, int32_t n_src, const int32_t *src, int32_t n_ints, const int64_t *ints,
        int32_t n_floats, const double *floats, int32_t *out, nano_error *err)
    nano_status nano_graph_set_output(nano_graph *graph, int32_t tensor, nano_error *err)
    int32_t nano_graph_n_tensors(const nano_graph *graph)
    nano_status nano_graph_shape(
        const nano_graph *graph, int32_t tensor, int32_t *n_dims, int64_t *ne, nano_error *err)
    nano_status nano_graph_save(const nano_graph *graph, void *buffer, size_t capacity, size_t *size, nano_error *err)
    nano_status nano_graph_loss(nano_graph *graph, int32_t *loss, nano_error *err)
    int32_t nano_graph_find_weight(const nano_graph *graph, int32_t file, const char *name)
    nano_status nano_graph_backward(
        nano_graph *graph, int32_t loss, int32_t n_params, const int32_t *params, bint recompute, nano_error *err)
    nano_status nano_graph_load(const void *data, size_t size, nano_graph **out, nano_error *err)
    enum:
        NANO_PROGRAM_VERSION
    nano_status nano_program_version(const void *data, size_t size, uint64_t *version, nano_error *err)

    # Model, plan

    ctypedef struct nano_model

    ctypedef enum nano_optimizer:
        NANO_OPTIMIZER_NONE

    ctypedef struct nano_limits:
        int32_t n_ctx
        int32_t n_batch
        int32_t n_slots
        int32_t n_outputs
        int32_t n_threads
        int32_t n_threads_batch
        uint64_t[4] cpu_mask
        int32_t poll
        nano_type type_k
        nano_type type_v
        bint deterministic
        bint importance
        nano_optimizer optimizer
        int32_t history
        int32_t n_gpu_layers
        int32_t device

    ctypedef struct nano_device:
        char[96] name
        char[32] image
        int32_t compute_capability
        bint shares_memory
        uint64_t memory_available
        uint64_t memory_total

    ctypedef struct nano_memory:
        uint64_t weights
        uint64_t cache
        uint64_t activations
        uint64_t outputs
        uint64_t scratch
        uint64_t parameters
        uint64_t gradients
        uint64_t optimizer
        uint64_t bookkeeping
        uint64_t allocated
        uint64_t total
        uint64_t device
        uint64_t device_weights
        uint64_t device_cache

    ctypedef struct nano_plan

    nano_status nano_model_create_with(
        const nano_gguf *const *files, int32_t n_files, const void *program, size_t size, nano_model **out,
        nano_error *err)
    void nano_model_free(nano_model *model)
    int64_t nano_model_n_vocab(const nano_model *model)
    nano_limits nano_limits_default()
    int32_t nano_device_count()
    nano_status nano_device_at(int32_t i, nano_device *out, nano_error *err)
    nano_status nano_plan_create(const nano_model *model, const nano_limits *limits, nano_plan **out, nano_error *err)
    void nano_plan_free(nano_plan *plan)
    nano_memory nano_plan_memory(const nano_plan *plan)
    nano_limits nano_plan_limits(const nano_plan *plan)
    nano_status nano_plan_fit(
        const nano_model *model, const nano_limits *limits, uint64_t budget, int32_t *n_ctx, nano_error *err)
    uint64_t nano_memory_available()
    uint64_t nano_memory_peak()

    # Session

    ctypedef struct nano_session

    nano_status nano_session_create(const nano_plan *plan, nano_session **out, nano_error *err)
    void nano_session_free(nano_session *session)
    nano_status nano_session_eval(
        nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots, const uint8_t *wanted,
        nano_error *err)
    float *nano_session_logits(nano_session *session, int32_t *n_rows)
    int32_t nano_session_n_past(const nano_session *session, int32_t slot)
    nano_status nano_session_truncate(nano_session *session, int32_t slot, int32_t n_past, nano_error *err)
    nano_status nano_session_copy_slot(
        nano_session *session, int32_t source, int32_t target, int32_t n_past, nano_error *err)
    nano_status nano_session_importance(
        const nano_session *session, const char *weight, const double **sums, int64_t *n, int64_t *n_rows,
        nano_error *err)
    nano_status nano_session_save(
        const nano_session *session, int32_t slot, const int32_t *tokens, int32_t n_tokens, const char *path,
        nano_error *err)
    nano_status nano_session_load(
        nano_session *session, int32_t slot, const char *path, int32_t *tokens, int32_t capacity, int32_t *n_tokens,
        nano_error *err)
    void nano_session_cancel(nano_session *session)

    ctypedef struct nano_param:
        const char *name
        int32_t file
        nano_type type
        int32_t n_dims
        int64_t ne[4]
        int64_t n
        int64_t offset
        float *value
        float *gradient

    int32_t nano_session_n_params(const nano_session *session)
    nano_status nano_session_param(nano_session *session, int32_t i, nano_param *out, nano_error *err)
    void nano_session_flat(
        nano_session *session, int64_t *n, float **values, float **gradients, void **state, size_t *state_bytes)
    nano_status nano_session_gradient(
        nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots, const int32_t *targets,
        const float *weights, double *loss, nano_error *err)
    nano_status nano_session_loss(
        nano_session *session, int32_t n_tokens, const int32_t *tokens, const int32_t *slots, const int32_t *targets,
        const float *weights, double *loss, nano_error *err)
    void nano_session_zero_gradients(nano_session *session)
    const char *nano_cpu_level()
    const char *nano_cpu_levels()
    nano_status nano_cpu_set_level(const char *level, nano_error *err)
    int32_t nano_cpu_default_threads()

    # Optimisers

    ctypedef struct nano_adam:
        double beta1
        double beta2
        double eps
        double max_norm
        bint decoupled

    ctypedef struct nano_adam_span:
        float *value
        const float *gradient
        float *m
        float *v
        int64_t n
        double rate
        double decay

    nano_status nano_adam_step(
        const nano_adam *adam, int64_t step, int32_t n_spans, const nano_adam_span *spans, double *norm,
        nano_error *err)

    ctypedef enum nano_schedule_kind:
        NANO_SCHEDULE_CONSTANT
        NANO_SCHEDULE_LINEAR
        NANO_SCHEDULE_COSINE

    double nano_schedule(nano_schedule_kind kind, int64_t step, int64_t n_warm, int64_t n_steps, double floor)

    ctypedef nano_status nano_objective_fn(
        void *context, const double *x, double *f, double *g, nano_error *err) noexcept
    ctypedef nano_status nano_flat_objective_fn(void *context, double *f, nano_error *err) noexcept

    ctypedef enum nano_line_search:
        NANO_LINE_SEARCH_WOLFE
        NANO_LINE_SEARCH_BACKTRACKING

    ctypedef enum nano_lbfgs_reason:
        NANO_LBFGS_GRADIENT

    ctypedef struct nano_lbfgs_result:
        nano_lbfgs_reason reason
        int32_t iterations
        int32_t evaluations
        double f
        double gradient

    ctypedef struct nano_lbfgs_options:
        int32_t history
        int32_t max_iterations
        int32_t max_evaluations
        double gradient_tolerance
        double f_tolerance
        nano_line_search line_search
        double decrease
        double curvature
        int32_t max_line_steps
        c_bool (*progress)(void *context, const double *x, const nano_lbfgs_result *now) noexcept
        void *progress_context

    nano_lbfgs_options nano_lbfgs_options_default()
    const char *nano_lbfgs_reason_text(nano_lbfgs_reason reason)
    size_t nano_lbfgs_bytes(int64_t n, int32_t history)
    size_t nano_lbfgs_flat_bytes(int64_t n, int32_t history)
    nano_status nano_lbfgs(
        const nano_lbfgs_options *options, int64_t n, double *x, nano_objective_fn *f, void *context, void *work,
        nano_lbfgs_result *result, nano_error *err)
    nano_status nano_lbfgs_flat(
        const nano_lbfgs_options *options, int64_t n, float *values, const float *gradient,
        nano_flat_objective_fn *f, void *context, void *work, nano_lbfgs_result *result, nano_error *err)

    # Tokenizer

    ctypedef struct nano_tokenizer

    ctypedef struct nano_decoder:
        pass

    nano_status nano_tokenizer_create(const nano_gguf *gguf, nano_tokenizer **out, nano_error *err)
    void nano_tokenizer_free(nano_tokenizer *tokenizer)
    int32_t nano_tokenizer_n_tokens(const nano_tokenizer *tokenizer)
    int32_t nano_tokenizer_bos(const nano_tokenizer *tokenizer)
    int32_t nano_tokenizer_eos(const nano_tokenizer *tokenizer)
    int32_t nano_tokenizer_eot(const nano_tokenizer *tokenizer)
    bint nano_tokenizer_adds_bos(const nano_tokenizer *tokenizer)
    bint nano_tokenizer_adds_eos(const nano_tokenizer *tokenizer)
    bint nano_tokenizer_is_end(const nano_tokenizer *tokenizer, int32_t id)
    bint nano_tokenizer_is_special(const nano_tokenizer *tokenizer, int32_t id)
    nano_str nano_tokenizer_spelling(const nano_tokenizer *tokenizer, int32_t id)
    int32_t nano_tokenizer_find(const nano_tokenizer *tokenizer, const char *spelling, size_t size)
    size_t nano_tokenizer_scratch(const nano_tokenizer *tokenizer, size_t text_size)
    size_t nano_tokenizer_max_ids(const nano_tokenizer *tokenizer, size_t text_size)
    nano_status nano_tokenizer_encode(
        const nano_tokenizer *tokenizer, const char *text, size_t size, bint add_special, bint parse_special,
        void *scratch, size_t scratch_size, int32_t *ids, size_t capacity, size_t *n_ids, nano_error *err)
    void nano_decoder_init(nano_decoder *decoder, const nano_tokenizer *tokenizer, bint show_special)
    size_t nano_decoder_max_bytes(const nano_tokenizer *tokenizer)
    nano_status nano_decoder_push(
        nano_decoder *decoder, const nano_tokenizer *tokenizer, int32_t id, char *out, size_t capacity,
        size_t *n_bytes, nano_error *err)
    size_t nano_decoder_flush(nano_decoder *decoder, char *out, size_t capacity)

    ctypedef struct nano_chat:
        pass

    nano_status nano_chat_create(
        const nano_gguf *gguf, const nano_tokenizer *tokenizer, const char *name, nano_chat **out, nano_error *err)
    void nano_chat_free(nano_chat *chat)
    const char *nano_chat_name_at(int32_t i)
    nano_status nano_chat_turn(
        const nano_chat *chat, bint is_first, const nano_str *system, nano_str user, char *out, size_t capacity,
        size_t *n, nano_error *err)

    # Sampler

    ctypedef struct nano_sampler

    ctypedef struct nano_sampler_params:
        uint64_t seed
        float temperature
        int32_t top_k
        float top_p
        float min_p
        float typical_p
        float repeat_penalty
        float presence_penalty
        float frequency_penalty
        int32_t penalty_last_n
        int32_t max_last_n
        int32_t mirostat
        float mirostat_tau
        float mirostat_eta
        int32_t min_keep
        const int32_t *bias_ids
        const float *bias_values
        int32_t n_bias

    nano_sampler_params nano_sampler_params_default()
    nano_status nano_sampler_create(
        const nano_sampler_params *params, int32_t n_vocab, nano_sampler **out, nano_error *err)
    void nano_sampler_free(nano_sampler *sampler)
    nano_status nano_sampler_sample(nano_sampler *sampler, const float *logits, int32_t *id, nano_error *err)
    void nano_sampler_accept(nano_sampler *sampler, int32_t id)
    void nano_sampler_reset(nano_sampler *sampler, uint64_t seed)
    int32_t nano_lookup_draft(const int32_t *tokens, int32_t n_tokens, int32_t *draft, int32_t max_draft)

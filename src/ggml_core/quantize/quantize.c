/*
 * A file's matrices in other types: first every tensor's type is decided and checked, then the data goes through in
 * one pass. Threads share the rows of a batch in pieces; while they convert one batch, the first of them writes the
 * batch before. Which thread converts a row changes nothing in it, and batches are written in order: the same bytes
 * for any number of threads.
 */
#include "base/arith.h"
#include "base/platform.h"
#include "base/threads.h"
#include "gguf/format.h"
#include "quantize/recipe.h"
#include "types/f16.h"
#include "types/types.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE_ELEMENTS = 16384,  /* what a thread takes at once: as f32 it stays in the second-level cache */
    BATCH_BYTES = 2 << 20,   /* what is written at once; two of them are in memory */
    POLL = 50,               /* how threads wait, as in nano_limits */
    QUANTIZATION_VERSION = 2 /* of the block layouts */
};

#define FILE_TYPE_KEY "general.file_type"
#define VERSION_KEY "general.quantization_version"

/* What becomes of a tensor. */
typedef struct decision {
    const nano_gguf_tensor *tensor;
    const float *importance; /* (matrices, ne[0]) or NULL */
    nano_type wanted, type;
    uint64_t n_bytes;
} decision;

typedef struct run {
    const nano_gguf *gguf;
    const nano_quantize_options *options;
    decision *decisions;
    uint64_t n_tensors;
    nano_gguf_writer *writer;
    nano_pool *pool;
    nano_pile pile;      /* pieces of the batch */
    struct batch *batch; /* that is being converted */
    void *pool_memory;
    size_t pool_bytes;
    int n_threads;
    float *scratch;          /* a piece of rows as f32 for each thread */
    size_t scratch_elements; /* of one thread */
    uint8_t *batches[2];     /* one is filled while the other is written */
    int filling;
    const uint8_t *pending; /* the batch to be written */
    size_t n_pending;
    uint64_t n_read;
} run;

/* --------------------------------------------------------------- decisions */

static int64_t n_matrices(const nano_gguf_tensor *t) { return t->ne[2] * t->ne[3]; }
static int64_t n_rows(const nano_gguf_tensor *t) { return t->ne[1] * n_matrices(t); }

/* The type a matrix should get, which its rows may not fill. */
static nano_type wanted_type(const run *r, const nano_recipe *recipe, const nano_gguf_tensor *t) {
    const nano_quantize_options *o = r->options;
    if (nano_recipe_is_embedding(t) && o->token_embedding_type >= 0) {
        return o->token_embedding_type;
    }
    if (o->output_type >= 0 && (nano_recipe_is_output(t) || (recipe->is_tied && nano_recipe_is_embedding(t)))) {
        return o->output_type;
    }
    const nano_type proposed = o->pure ? recipe->base : nano_recipe_type(recipe, t);
    return o->choose != NULL ? o->choose(o->context, t->name, proposed) : proposed;
}

static nano_status find_importance(const run *r, const nano_gguf_tensor *t, const float **out, nano_error *err) {
    const nano_quantize_options *o = r->options;
    int64_t n = 0;
    const float *importance = o->importance != NULL ? o->importance(o->context, t->name, &n) : NULL;
    if (importance != NULL && n != t->ne[0] * n_matrices(t)) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: tensor '%s': found %lld importances, expected %lld",
                         nano_gguf_path(r->gguf), t->name, (long long)n, (long long)(t->ne[0] * n_matrices(t)));
    }
    for (int64_t i = 0; importance != NULL && i < n; i++) {
        if (!(importance[i] >= 0.0f && importance[i] <= FLT_MAX)) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: tensor '%s': found importance %g, expected a number >= 0",
                             nano_gguf_path(r->gguf), t->name, (double)importance[i]);
        }
    }
    *out = importance;
    return NANO_OK;
}

/* Can `t` be turned into `type`, and is it allowed? */
static nano_status check_types(const run *r, const nano_gguf_tensor *t, nano_type type, nano_error *err) {
    const char *path = nano_gguf_path(r->gguf);
    if (!nano_type_is_supported(t->type)) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: tensor '%s': found %s, expected a type that can be read", path,
                         t->name, nano_type_name(t->type));
    }
    if (!nano_type_is_supported(type)) {
        const char *name = nano_type_name(type);
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: tensor '%s': %s (number %d) is no type that can be made", path,
                         t->name, name != NULL ? name : "unknown", (int)type);
    }
    if (nano_type_block_size(t->type) > 1 && !r->options->allow_requantize) {
        return nano_fail(err, NANO_ERR_ARGUMENT,
                         "%s: tensor '%s': found %s, expected F32, F16 or BF16: quantising again what is quantised "
                         "costs quality (allow_requantize permits it)",
                         path, t->name, nano_type_name(t->type));
    }
    return NANO_OK;
}

static nano_status decide(const run *r, const nano_recipe *recipe, const nano_gguf_tensor *t, decision *out,
                          nano_error *err) {
    decision d = {t, NULL, t->type, t->type, t->n_bytes};
    const bool leave = recipe->ftype == NANO_FTYPE_COPY || !nano_recipe_covers(t) ||
                       (r->options->leave_output && nano_recipe_is_output(t));
    if (!leave) {
        d.wanted = wanted_type(r, recipe, t);
        if (nano_type_block_size(d.wanted) == 0) {
            return check_types(r, t, d.wanted, err);
        }
        d.type = nano_recipe_fitting(d.wanted, t->ne[0]);
    }
    if (d.type != d.wanted && r->options->no_fallback) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: tensor '%s': rows of %lld elements are not whole blocks of %s",
                         nano_gguf_path(r->gguf), t->name, (long long)t->ne[0], nano_type_name(d.wanted));
    }
    if (d.type != t->type) {
        char why[NANO_GGUF_WHY_SIZE];
        NANO_TRY(check_types(r, t, d.type, err));
        NANO_TRY(find_importance(r, t, &d.importance, err));
        if (!nano_gguf_tensor_bytes(d.type, t->n_dims, t->ne, &d.n_bytes, why)) {
            return nano_fail(err, NANO_ERR_SHAPE, "%s: tensor '%s': %s", nano_gguf_path(r->gguf), t->name, why);
        }
    }
    *out = d;
    return NANO_OK;
}

static nano_status decide_all(run *r, nano_error *err) {
    nano_recipe recipe;
    NANO_TRY(nano_recipe_create(r->gguf, r->options->ftype, r->options->importance != NULL, &recipe, err));
    r->decisions = calloc((size_t)r->n_tensors + 1, sizeof *r->decisions);
    if (r->decisions == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory to plan its tensors", nano_gguf_path(r->gguf));
    }
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        NANO_TRY(decide(r, &recipe, nano_gguf_tensor_at(r->gguf, i), &r->decisions[i], err));
    }
    return NANO_OK;
}

static nano_status report(const run *r, uint64_t index, bool is_done, nano_error *err) {
    const nano_quantize_options *o = r->options;
    const decision *d = &r->decisions[index];
    if (o->progress == NULL) {
        return NANO_OK;
    }
    nano_quantize_step step = {d->tensor,  d->type, d->wanted, d->importance != NULL,
                               d->n_bytes, index,   is_done,   r->n_read};
    return o->progress(o->context, &step)
               ? NANO_OK
               : nano_fail(err, NANO_ERR_CANCELLED, "%s: quantising was cancelled", nano_gguf_path(r->gguf));
}

/* ---------------------------------------------------------------- metadata */

static bool same_key(nano_str key, const char *name) {
    nano_str other = {name, strlen(name)};
    return nano_gguf_compare(key, other) == 0;
}

static nano_status set_value(nano_gguf_writer *w, const nano_quantize_value *v, nano_error *err) {
    if (v->kind == NANO_GGUF_STRING) {
        return nano_gguf_writer_set_str(w, v->key, v->is_array, v->items, v->n_items, err);
    }
    return nano_gguf_writer_set(w, v->key, v->kind, v->is_array, v->items, v->n_items, err);
}

/* The file's values in their order, each replaced where there is another for its key; then what is new. */
static nano_status set_metadata(const run *r, nano_error *err) {
    const nano_quantize_options *o = r->options;
    const uint32_t file_type = (uint32_t)o->ftype, version = QUANTIZATION_VERSION;
    const nano_quantize_value own[] = {{FILE_TYPE_KEY, NANO_GGUF_UINT32, false, &file_type, 1},
                                       {VERSION_KEY, NANO_GGUF_UINT32, false, &version, 1}};
    const int32_t n_own = o->ftype == NANO_FTYPE_COPY ? 0 : 2;
    bool own_done[2] = {false, false};
    for (int32_t i = 0; i < o->n_values; i++) {
        for (int32_t k = 0; k < n_own; k++) {
            own_done[k] = own_done[k] || strcmp(own[k].key, o->values[i].key) == 0;
        }
    }
    for (uint64_t i = 0; i < nano_gguf_n_values(r->gguf); i++) {
        const nano_gguf_value *v = nano_gguf_value_at(r->gguf, i);
        bool replaced = false;
        for (int32_t k = 0; k < n_own; k++) {
            replaced = replaced || same_key(v->key, own[k].key);
        }
        for (int32_t k = 0; k < o->n_values && !replaced; k++) {
            replaced = same_key(v->key, o->values[k].key);
        }
        if (!replaced) {
            NANO_TRY(nano_gguf_writer_copy(r->writer, v, err));
        }
    }
    for (int32_t k = 0; k < n_own; k++) {
        if (!own_done[k]) {
            NANO_TRY(set_value(r->writer, &own[k], err));
        }
    }
    for (int32_t i = 0; i < o->n_values; i++) {
        NANO_TRY(set_value(r->writer, &o->values[i], err));
    }
    return NANO_OK;
}

/* --------------------------------------------------------------- conversion */

/* Rows first ... first + n of a tensor, shared by the threads. */
typedef struct batch {
    run *run;
    const decision *decision;
    int64_t first, n;
    int64_t rows_a_piece;
    uint8_t *out;
    nano_atomic failed; /* a number that the new type cannot hold was found */
    nano_status write_status;
    nano_error write_error;
} batch;

static int64_t rows_a_piece(int64_t n_per_row) { return n_per_row < PIECE_ELEMENTS ? PIECE_ELEMENTS / n_per_row : 1; }

/* Bits of the largest magnitude that a type holds. */
static uint32_t largest_bits(nano_type type) {
    switch (type) {
        case NANO_TYPE_F32: return nano_f32_bits(FLT_MAX);
        case NANO_TYPE_BF16: return 0x7f7f7fffu; /* the next one rounds to infinity */
        case NANO_TYPE_F16: return nano_f32_bits(65504.0f);
        case NANO_TYPE_Q8_0: return nano_f32_bits(65504.0f * 127.0f);
        default: return nano_f32_bits(32752.0f); /* half of f16's: a block's least value may lie below its numbers */
    }
}

/* Is there no infinity, no NaN, no number beyond the type's range? Scales computed from them would be garbage. */
static bool fits(const float *x, int64_t n, nano_type type) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = nano_f32_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest <= largest_bits(type);
}

static void convert_rows(const batch *b, int64_t first, int64_t n, float *scratch, bool *ok) {
    const nano_gguf_tensor *t = b->decision->tensor;
    const int64_t n_per_row = t->ne[0];
    const size_t row_in = nano_type_row_bytes(t->type, n_per_row);
    const size_t row_out = nano_type_row_bytes(b->decision->type, n_per_row);
    const uint8_t *in = (const uint8_t *)t->data + (size_t)(b->first + first) * row_in;
    const float *x = (const float *)(const void *)in;
    if (t->type != NANO_TYPE_F32) {
        (void)nano_type_to_float(t->type, in, scratch, n * n_per_row, NULL);
        x = scratch;
    }
    *ok = fits(x, n * n_per_row, b->decision->type);
    for (int64_t done = 0; done < n && *ok;) { /* a matrix at a time: each has its own importances */
        const int64_t row = b->first + first + done, matrix = row / t->ne[1];
        const int64_t rows = nano_min_i64(n - done, (matrix + 1) * t->ne[1] - row);
        const float *importance = b->decision->importance;
        importance = importance != NULL ? importance + matrix * n_per_row : NULL;
        (void)nano_type_quantize(b->decision->type, x + done * n_per_row, importance,
                                 b->out + (size_t)(first + done) * row_out, rows, n_per_row, NULL);
        done += rows;
    }
}

static int64_t count_pieces(const batch *b) { return (b->n + b->rows_a_piece - 1) / b->rows_a_piece; }

static void write_pending(run *r, batch *b) {
    b->write_status = nano_gguf_writer_write(r->writer, r->pending, r->n_pending, &b->write_error);
    r->n_pending = 0;
}

/* Pieces of the batch, of which n_left were left when the first of these n was taken. */
static void convert_pieces(batch *b, uint32_t n_left, uint32_t n, float *scratch) {
    const int64_t n_pieces = count_pieces(b);
    for (int64_t piece = n_pieces - n_left; piece < n_pieces - n_left + n; piece++) {
        const int64_t first = piece * b->rows_a_piece;
        bool ok = true;
        if (nano_atomic_load_relaxed(&b->failed) != 0) {
            return;
        }
        convert_rows(b, first, nano_min_i64(b->rows_a_piece, b->n - first), scratch, &ok);
        if (!ok) {
            nano_atomic_store(&b->failed, 1);
        }
    }
}

static void work_on(void *arg, int thread, uint32_t number) {
    run *r = arg;
    uint32_t n_left = 0, n = 0;
    if (thread == 0) {
        write_pending(r, r->batch);
    }
    while (nano_pile_take(r->pool, &r->pile, number, &n_left, &n) && n > 0) {
        convert_pieces(r->batch, n_left, n, r->scratch + (size_t)thread * r->scratch_elements);
        nano_pile_done(r->pool, &r->pile, n);
    }
    if (thread == 0) {
        (void)nano_pile_wait(r->pool, &r->pile, number);
    }
}

static nano_status check_batch(const run *r, const batch *b, nano_error *err) {
    if (b->write_status != NANO_OK) {
        if (err != NULL) {
            *err = b->write_error;
        }
        return b->write_status;
    }
    if (nano_atomic_load(&b->failed) != 0) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: tensor '%s': a number is not finite or too large for %s",
                         nano_gguf_path(r->gguf), b->decision->tensor->name, nano_type_name(b->decision->type));
    }
    return NANO_OK;
}

static int64_t rows_a_batch(const decision *d) {
    const int64_t n_per_row = d->tensor->ne[0], piece = rows_a_piece(n_per_row);
    const size_t piece_bytes = (size_t)piece * nano_type_row_bytes(d->type, n_per_row);
    return piece_bytes < BATCH_BYTES ? (int64_t)(BATCH_BYTES / piece_bytes) * piece : piece;
}

static nano_status convert(run *r, uint64_t index, nano_error *err) {
    const decision *d = &r->decisions[index];
    const nano_gguf_tensor *t = d->tensor;
    const size_t row_in = nano_type_row_bytes(t->type, t->ne[0]), row_out = nano_type_row_bytes(d->type, t->ne[0]);
    const int64_t n = n_rows(t), most = rows_a_batch(d);
    for (int64_t first = 0; first < n; first += most) {
        batch b = {
            r,   d,       first,        nano_min_i64(most, n - first), rows_a_piece(t->ne[0]), r->batches[r->filling],
            {0}, NANO_OK, {NANO_OK, ""}};
        r->batch = &b;
        nano_pile_fill(&r->pile, nano_pool_next_run(r->pool), (uint32_t)count_pieces(&b));
        nano_pool_run(r->pool, r->n_threads);
        NANO_TRY(check_batch(r, &b, err));
        r->pending = b.out;
        r->n_pending = (size_t)b.n * row_out;
        r->filling = 1 - r->filling;
        r->n_read += (uint64_t)b.n * row_in;
        nano_gguf_forget(r->gguf, (const uint8_t *)t->data + (size_t)first * row_in, (size_t)b.n * row_in);
        NANO_TRY(report(r, index, first + b.n == n, err));
    }
    return NANO_OK;
}

static nano_status flush(run *r, nano_error *err) {
    const size_t n = r->n_pending;
    r->n_pending = 0;
    return nano_gguf_writer_write(r->writer, r->pending, n, err);
}

static nano_status copy(run *r, uint64_t index, nano_error *err) {
    const nano_gguf_tensor *t = r->decisions[index].tensor;
    NANO_TRY(flush(r, err));
    for (size_t at = 0; at < t->n_bytes;) {
        const size_t n = t->n_bytes - at < BATCH_BYTES ? t->n_bytes - at : BATCH_BYTES;
        const uint8_t *data = (const uint8_t *)t->data + at;
        NANO_TRY(nano_gguf_writer_write(r->writer, data, n, err));
        nano_gguf_forget(r->gguf, data, n);
        at += n;
        r->n_read += n;
        NANO_TRY(report(r, index, at == t->n_bytes, err));
    }
    return NANO_OK;
}

/* --------------------------------------------------------------------- run */

/* The buffers for the largest tensor, and the threads. */
static nano_status prepare(run *r, nano_error *err) {
    uint64_t elements = 1, batch_bytes = 1, scratch_bytes;
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const decision *d = &r->decisions[i];
        const int64_t n_per_row = d->tensor->ne[0];
        if (d->type != d->tensor->type) {
            const uint64_t piece = (uint64_t)(rows_a_piece(n_per_row) * n_per_row);
            const uint64_t bytes = (uint64_t)rows_a_batch(d) * nano_type_row_bytes(d->type, n_per_row);
            elements = piece > elements ? piece : elements;
            batch_bytes = bytes > batch_bytes ? bytes : batch_bytes;
        }
    }
    r->pool_bytes = nano_pool_bytes(r->n_threads);
    r->pool_memory = nano_pages_alloc(r->pool_bytes);
    if (nano_mul_u64(elements, (uint64_t)r->n_threads * sizeof(float), &scratch_bytes) && scratch_bytes <= SIZE_MAX &&
        batch_bytes <= SIZE_MAX) {
        r->scratch_elements = (size_t)elements;
        r->scratch = malloc((size_t)scratch_bytes);
        r->batches[0] = malloc((size_t)batch_bytes);
        r->batches[1] = malloc((size_t)batch_bytes);
    }
    if (r->pool_memory == NULL || r->scratch == NULL || r->batches[0] == NULL || r->batches[1] == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "%s: no memory for rows of %llu elements", nano_gguf_path(r->gguf),
                         (unsigned long long)elements);
    }
    const nano_pool_options options = {.n_threads = r->n_threads, .poll = POLL, .fn = work_on, .arg = r};
    return nano_pool_start(r->pool_memory, &options, &r->pool, err);
}

static nano_status write_file(run *r, const char *out_path, nano_error *err) {
    NANO_TRY(prepare(r, err));
    NANO_TRY(nano_gguf_writer_open(out_path, &r->writer, err));
    NANO_TRY(set_metadata(r, err));
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const decision *d = &r->decisions[i];
        NANO_TRY(nano_gguf_writer_tensor(r->writer, d->tensor->name, d->type, d->tensor->n_dims, d->tensor->ne, err));
    }
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const decision *d = &r->decisions[i];
        NANO_TRY(d->type == d->tensor->type ? copy(r, i, err) : convert(r, i, err));
    }
    NANO_TRY(flush(r, err));
    return nano_gguf_writer_finish(r->writer, err);
}

static nano_status run_all(run *r, const char *out_path, nano_error *err) {
    int64_t n_parts;
    if (nano_gguf_item_int(nano_gguf_find(r->gguf, "split.count"), 0, &n_parts) && n_parts > 1) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: found one of %lld parts, expected a whole file",
                         nano_gguf_path(r->gguf), (long long)n_parts);
    }
    NANO_TRY(decide_all(r, err));
    if (!r->options->dry_run) {
        return write_file(r, out_path, err);
    }
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        r->n_read += r->decisions[i].tensor->n_bytes;
        NANO_TRY(report(r, i, true, err));
    }
    return NANO_OK;
}

nano_quantize_options nano_quantize_options_default(void) {
    nano_quantize_options o;
    memset(&o, 0, sizeof o);
    o.ftype = NANO_FTYPE_COPY;
    o.output_type = -1;
    o.token_embedding_type = -1;
    return o;
}

nano_status nano_quantize_file(const nano_gguf *gguf, const char *out_path, const nano_quantize_options *options,
                               nano_error *err) {
    if (gguf == NULL || options == NULL || (out_path == NULL && !options->dry_run)) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "nano_quantize_file: gguf, out_path or options is NULL");
    }
    if (options->n_threads < 0 || options->n_threads > NANO_MAX_THREADS) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "n_threads: found %d, expected 0 to %d", (int)options->n_threads,
                         NANO_MAX_THREADS);
    }
    run r;
    memset(&r, 0, sizeof r);
    r.gguf = gguf;
    r.options = options;
    r.n_tensors = nano_gguf_n_tensors(gguf);
    r.n_threads = options->n_threads > 0 ? options->n_threads : nano_cpu_default_threads();
    nano_status status = run_all(&r, out_path, err);
    if (r.pool != NULL) {
        nano_pool_stop(r.pool);
    }
    nano_gguf_writer_free(r.writer);
    nano_pages_free(r.pool_memory, r.pool_bytes);
    free(r.scratch);
    free(r.batches[0]);
    free(r.batches[1]);
    free(r.decisions);
    return status;
}

#include "model.h"

#include "base/arith.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FINGERPRINT_SAMPLE = 64 }; /* bytes of each weight */

static const char *shape_text(const int64_t *ne, char *text, size_t size) {
    (void)snprintf(text, size, "(%lld, %lld, %lld, %lld)", (long long)ne[3], (long long)ne[2], (long long)ne[1],
                   (long long)ne[0]);
    return text;
}

static nano_status bind_weight(nano_model *model, int32_t i, nano_error *err) {
    const nano_tensor *want = &model->graph->tensors[i];
    if (want->index >= model->n_files) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: the program reads %s of file %d, there are %d",
                         nano_gguf_path(model->gguf), want->name, (int)want->index, (int)model->n_files);
    }
    const nano_gguf *file = model->files[want->index];
    const char *path = nano_gguf_path(file);
    const nano_gguf_tensor *have = nano_gguf_find_tensor(file, want->name);
    if (have == NULL) {
        return nano_fail(err, NANO_ERR_NOT_FOUND, "%s: tensor %s is missing", path, want->name);
    }
    if (memcmp(have->ne, want->ne, sizeof want->ne) != 0) {
        char found[100], expected[100];
        return nano_fail(err, NANO_ERR_SHAPE, "%s: tensor %s has shape %s, expected %s", path, want->name,
                         shape_text(have->ne, found, sizeof found), shape_text(want->ne, expected, sizeof expected));
    }
    const nano_type_traits *traits = nano_type_find(have->type);
    if (traits == NULL || traits->to_float == NULL) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: tensor %s has type %s, which this build cannot compute with",
                         path, want->name, traits == NULL ? "unknown" : traits->name);
    }
    if (want->n_dims == 1 && have->type != NANO_TYPE_F32) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "%s: tensor %s has type %s, expected F32 for a vector", path,
                         want->name, traits->name);
    }
    if (have->data == NULL || (uintptr_t)have->data % (traits->block_size == 1 ? traits->block_bytes : 1) != 0) {
        return nano_fail(err, NANO_ERR_FORMAT, "%s: tensor %s is not aligned to its elements", path, want->name);
    }
    model->weights[i] = have;
    model->weight_bytes += have->n_bytes;
    return NANO_OK;
}

/* What the numbers in an input choose from, for op `t` that reads it: columns of logits, or rows of a table. */
static int64_t n_choices(const nano_graph *graph, const nano_tensor *t, nano_input input) {
    if (input == NANO_INPUT_TARGETS) {
        return graph->tensors[t->src[0]].ne[0];
    }
    int64_t n = INT64_MAX;
    for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
        /* A gradient may come as what it is after something was added to it. */
        const nano_tensor *table = &graph->tensors[graph->tensors[t->src[k]].root];
        const bool is_table = table->storage == NANO_STORE_WEIGHT || table->storage == NANO_STORE_GRAD;
        n = is_table && table->n_dims == 2 ? nano_min_i64(n, table->ne[1]) : n;
    }
    return n;
}

/* How far token ids, positions and targets may go. */
static void measure_tables(nano_model *model) {
    const nano_graph *graph = model->graph;
    int64_t limits[NANO_INPUT_LAST + 1];
    for (int k = 0; k <= NANO_INPUT_LAST; k++) {
        limits[k] = INT64_MAX;
    }
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const nano_tensor *t = &graph->tensors[i];
        for (int k = 0; k < NANO_MAX_SRC && t->src[k] >= 0; k++) {
            const nano_tensor *source = &graph->tensors[t->src[k]];
            if (source->storage == NANO_STORE_INPUT) {
                int64_t *limit = &limits[source->index];
                *limit = nano_min_i64(*limit, n_choices(graph, t, (nano_input)source->index));
            }
        }
    }
    model->n_token_ids = limits[NANO_INPUT_TOKENS];
    model->n_positions = limits[NANO_INPUT_POSITIONS];
    model->n_targets = limits[NANO_INPUT_TARGETS];
}

/* Ops of a training step rely on what nano_session_gradient does, which runs programs with a loss alone. */
static nano_status measure_output(nano_model *model, nano_error *err) {
    const nano_graph *graph = model->graph;
    bool is_training = false;
    for (int32_t i = 0; i < graph->n_tensors; i++) {
        const nano_tensor *t = &graph->tensors[i];
        model->has_gradients = model->has_gradients || t->storage == NANO_STORE_GRAD || t->op == NANO_OP_ATTENTION_GRAD;
        is_training = is_training || (t->storage == NANO_STORE_INPUT &&
                                      (t->index == NANO_INPUT_TARGETS || t->index == NANO_INPUT_WEIGHTS));
    }
    model->has_loss = nano_tensor_is_scalar(&graph->tensors[graph->output]);
    model->n_vocab = graph->tensors[graph->output].ne[0];
    if (!model->has_loss && (is_training || model->has_gradients)) {
        return nano_fail(err, NANO_ERR_SHAPE, "%s: the program trains, but its output is not a loss",
                         nano_gguf_path(model->gguf));
    }
    return NANO_OK;
}

/* A program's fault, with where it is. */
static nano_status blame(const nano_gguf *gguf, const void *program, const nano_error *why, nano_error *err) {
    const nano_gguf_value *own = nano_gguf_find(gguf, "nanollm.program");
    return nano_fail(err, why->status, "%s: %s%s", nano_gguf_path(gguf),
                     own != NULL && own->data == program ? "nanollm.program: " : "", why->message);
}

nano_status nano_model_check_architecture(const nano_gguf *model, const nano_gguf *adapter, nano_error *err) {
    static const char key[] = "general.architecture";
    nano_str expected, found;
    if (nano_gguf_get_str(model, key, &expected, NULL) != NANO_OK ||
        nano_gguf_get_str(adapter, key, &found, NULL) != NANO_OK ||
        (found.size == expected.size && memcmp(found.data, expected.data, found.size) == 0)) {
        return NANO_OK;
    }
    return nano_fail(err, NANO_ERR_ARGUMENT, "%s: %s: found '%.*s', expected '%.*s' as in %s", nano_gguf_path(adapter),
                     key, (int)(found.size < 64 ? found.size : 64), found.data,
                     (int)(expected.size < 64 ? expected.size : 64), expected.data, nano_gguf_path(model));
}

static nano_status take_files(nano_model *model, const nano_gguf *const *files, int32_t n_files, nano_error *err) {
    model->files = calloc((size_t)n_files, sizeof *model->files);
    if (model->files == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "model: out of memory");
    }
    for (int32_t i = 0; i < n_files; i++) {
        model->files[i] = files[i];
        NANO_TRY(nano_model_check_architecture(files[0], files[i], err));
    }
    model->gguf = files[0];
    model->n_files = n_files;
    return NANO_OK;
}

static nano_status load_program(nano_model *model, const void *program, size_t size, nano_error *err) {
    nano_error why = {NANO_OK, ""};
    model->program_hash = nano_hash(NANO_HASH_START, program, size);
    if (nano_graph_load(program, size, &model->graph, &why) != NANO_OK) {
        return blame(model->gguf, program, &why, err);
    }
    model->weights = calloc((size_t)model->graph->n_tensors, sizeof *model->weights);
    return model->weights != NULL ? NANO_OK : nano_fail(err, NANO_ERR_MEMORY, "model: out of memory");
}

nano_status nano_model_create_with(const nano_gguf *const *files, int32_t n_files, const void *program, size_t size,
                                   nano_model **out, nano_error *err) {
    if (n_files < 1 || n_files > NANO_MAX_FILES) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "model: %d files, expected 1 to %d", (int)n_files, NANO_MAX_FILES);
    }
    nano_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        return nano_fail(err, NANO_ERR_MEMORY, "model: out of memory");
    }
    nano_status status = take_files(model, files, n_files, err);
    if (status == NANO_OK) {
        status = load_program(model, program, size, err);
    }
    for (int32_t i = 0; status == NANO_OK && i < model->graph->n_tensors; i++) {
        if (model->graph->tensors[i].storage == NANO_STORE_WEIGHT) {
            status = bind_weight(model, i, err);
        }
    }
    if (status == NANO_OK) {
        measure_tables(model);
        status = measure_output(model, err);
    }
    if (status != NANO_OK) {
        nano_model_free(model);
        return status;
    }
    *out = model;
    return NANO_OK;
}

nano_status nano_model_create(const nano_gguf *gguf, const void *program, size_t size, nano_model **out,
                              nano_error *err) {
    return nano_model_create_with(&gguf, 1, program, size, out, err);
}

void nano_model_free(nano_model *model) {
    if (model != NULL) {
        nano_graph_free(model->graph);
        free(model->files);
        free(model->weights);
        free(model);
    }
}

int64_t nano_model_n_vocab(const nano_model *model) { return model->n_vocab; }

uint64_t nano_model_fingerprint(const nano_model *model) {
    uint64_t h = model->program_hash;
    for (int32_t i = 0; i < model->n_files; i++) {
        const uint64_t size = nano_gguf_file_size(model->files[i]);
        h = nano_hash(h, &size, sizeof size);
    }
    for (int32_t i = 0; i < model->graph->n_tensors; i++) {
        const nano_gguf_tensor *t = model->weights[i];
        if (t == NULL) {
            continue;
        }
        h = nano_hash(h, t->name, strlen(t->name));
        h = nano_hash(h, &t->type, sizeof t->type);
        h = nano_hash(h, t->ne, sizeof t->ne);
        h = nano_hash(h, &t->offset, sizeof t->offset);
        /* Tunings of one model differ in nothing else. Few bytes: they may have to come from the disk. All of an
         * adapter's: stages of one training may differ in few. */
        bool is_all = model->graph->tensors[i].index != 0 || t->n_bytes < FINGERPRINT_SAMPLE;
        size_t sample = is_all ? t->n_bytes : FINGERPRINT_SAMPLE;
        h = nano_hash(h, (const uint8_t *)t->data + (t->n_bytes - sample) / 2, sample);
    }
    return h;
}

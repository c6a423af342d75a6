#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SHOWN = 200, NAME_WIDTH = 14, KEY_WIDTH = 44 };

static const double mib = 1048576.0;

/* --------------------------------------------------------------- the file */

contents report_contents(const nano_gguf *gguf) {
    contents c = {.n_tensors = nano_gguf_n_tensors(gguf)};
    for (uint64_t i = 0; i < c.n_tensors; i++) {
        const nano_gguf_tensor *t = nano_gguf_tensor_at(gguf, i);
        int k = 0;
        while (k < c.n_types && c.types[k].type != t->type) {
            k++;
        }
        if (k == 64) {
            break;
        }
        c.n_types = k == c.n_types ? k + 1 : c.n_types;
        c.types[k].type = t->type;
        c.types[k].n_tensors++;
        c.types[k].n_bytes += t->n_bytes;
        c.n_bytes += t->n_bytes;
        c.n_parameters += (uint64_t)t->ne[0] * (uint64_t)t->ne[1] * (uint64_t)t->ne[2] * (uint64_t)t->ne[3];
    }
    for (int i = 1; i < c.n_types; i++) { /* insertion: stable, and there are few */
        for (int k = i; k > 0 && c.types[k].n_bytes > c.types[k - 1].n_bytes; k--) {
            const nano_type type = c.types[k].type;
            const uint64_t n_tensors = c.types[k].n_tensors, n_bytes = c.types[k].n_bytes;
            c.types[k] = c.types[k - 1];
            c.types[k - 1].type = type;
            c.types[k - 1].n_tensors = n_tensors;
            c.types[k - 1].n_bytes = n_bytes;
        }
    }
    return c;
}

/* White space runs become one space; what is longer than MAX_SHOWN characters is cut. */
static void add_shortened(text *t, const char *bytes, size_t size) {
    text clean = {NULL, 0, 0}, out = {NULL, 0, 0};
    size_t n_chars = 0, last = 0; /* where the last character begins */
    bool is_pending = false;
    text_add_clean(&clean, bytes, size);
    for (size_t i = 0; i < clean.size && n_chars <= MAX_SHOWN; i++) {
        const char c = clean.data[i];
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            is_pending = out.size > 0;
            continue;
        }
        const bool is_first = ((unsigned char)c & 0xC0) != 0x80;
        if (is_first && is_pending) {
            last = n_chars < MAX_SHOWN ? out.size : last;
            n_chars++;
            text_add(&out, " ", 1);
            is_pending = false;
        }
        last = is_first && n_chars < MAX_SHOWN ? out.size : last;
        n_chars += is_first ? 1 : 0;
        text_add(&out, &c, 1);
    }
    if (n_chars > MAX_SHOWN) {
        out.size = last;
        text_add(&out, "\xE2\x80\xA6", 3);
    }
    text_add(t, out.data, out.size);
    text_free(&clean);
    text_free(&out);
}

static void add_value(text *t, const nano_gguf_value *value) {
    int64_t integer = 0;
    double number = 0;
    nano_str string = {"", 0};
    size_t cursor = 0;
    switch (value->kind) {
        case NANO_GGUF_STRING:
            (void)nano_gguf_next_str(value, &cursor, &string);
            add_shortened(t, string.data, string.size);
            break;
        case NANO_GGUF_FLOAT32:
        case NANO_GGUF_FLOAT64:
            (void)nano_gguf_item_float(value, 0, &number);
            text_addf(t, "%.*g", value->kind == NANO_GGUF_FLOAT32 ? 9 : 17, number);
            break;
        default:
            (void)nano_gguf_item_int(value, 0, &integer);
            if (value->kind == NANO_GGUF_BOOL) {
                text_addf(t, "%s", integer != 0 ? "True" : "False");
            } else {
                text_addf(t, "%" PRId64, integer);
            }
    }
    text_add(t, "\n", 1);
}

static void add_row(text *t, const char *name, const char *format, ...) RUN_PRINTF(3, 4);
static void add_row(text *t, const char *name, const char *format, ...) {
    char value[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(value, sizeof value, format, args);
    va_end(args);
    text_addf(t, "%-*s%s\n", NAME_WIDTH, name, value);
}

/* A row for a key that the file has, arrays left out. */
static void add_key_row(text *t, const char *name, const nano_gguf *gguf, const char *key) {
    const nano_gguf_value *value = nano_gguf_find(gguf, key);
    if (value != NULL && value->kind != NANO_GGUF_ARRAY) {
        text_addf(t, "%-*s", NAME_WIDTH, name);
        add_value(t, value);
    }
}

/* With commas between thousands. */
static void add_count(text *t, uint64_t n) {
    if (n >= 1000) {
        add_count(t, n / 1000);
        text_addf(t, ",%03u", (unsigned)(n % 1000));
    } else {
        text_addf(t, "%u", (unsigned)n);
    }
}

void report_file(text *t, const nano_gguf *gguf, int64_t n_vocab) {
    static const struct {
        const char *name, *key;
    } hyperparameters[] = {
        {"n_ctx_train", "context_length"},  {"n_embd", "embedding_length"},           {"n_layer", "block_count"},
        {"n_head", "attention.head_count"}, {"n_head_kv", "attention.head_count_kv"}, {"n_ff", "feed_forward_length"}};
    const contents c = report_contents(gguf);
    nano_str name = {"unknown", 7};
    add_key_row(t, "name", gguf, "general.name");
    add_key_row(t, "description", gguf, "general.description");
    (void)nano_gguf_get_str(gguf, "general.architecture", &name, NULL);
    text_addf(t, "%-*s", NAME_WIDTH, "architecture");
    add_shortened(t, name.data, name.size);
    text_add(t, "\n", 1);
    if (c.n_tensors > 0) {
        text_addf(t, "%-*s", NAME_WIDTH, "parameters");
        add_count(t, c.n_parameters);
        text_addf(t, "\n%-*s%" PRIu64 " (", NAME_WIDTH, "tensors", c.n_tensors);
        for (int i = 0; i < c.n_types; i++) {
            text_addf(t, "%s%" PRIu64 " %s", i > 0 ? ", " : "", c.types[i].n_tensors, nano_type_name(c.types[i].type));
        }
        text_addf(t, "), ");
        text_add_bytes(t, c.n_bytes);
        text_add(t, "\n", 1);
    }
    if (n_vocab > 0) {
        add_row(t, "n_vocab", "%" PRId64, n_vocab);
    }
    for (size_t i = 0; i < sizeof hyperparameters / sizeof hyperparameters[0]; i++) {
        char key[256];
        (void)snprintf(key, sizeof key, "%.*s.%s", name.size < 128 ? (int)name.size : 128, name.data,
                       hyperparameters[i].key);
        add_key_row(t, hyperparameters[i].name, gguf, key);
    }
}

void report_metadata(text *t, const nano_gguf *gguf) {
    for (uint64_t i = 0; i < nano_gguf_n_values(gguf); i++) {
        const nano_gguf_value *value = nano_gguf_value_at(gguf, i);
        if (value->kind != NANO_GGUF_ARRAY) {
            text_addf(t, "%-*.*s", KEY_WIDTH, value->key.size < MAX_SHOWN ? (int)value->key.size : MAX_SHOWN,
                      value->key.data);
            add_value(t, value);
        }
    }
}

/* --------------------------------------------------------- model, sampler */

void report_memory(text *t, const engine *e) {
    const nano_memory *m = &e->memory;
    const nano_limits *l = &e->limits;
    char cache[128], slots[32] = "", batch[64], rows[64], threads[64], layers[64], device[160];
    const char *type_k = nano_type_name(l->type_k), *type_v = nano_type_name(l->type_v);
    if (l->n_slots != 1) {
        (void)snprintf(slots, sizeof slots, " x %" PRId32 " slots", l->n_slots);
    }
    if (l->type_k == l->type_v) {
        (void)snprintf(cache, sizeof cache, "%" PRId32 " positions%s, %s", l->n_ctx, slots, type_k);
    } else {
        (void)snprintf(cache, sizeof cache, "%" PRId32 " positions%s, %s keys, %s values", l->n_ctx, slots, type_k,
                       type_v);
    }
    (void)snprintf(batch, sizeof batch, "steps of at most %" PRId32 " tokens", l->n_batch);
    (void)snprintf(rows, sizeof rows, "at most %" PRId32 " rows a step", l->n_outputs);
    (void)snprintf(threads, sizeof threads, "%" PRId32 " threads", l->n_threads);
    (void)snprintf(layers, sizeof layers, "the last %" PRId32 " layers, the output", l->n_gpu_layers);
    (void)snprintf(device, sizeof device, "device %" PRId32 ", %s, device code %s", l->device, e->device.name,
                   e->device.image);
    const struct {
        const char *name;
        uint64_t bytes;
        const char *note;
    } table[] = {{"weights", m->weights, "mapped from the file"},
                 {"KV cache", m->cache, cache},
                 {"activations", m->activations, batch},
                 {"logits", m->outputs, rows},
                 {"scratch", m->scratch, threads},
                 {"bookkeeping", m->bookkeeping, ""},
                 {"allocated", m->allocated, "all but the weights"},
                 {"total", m->total, ""},
                 {"available", e->available, ""},
                 {"gpu weights", m->device_weights, layers},
                 {"gpu KV cache", m->device_cache, ""},
                 {"gpu rest", m->device - m->device_weights - m->device_cache, "activations, logits, inputs"},
                 {"gpu total", m->device, e->device.shares_memory ? "counted above, too: its memory is the same" : ""},
                 {"gpu free", e->device.memory_available, device}};
    const size_t n_rows = sizeof table / sizeof table[0] - (m->device > 0 ? 0 : 5);
    for (size_t i = 0; i < n_rows; i++) {
        const bool has_note = table[i].note[0] != '\0';
        text_addf(t, "%-12s%12.2f MiB%s%s\n", table[i].name, (double)table[i].bytes / mib, has_note ? "  " : "",
                  table[i].note);
    }
}

void report_devices(text *t) {
    const int32_t n = nano_device_count();
    nano_device d;
    nano_error err = {NANO_OK, ""};
    for (int32_t i = 0; i < n; i++) {
        if (nano_device_at(i, &d, &err) != NANO_OK) {
            text_addf(t, "%" PRId32 ": %s\n", i, err.message);
            continue;
        }
        text_addf(t, "%" PRId32 ": %s, compute capability %" PRId32 ".%" PRId32 ", ", i, d.name,
                  d.compute_capability / 10, d.compute_capability % 10);
        if (d.image[0] == '\0') {
            text_addf(t, "no device code for it in this build\n");
            continue;
        }
        text_addf(t, "device code %s, ", d.image);
        text_add_bytes(t, d.memory_available);
        text_addf(t, " free of ");
        text_add_bytes(t, d.memory_total);
        text_addf(t, "%s\n", d.shares_memory ? ", shared with the processor" : "");
    }
    if (n == 0) {
        (void)nano_device_at(0, &d, &err);
        text_addf(t, "no device: %s\n", err.message);
    }
}

void report_model(text *t, const engine *e, bool verbose) {
    add_row(t, "nanollm", "%s, cpu %s, %" PRId32 " threads", nano_version(), nano_cpu_level(), e->limits.n_threads);
    text_addf(t, "%-*s%s\n", NAME_WIDTH, "model", e->path);
    report_file(t, e->gguf, nano_model_n_vocab(e->model));
    for (int i = 0; i < e->adapters->n; i++) {
        const float scale = e->adapters->scales[i];
        text_addf(t, "%-*s%s", NAME_WIDTH, "adapter", e->adapters->paths[i]);
        text_addf(t, scale == 1.0f ? "\n" : ", scale %g\n", (double)scale);
    }
    add_row(t, "n_ctx", "%" PRId32, e->limits.n_ctx);
    add_row(t, "n_batch", "%" PRId32, e->limits.n_batch);
    text_add(t, "\n", 1);
    report_memory(t, e);
    text_add(t, "\n", 1);
    if (e->n_ctx_train > 0 && e->n_ctx_train < e->limits.n_ctx) {
        text_addf(t, "warning: trained on texts of %" PRId64 " tokens; a context of %" PRId32 " goes beyond\n\n",
                  e->n_ctx_train, e->limits.n_ctx);
    }
    if (verbose) {
        text_addf(t, "%-*s", NAME_WIDTH, "cpu levels");
        for (const char *c = nano_cpu_levels(); *c != '\0'; c++) {
            text_addf(t, *c == ',' ? ", " : "%c", *c);
        }
        text_add(t, "\n", 1);
        text_add(t, "\n", 1);
        report_metadata(t, e->gguf);
        text_add(t, "\n", 1);
    }
}

static void add_chain(text *t, const nano_sampler_params *p) {
    const bool penalises = p->penalty_last_n != 0 &&
                           (p->repeat_penalty != 1.0f || p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f);
    const bool is_greedy = p->temperature <= 0.0f, draws = !is_greedy && p->mirostat == 0;
    const struct {
        bool is_on;
        const char *name;
    } steps[] = {{p->n_bias > 0, "logit bias"},
                 {penalises, "penalties"},
                 {is_greedy, "greedy"},
                 {draws && p->top_k > 0, "top-k"},
                 {draws && p->typical_p < 1.0f, "typical"},
                 {draws && p->top_p < 1.0f, "top-p"},
                 {draws && p->min_p > 0.0f, "min-p"},
                 {!is_greedy, "temperature"},
                 {!is_greedy && p->mirostat == 1, "mirostat 1"},
                 {!is_greedy && p->mirostat == 2, "mirostat 2"},
                 {!is_greedy, "draw"}};
    const char *between = "";
    text_addf(t, "%-*s", NAME_WIDTH, "chain");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (steps[i].is_on) {
            text_addf(t, "%s%s", between, steps[i].name);
            between = " -> ";
        }
    }
    text_add(t, "\n", 1);
}

static void add_quoted(text *t, nano_str s) {
    text clean = {NULL, 0, 0};
    text_add_clean(&clean, s.data, s.size);
    text_add(t, "'", 1);
    for (size_t i = 0; i < clean.size; i++) {
        static const char meanings[] = "\n\r\t\\'", escapes[] = "nrt\\'";
        const char *known = clean.data[i] != '\0' ? strchr(meanings, clean.data[i]) : NULL;
        text_add(t, "\\", known != NULL ? 1 : 0);
        text_add(t, known != NULL ? &escapes[known - meanings] : &clean.data[i], 1);
    }
    text_add(t, "'", 1);
    text_free(&clean);
}

void report_prompt(text *t, const generation *g, bool verbose) {
    const nano_sampler_params *p = &g->params;
    char last_n[32] = "whole context";
    if (p->penalty_last_n >= 0) {
        (void)snprintf(last_n, sizeof last_n, "%" PRId32, p->penalty_last_n);
    }
    add_row(t, "seed", "%" PRIu64, p->seed);
    add_row(t, "sampler", "temperature %g, top_k %" PRId32 ", top_p %g, min_p %g, typical_p %g", (double)p->temperature,
            p->top_k, (double)p->top_p, (double)p->min_p, (double)p->typical_p);
    add_row(t, "", "repeat_penalty %g, presence %g, frequency %g over the last %s", (double)p->repeat_penalty,
            (double)p->presence_penalty, (double)p->frequency_penalty, last_n);
    if (p->mirostat != 0) {
        add_row(t, "", "mirostat %" PRId32 ", eta %g, tau %g", p->mirostat, (double)p->mirostat_eta,
                (double)p->mirostat_tau);
    }
    add_chain(t, p);
    add_row(t, "prompt", "%" PRId32 " tokens", g->n_prompt);
    for (int32_t i = 0; verbose && i < g->n_prompt; i++) {
        const nano_str s = nano_tokenizer_spelling(g->engine->tokenizer, g->tokens[i]);
        text_addf(t, "%8" PRId32 "  ", g->tokens[i]);
        add_quoted(t, s);
        text_add(t, "\n", 1);
    }
    text_add(t, "\n", 1);
}

static void add_timing(text *t, const char *name, double ms, int64_t n, const char *unit) {
    text_addf(t, "%12s time = %11.2f ms", name, ms);
    if (unit != NULL) {
        text_addf(t, " / %5" PRId64 " %s", n, unit);
    }
    if (unit != NULL && n > 0 && ms > 0) {
        text_addf(t, " (%9.2f ms per token, %9.2f tokens per second)", ms / (double)n, 1000.0 * (double)n / ms);
    }
    text_add(t, "\n", 1);
}

void report_timings(text *t, const timings *spent) {
    add_timing(t, "load", spent->load_ms, 0, NULL);
    add_timing(t, "sampling", spent->sample_ms, spent->n_sample, "runs  ");
    add_timing(t, "prompt eval", spent->prompt_ms, spent->n_prompt, "tokens");
    add_timing(t, "eval", spent->eval_ms, spent->n_eval, "runs  ");
    add_timing(t, "total", spent->total_ms, spent->n_prompt + spent->n_eval, "tokens");
    if (spent->n_drafted > 0) {
        text_addf(t, "%12s      = %8" PRId64 " tokens drafted, %" PRId64 " accepted\n", "lookup", spent->n_drafted,
                  spent->n_accepted);
    }
    text_addf(t, "%12s      = %11.2f MiB\n", "peak memory", (double)nano_memory_peak() / mib);
}

/* -------------------------------------------------------------------- JSON */

/* A mask as one decimal number, which JSON can hold at any size. */
static void add_mask(text *t, const uint64_t mask[4]) {
    uint32_t parts[8];
    char digits[80];
    int n = 0;
    bool is_zero = false;
    for (int i = 0; i < 8; i++) {
        parts[i] = (uint32_t)(mask[i / 2] >> (32 * (i % 2)));
    }
    while (!is_zero) {
        uint64_t rest = 0;
        is_zero = true;
        for (int i = 7; i >= 0; i--) {
            rest = rest << 32 | parts[i];
            parts[i] = (uint32_t)(rest / 10);
            rest %= 10;
            is_zero = is_zero && parts[i] == 0;
        }
        digits[n++] = (char)('0' + (int)rest);
    }
    while (n > 0) {
        text_add(t, &digits[--n], 1);
    }
}

void report_memory_json(text *t, const engine *e, bool has_largest) {
    const nano_memory *m = &e->memory;
    const nano_limits *l = &e->limits;
    text_addf(t,
              "\"weights\": %" PRIu64 ", \"cache\": %" PRIu64 ", \"activations\": %" PRIu64 ", \"outputs\": %" PRIu64
              ", \"scratch\": %" PRIu64 ", \"parameters\": %" PRIu64 ", \"gradients\": %" PRIu64
              ", \"optimizer\": %" PRIu64 ", \"bookkeeping\": %" PRIu64 ", \"allocated\": %" PRIu64
              ", \"total\": %" PRIu64 ", \"device\": %" PRIu64 ", \"device_weights\": %" PRIu64
              ", \"device_cache\": %" PRIu64 ", \"available\": %" PRIu64,
              m->weights, m->cache, m->activations, m->outputs, m->scratch, m->parameters, m->gradients, m->optimizer,
              m->bookkeeping, m->allocated, m->total, m->device, m->device_weights, m->device_cache, e->available);
    text_addf(t,
              ", \"limits\": {\"n_ctx\": %" PRId32 ", \"n_batch\": %" PRId32 ", \"n_slots\": %" PRId32
              ", \"n_outputs\": %" PRId32 ", \"n_threads\": %" PRId32 ", \"type_k\": \"%s\", \"type_v\": \"%s\""
              ", \"deterministic\": %s, \"importance\": %s, \"n_threads_batch\": %" PRId32 ", \"cpu_mask\": ",
              l->n_ctx, l->n_batch, l->n_slots, l->n_outputs, l->n_threads, nano_type_name(l->type_k),
              nano_type_name(l->type_v), l->deterministic ? "true" : "false", l->importance ? "true" : "false",
              l->n_threads_batch);
    add_mask(t, l->cpu_mask);
    /* Nothing is trained here. */
    text_addf(t,
              ", \"poll\": %" PRId32 ", \"optimizer\": \"none\", \"history\": %" PRId32 ", \"n_gpu_layers\": %" PRId32
              ", \"device\": %" PRId32 "}, \"largest_n_ctx\": ",
              l->poll, l->history, l->n_gpu_layers, l->device);
    if (has_largest) {
        text_addf(t, "%" PRId32, e->largest_n_ctx);
    } else {
        text_addf(t, "null");
    }
    text_addf(t, ", \"device_available\": %" PRIu64, e->device.memory_available);
    text_addf(t, ", \"device_name\": ");
    text_add_json(t, e->device.name, strlen(e->device.name));
    text_addf(t, ", \"device_image\": ");
    text_add_json(t, e->device.image, strlen(e->device.image));
    text_addf(t, ", \"device_shares_memory\": %s", e->device.shares_memory ? "true" : "false");
}

void report_result_json(text *t, const generation *g, nano_str answer, const timings *spent) {
    text_addf(t, "{\"model\": ");
    text_add_json(t, g->engine->path, strlen(g->engine->path));
    text_addf(t, ", \"text\": ");
    text_add_json(t, answer.data, answer.size);
    text_addf(
        t, ", \"n_prompt\": %" PRId32 ", \"n_generated\": %" PRId32 ", \"finish_reason\": \"%s\", \"seed\": %" PRIu64,
        g->n_prompt, g->n_ids, reason_name(g->reason), g->params.seed);
    text_addf(t,
              ", \"timings\": {\"load_ms\": %.3f, \"sample_ms\": %.3f, \"n_sample\": %" PRId64 ", \"prompt_ms\": %.3f"
              ", \"n_prompt\": %" PRId64 ", \"n_cached\": %" PRId64 ", \"eval_ms\": %.3f, \"n_eval\": %" PRId64
              ", \"n_drafted\": %" PRId64 ", \"n_accepted\": %" PRId64 ", \"total_ms\": %.3f}, \"memory\": {",
              spent->load_ms, spent->sample_ms, spent->n_sample, spent->prompt_ms, spent->n_prompt, spent->n_cached,
              spent->eval_ms, spent->n_eval, spent->n_drafted, spent->n_accepted, spent->total_ms);
    report_memory_json(t, g->engine, false);
    text_addf(t, ", \"peak\": %" PRIu64 "}, \"cpu\": \"%s\", \"version\": \"%s\"}\n", nano_memory_peak(),
              nano_cpu_level(), nano_version());
}

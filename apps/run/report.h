/* What is printed about a model and a run: the same words, tables and JSON keys as nanollm-cli's. */
#ifndef RUN_REPORT_H
#define RUN_REPORT_H

#include "generation.h"

/* The file at a glance: a row a fact, `n_vocab` 0 left out. */
void report_file(text *t, const nano_gguf *gguf, int64_t n_vocab);
void report_metadata(text *t, const nano_gguf *gguf);
/* The devices that can run layers, a line each; or why there is none. */
void report_devices(text *t);
/* The plan's table. */
void report_memory(text *t, const engine *e);
/* The model, its memory, the machine. */
void report_model(text *t, const engine *e, bool verbose);
/* The sampler as it will run, and the prompt's tokens. */
void report_prompt(text *t, const generation *g, bool verbose);
/* The block at the end of a run. */
void report_timings(text *t, const timings *spent);

/* `"weights": ..., ..., "limits": {...}, "largest_n_ctx": ...`, and what is known of the device */
void report_memory_json(text *t, const engine *e, bool has_largest);
/* One line with everything. */
void report_result_json(text *t, const generation *g, nano_str answer, const timings *spent);

/* What a GGUF file holds: elements, bytes, and the type that takes most of them. */
typedef struct contents {
    uint64_t n_tensors, n_parameters, n_bytes;
    struct {
        nano_type type;
        uint64_t n_tensors, n_bytes;
    } types[64]; /* largest first */
    int n_types;
} contents;
contents report_contents(const nano_gguf *gguf);

#endif

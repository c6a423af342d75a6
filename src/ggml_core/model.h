/* A file and its program, bound: every weight found, its shape and type checked. */
#ifndef NANO_MODEL_H
#define NANO_MODEL_H

#include "graph/graph.h"

struct nano_model {
    const nano_gguf *gguf;
    nano_graph *graph;
    const nano_gguf_tensor **weights; /* by graph tensor; NULL for what is not a weight */
    uint64_t weight_bytes;
    int64_t n_vocab;     /* columns of the output */
    int64_t n_token_ids; /* smallest table that token ids index; INT64_MAX when none does */
    int64_t n_positions; /* smallest table that positions index; INT64_MAX when none does */
};

#endif

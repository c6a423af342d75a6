/* Files and a program, bound: every weight found, its shape and type checked. */
#ifndef NANO_MODEL_H
#define NANO_MODEL_H

#include "graph/graph.h"

struct nano_model {
    const nano_gguf *gguf;   /* files[0]: the model's */
    const nano_gguf **files; /* the model's and those of its adapters, as the graph numbers them */
    int32_t n_files;
    nano_graph *graph;
    const nano_gguf_tensor **weights; /* by graph tensor; NULL for what is not a weight */
    uint64_t weight_bytes;
    uint64_t program_hash; /* of the program's bytes */
    int64_t n_vocab;       /* columns of the output */
    int64_t n_token_ids;   /* smallest table that token ids index; INT64_MAX when none does */
    int64_t n_positions;   /* smallest table that positions index; INT64_MAX when none does */
    int64_t n_targets;     /* fewest columns that targets choose from; INT64_MAX when none does */
    bool has_loss;         /* the output is one, not logits */
    bool has_gradients;    /* or ops that make them from caches: those are F32, and hold whole sequences */
};

/* The file that the graph's weight `tensor` is in. */
static inline const nano_gguf *nano_model_file_of(const nano_model *model, int32_t tensor) {
    return model->files[model->graph->tensors[tensor].index];
}

/* Tells this model from another: its program, the names, types, shapes and places of its weights, samples of their
 * values, the sizes of its files; of adapters all values. */
uint64_t nano_model_fingerprint(const nano_model *model);

/* A model's own architecture is the one that its adapters were made for, where both say so. */
nano_status nano_model_check_architecture(const nano_gguf *model, const nano_gguf *adapter, nano_error *err);

#endif

/* Which type each tensor of a file gets: llama.cpp's recipes, as tables. */
#ifndef NANO_QUANTIZE_RECIPE_H
#define NANO_QUANTIZE_RECIPE_H

#include "base/error.h"

/* What the rules ask of a file. */
typedef struct nano_recipe {
    nano_ftype ftype;
    nano_type base;  /* the type of most matrices */
    int64_t n_layer; /* blocks, by the tensors' names */
    int64_t n_gqa;   /* query heads a key head; 1 when the file does not say */
    bool is_70b;     /* 80 layers of Llama with grouped heads, or of Qwen2 */
    bool is_tied;    /* there is no output.weight: the token embedding stands for it */
    bool has_importance;
} nano_recipe;

nano_status nano_recipe_create(const nano_gguf *gguf, nano_ftype ftype, bool has_importance, nano_recipe *out,
                               nano_error *err);

/* Is it a matrix that may be quantised at all? */
bool nano_recipe_covers(const nano_gguf_tensor *tensor);
bool nano_recipe_is_output(const nano_gguf_tensor *tensor);
bool nano_recipe_is_embedding(const nano_gguf_tensor *tensor);

/* The recipe's type for a matrix, which its rows may not fill. */
nano_type nano_recipe_type(const nano_recipe *recipe, const nano_gguf_tensor *tensor);

/* `type` where it fills rows of n elements, otherwise the next best that does. */
nano_type nano_recipe_fitting(nano_type type, int64_t n);

#endif

#include "quantize/recipe.h"

#include "types/types.h"

#include <stdio.h>
#include <string.h>

/* --------------------------------------------------------------- file types */

/* Numbers of general.file_type: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
enum {
    FTYPE_F32 = 0,
    FTYPE_F16 = 1,
    FTYPE_Q4_0 = 2,
    FTYPE_Q4_1 = 3,
    FTYPE_Q8_0 = 7,
    FTYPE_Q5_0 = 8,
    FTYPE_Q5_1 = 9,
    FTYPE_Q2_K = 10,
    FTYPE_Q3_K_S = 11,
    FTYPE_Q3_K_M = 12,
    FTYPE_Q3_K_L = 13,
    FTYPE_Q4_K_S = 14,
    FTYPE_Q4_K_M = 15,
    FTYPE_Q5_K_S = 16,
    FTYPE_Q5_K_M = 17,
    FTYPE_Q6_K = 18,
    FTYPE_IQ4_NL = 25,
    FTYPE_IQ4_XS = 30,
    FTYPE_BF16 = 32
};

typedef struct ftype_row {
    nano_ftype ftype;
    const char *name;
    nano_type base;
    const char *alias; /* another name, or NULL */
} ftype_row;

static const ftype_row ftypes[] = {
    {FTYPE_F32, "F32", NANO_TYPE_F32, NULL},          {FTYPE_F16, "F16", NANO_TYPE_F16, NULL},
    {FTYPE_BF16, "BF16", NANO_TYPE_BF16, NULL},       {FTYPE_Q8_0, "Q8_0", NANO_TYPE_Q8_0, NULL},
    {FTYPE_Q6_K, "Q6_K", NANO_TYPE_Q6_K, NULL},       {FTYPE_Q5_K_M, "Q5_K_M", NANO_TYPE_Q5_K, "Q5_K"},
    {FTYPE_Q5_K_S, "Q5_K_S", NANO_TYPE_Q5_K, NULL},   {FTYPE_Q5_1, "Q5_1", NANO_TYPE_Q5_1, NULL},
    {FTYPE_Q5_0, "Q5_0", NANO_TYPE_Q5_0, NULL},       {FTYPE_Q4_K_M, "Q4_K_M", NANO_TYPE_Q4_K, "Q4_K"},
    {FTYPE_Q4_K_S, "Q4_K_S", NANO_TYPE_Q4_K, NULL},   {FTYPE_IQ4_NL, "IQ4_NL", NANO_TYPE_IQ4_NL, NULL},
    {FTYPE_IQ4_XS, "IQ4_XS", NANO_TYPE_IQ4_XS, NULL}, {FTYPE_Q4_1, "Q4_1", NANO_TYPE_Q4_1, NULL},
    {FTYPE_Q4_0, "Q4_0", NANO_TYPE_Q4_0, NULL},       {FTYPE_Q3_K_L, "Q3_K_L", NANO_TYPE_Q3_K, NULL},
    {FTYPE_Q3_K_M, "Q3_K_M", NANO_TYPE_Q3_K, "Q3_K"}, {FTYPE_Q3_K_S, "Q3_K_S", NANO_TYPE_Q3_K, NULL},
    {FTYPE_Q2_K, "Q2_K", NANO_TYPE_Q2_K, NULL},       {NANO_FTYPE_COPY, "COPY", NANO_TYPE_F32, NULL},
};

enum { N_FTYPES = sizeof ftypes / sizeof ftypes[0] };

static const ftype_row *find_ftype(nano_ftype ftype) {
    for (int i = 0; i < N_FTYPES; i++) {
        if (ftypes[i].ftype == ftype) {
            return &ftypes[i];
        }
    }
    return NULL;
}

nano_ftype nano_ftype_at(int32_t i) { return i >= 0 && i < N_FTYPES ? ftypes[i].ftype : -1; }

const char *nano_ftype_name(nano_ftype ftype) {
    const ftype_row *row = find_ftype(ftype);
    return row != NULL ? row->name : NULL;
}

nano_ftype nano_ftype_from_name(const char *name) {
    char number[16];
    for (int i = 0; name != NULL && i < N_FTYPES; i++) {
        (void)snprintf(number, sizeof number, "%d", (int)ftypes[i].ftype);
        if (nano_same_name(name, ftypes[i].name) ||
            (ftypes[i].alias != NULL && nano_same_name(name, ftypes[i].alias)) ||
            (ftypes[i].ftype >= 0 && strcmp(name, number) == 0)) {
            return ftypes[i].ftype;
        }
    }
    return -1;
}

/* -------------------------------------------------------------------- rules */

/* The parts of a model that some recipe treats apart. */
typedef enum part { PART_OTHER, PART_VALUE, PART_ATTENTION_OUTPUT, PART_FFN_DOWN } part;

/* Where in the model a rule holds; i is the layer, n their number. */
typedef enum place {
    EVERYWHERE,
    LAYERS_2,           /* i < 2 */
    LAYERS_4,           /* i < 4 */
    LAYERS_16TH,        /* i < n / 16 */
    LAYERS_8TH,         /* i < n / 8 */
    LAYERS_8TH_BLIND,   /* the same, without importances */
    LAYERS_8TH_GUIDED,  /* the same, with importances */
    ENDS_AND_EVERY_3RD, /* the first and last eighth, and every third layer between them */
    GROUPED_4           /* at least four query heads a key head: the matrix is small, so bits are cheap */
} place;

typedef struct rule {
    nano_ftype ftype;
    part part;
    place place;
    nano_type type;
} rule;

/* The first that holds decides; where none does, it is the recipe's main type. */
static const rule rules[] = {
    {FTYPE_Q4_0, PART_FFN_DOWN, LAYERS_8TH_GUIDED, NANO_TYPE_Q4_1},
    {FTYPE_Q5_0, PART_FFN_DOWN, LAYERS_8TH_GUIDED, NANO_TYPE_Q5_1},

    {FTYPE_Q2_K, PART_VALUE, GROUPED_4, NANO_TYPE_Q4_K},
    {FTYPE_Q2_K, PART_VALUE, EVERYWHERE, NANO_TYPE_Q3_K},
    {FTYPE_Q2_K, PART_FFN_DOWN, EVERYWHERE, NANO_TYPE_Q3_K},
    {FTYPE_Q2_K, PART_ATTENTION_OUTPUT, EVERYWHERE, NANO_TYPE_Q3_K},

    {FTYPE_Q3_K_M, PART_VALUE, LAYERS_2, NANO_TYPE_Q5_K},
    {FTYPE_Q3_K_M, PART_VALUE, EVERYWHERE, NANO_TYPE_Q4_K},
    {FTYPE_Q3_K_M, PART_FFN_DOWN, LAYERS_16TH, NANO_TYPE_Q5_K},
    {FTYPE_Q3_K_M, PART_FFN_DOWN, EVERYWHERE, NANO_TYPE_Q4_K},
    {FTYPE_Q3_K_M, PART_ATTENTION_OUTPUT, EVERYWHERE, NANO_TYPE_Q4_K},

    {FTYPE_Q3_K_L, PART_VALUE, EVERYWHERE, NANO_TYPE_Q5_K},
    {FTYPE_Q3_K_L, PART_FFN_DOWN, EVERYWHERE, NANO_TYPE_Q5_K},
    {FTYPE_Q3_K_L, PART_ATTENTION_OUTPUT, EVERYWHERE, NANO_TYPE_Q5_K},

    {FTYPE_Q4_K_S, PART_VALUE, LAYERS_4, NANO_TYPE_Q5_K},
    {FTYPE_Q4_K_S, PART_FFN_DOWN, LAYERS_8TH, NANO_TYPE_Q5_K},

    {FTYPE_Q4_K_M, PART_VALUE, ENDS_AND_EVERY_3RD, NANO_TYPE_Q6_K},
    {FTYPE_Q4_K_M, PART_FFN_DOWN, ENDS_AND_EVERY_3RD, NANO_TYPE_Q6_K},

    {FTYPE_Q5_K_M, PART_VALUE, ENDS_AND_EVERY_3RD, NANO_TYPE_Q6_K},
    {FTYPE_Q5_K_M, PART_FFN_DOWN, ENDS_AND_EVERY_3RD, NANO_TYPE_Q6_K},

    {FTYPE_IQ4_NL, PART_VALUE, GROUPED_4, NANO_TYPE_Q5_K},
    {FTYPE_IQ4_NL, PART_FFN_DOWN, LAYERS_8TH_BLIND, NANO_TYPE_Q5_K},

    {FTYPE_IQ4_XS, PART_VALUE, GROUPED_4, NANO_TYPE_Q5_K},
    {FTYPE_IQ4_XS, PART_FFN_DOWN, LAYERS_8TH_BLIND, NANO_TYPE_Q5_K},
};

static bool holds(place where, const nano_recipe *r, int64_t i) {
    const int64_t n = r->n_layer;
    switch (where) {
        case EVERYWHERE: return true;
        case LAYERS_2: return i < 2;
        case LAYERS_4: return i < 4;
        case LAYERS_16TH: return i < n / 16;
        case LAYERS_8TH: return i < n / 8;
        case LAYERS_8TH_BLIND: return i < n / 8 && !r->has_importance;
        case LAYERS_8TH_GUIDED: return i < n / 8 && r->has_importance;
        case ENDS_AND_EVERY_3RD: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        case GROUPED_4: return r->n_gqa >= 4;
    }
    return false;
}

/* -------------------------------------------------------------------- names */

static bool starts_with(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }

static bool ends_with(const char *s, const char *suffix) {
    const size_t n = strlen(s), n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(s + n - n_suffix, suffix) == 0;
}

enum { MAX_LAYERS = 1 << 20 };

/* "blk.12.attn_v.weight": 12, and *rest is "attn_v.weight". -1, and the whole name, where it is of no layer. */
static int64_t layer_of(const char *name, const char **rest) {
    int64_t layer = 0;
    const char *at = name + 4;
    *rest = name;
    if (!starts_with(name, "blk.")) {
        return -1;
    }
    for (; *at >= '0' && *at <= '9' && layer < MAX_LAYERS; at++) {
        layer = 10 * layer + (*at - '0');
    }
    if (*at != '.' || at == name + 4) {
        return -1;
    }
    *rest = at + 1;
    return layer;
}

static part part_of(const char *rest) {
    if (strcmp(rest, "attn_v.weight") == 0 || strcmp(rest, "attn_qkv.weight") == 0) {
        return PART_VALUE; /* a fused matrix is treated as its most sensitive third */
    }
    if (strcmp(rest, "attn_output.weight") == 0) {
        return PART_ATTENTION_OUTPUT;
    }
    return starts_with(rest, "ffn_down") ? PART_FFN_DOWN : PART_OTHER;
}

bool nano_recipe_is_output(const nano_gguf_tensor *tensor) { return strcmp(tensor->name, "output.weight") == 0; }

bool nano_recipe_is_embedding(const nano_gguf_tensor *tensor) { return strcmp(tensor->name, "token_embd.weight") == 0; }

bool nano_recipe_covers(const nano_gguf_tensor *tensor) {
    /* Learned positions, token types and the gates of experts are small and sensitive. */
    return (tensor->ne[1] > 1 || tensor->ne[2] > 1 || tensor->ne[3] > 1) && ends_with(tensor->name, "weight") &&
           !ends_with(tensor->name, "_norm.weight") && !ends_with(tensor->name, "ffn_gate_inp.weight") &&
           strcmp(tensor->name, "position_embd.weight") != 0 && strcmp(tensor->name, "token_types.weight") != 0;
}

/* ------------------------------------------------------------------ recipes */

/* The first of `key`'s integers below general.architecture's name; `otherwise` where there is none. */
static int64_t hyperparameter(const nano_gguf *gguf, nano_str architecture, const char *key, int64_t otherwise) {
    char full[128];
    int64_t value;
    if (architecture.size > 64) {
        return otherwise;
    }
    (void)snprintf(full, sizeof full, "%.*s.%s", (int)architecture.size, architecture.data, key);
    return nano_gguf_item_int(nano_gguf_find(gguf, full), 0, &value) ? value : otherwise;
}

static bool is_text(nano_str s, const char *text) {
    return s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

nano_status nano_recipe_create(const nano_gguf *gguf, nano_ftype ftype, bool has_importance, nano_recipe *out,
                               nano_error *err) {
    const ftype_row *row = find_ftype(ftype);
    if (row == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "ftype: found %d, expected a file type that is known", (int)ftype);
    }
    nano_str architecture = {"", 0};
    (void)nano_gguf_get_str(gguf, "general.architecture", &architecture, NULL);
    const int64_t n_head = hyperparameter(gguf, architecture, "attention.head_count", 1);
    const int64_t n_head_kv = hyperparameter(gguf, architecture, "attention.head_count_kv", n_head);
    nano_recipe r = {ftype, row->base, 0, 1, false, true, has_importance};
    r.n_gqa = n_head_kv > 0 ? n_head / n_head_kv : 0;
    for (uint64_t i = 0; i < nano_gguf_n_tensors(gguf); i++) {
        const nano_gguf_tensor *tensor = nano_gguf_tensor_at(gguf, i);
        const char *rest;
        const int64_t layer = layer_of(tensor->name, &rest);
        r.n_layer = layer >= r.n_layer ? layer + 1 : r.n_layer;
        r.is_tied = r.is_tied && !nano_recipe_is_output(tensor);
    }
    const bool is_grouped_llama = is_text(architecture, "llama") && n_head != n_head_kv;
    r.is_70b = r.n_layer == 80 && (is_grouped_llama || is_text(architecture, "qwen2"));
    *out = r;
    return NANO_OK;
}

nano_type nano_recipe_type(const nano_recipe *r, const nano_gguf_tensor *tensor) {
    if (nano_type_block_size(r->base) == 1) {
        return r->base;
    }
    if (nano_recipe_is_output(tensor) || (r->is_tied && nano_recipe_is_embedding(tensor))) {
        const bool fills = tensor->ne[0] % nano_type_block_size(r->base) == 0;
        return fills && r->base != NANO_TYPE_Q8_0 ? NANO_TYPE_Q6_K : NANO_TYPE_Q8_0;
    }
    const char *rest;
    const int64_t layer = layer_of(tensor->name, &rest);
    const part p = part_of(rest);
    nano_type type = r->base;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].ftype == r->ftype && rules[i].part == p && holds(rules[i].place, r, layer)) {
            type = rules[i].type;
            break;
        }
    }
    /* There eight query heads share a key head: more bits for its small value matrix cost next to nothing. */
    if (r->is_70b && p == PART_VALUE && (type == NANO_TYPE_Q3_K || type == NANO_TYPE_Q4_K)) {
        return NANO_TYPE_Q5_K;
    }
    return type;
}

nano_type nano_recipe_fitting(nano_type type, int64_t n) {
    static const struct {
        nano_type from, to;
    } smaller[] = {
        {NANO_TYPE_Q2_K, NANO_TYPE_Q4_0}, {NANO_TYPE_Q3_K, NANO_TYPE_Q4_0}, {NANO_TYPE_IQ4_XS, NANO_TYPE_IQ4_NL},
        {NANO_TYPE_Q4_K, NANO_TYPE_Q5_0}, {NANO_TYPE_Q5_K, NANO_TYPE_Q5_1}, {NANO_TYPE_Q6_K, NANO_TYPE_Q8_0},
    };
    for (size_t i = 0; i < sizeof smaller / sizeof smaller[0]; i++) {
        if (smaller[i].from == type && n % nano_type_block_size(type) != 0) {
            type = smaller[i].to;
        }
    }
    return n % nano_type_block_size(type) == 0 ? type : NANO_TYPE_F16;
}

#include "types/types.h"

#include <float.h>

#include "base/arith.h"
#include "cpu/kernels.h"

static const nano_type_traits type_table[] = {
#define NANO_TYPE(NAME, name, id, block, bytes, activation) \
    {id,                                                    \
     #NAME,                                                 \
     block,                                                 \
     bytes,                                                 \
     NANO_TYPE_##activation,                                \
     nano_##name##_from_float,                              \
     nano_##name##_from_float_weighted,                     \
     nano_##name##_to_float},
#define NANO_TYPE_SIZE_ONLY(NAME, id, block, bytes) {id, #NAME, block, bytes, NANO_TYPE_F32, NULL, NULL, NULL},
#include "types/types.inc"
#undef NANO_TYPE
#undef NANO_TYPE_SIZE_ONLY
};

static const nano_type_traits a8_traits = {NANO_TYPE_A8,       "A8", NANO_A8_BLOCK,   40, NANO_TYPE_F32,
                                           nano_a8_from_float, NULL, nano_a8_to_float};

enum { N_TYPES = sizeof type_table / sizeof type_table[0] };

/* The types that a file can hold. */
static const nano_type_traits *find_public(nano_type type) {
    for (int i = 0; i < N_TYPES; i++) {
        if (type_table[i].type == type) {
            return &type_table[i];
        }
    }
    return NULL;
}

const nano_type_traits *nano_type_find(nano_type type) { return type == NANO_TYPE_A8 ? &a8_traits : find_public(type); }

const char *nano_type_name(nano_type type) {
    const nano_type_traits *t = find_public(type);
    return t != NULL ? t->name : NULL;
}

/* Without the locale that tolower obeys. */
static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

bool nano_same_name(const char *a, const char *b) {
    while (*a != '\0' && upper(*a) == upper(*b)) {
        a++;
        b++;
    }
    return upper(*a) == upper(*b);
}

nano_type nano_type_from_name(const char *name) {
    for (int i = 0; name != NULL && i < N_TYPES; i++) {
        if (nano_same_name(type_table[i].name, name)) {
            return type_table[i].type;
        }
    }
    return -1;
}

bool nano_type_is_supported(nano_type type) {
    const nano_type_traits *t = find_public(type);
    return t != NULL && t->to_float != NULL;
}

int64_t nano_type_block_size(nano_type type) {
    const nano_type_traits *t = find_public(type);
    return t != NULL ? t->block_size : 0;
}

size_t nano_type_block_bytes(nano_type type) {
    const nano_type_traits *t = find_public(type);
    return t != NULL ? t->block_bytes : 0;
}

size_t nano_type_row_bytes(nano_type type, int64_t n) {
    const nano_type_traits *t = find_public(type);
    size_t bytes = 0;
    if (t == NULL || n < 0 || n % t->block_size != 0) {
        return 0;
    }
    const uint64_t n_blocks = (uint64_t)(n / t->block_size);
    if (n_blocks > SIZE_MAX || !nano_mul_size((size_t)n_blocks, t->block_bytes, &bytes)) {
        return 0;
    }
    return bytes;
}

static nano_status check_conversion(nano_type type, int64_t n, const nano_type_traits **out, nano_error *err) {
    const nano_type_traits *t = find_public(type);
    if (t == NULL) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "type: found %d, expected a GGUF type number", (int)type);
    }
    if (t->to_float == NULL) {
        return nano_fail(err, NANO_ERR_UNSUPPORTED, "type: found %s, expected one that can be computed with", t->name);
    }
    if (n < 0 || n % t->block_size != 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: found %lld elements, expected whole blocks of %lld", t->name,
                         (long long)n, (long long)t->block_size);
    }
    *out = t;
    return NANO_OK;
}

nano_status nano_type_from_float(nano_type type, const float *x, void *y, int64_t n, nano_error *err) {
    const nano_type_traits *t = NULL;
    NANO_TRY(check_conversion(type, n, &t, err));
    t->from_float(x, y, n);
    return NANO_OK;
}

nano_status nano_type_to_float(nano_type type, const void *x, float *y, int64_t n, nano_error *err) {
    const nano_type_traits *t = NULL;
    NANO_TRY(check_conversion(type, n, &t, err));
    if (type == NANO_TYPE_F16) {
        nano_kernels_current()->f16_to_f32(x, y, n);
    } else {
        t->to_float(x, y, n);
    }
    return NANO_OK;
}

nano_status nano_type_quantize(nano_type type, const float *x, const float *importance, void *y, int64_t n_rows,
                               int64_t n_per_row, nano_error *err) {
    const nano_type_traits *t = NULL;
    NANO_TRY(check_conversion(type, n_per_row, &t, err));
    if (n_rows < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "%s: found %lld rows, expected 0 or more", t->name, (long long)n_rows);
    }
    for (int64_t i = 0; importance != NULL && i < n_per_row; i++) {
        if (!(importance[i] >= 0.0f && importance[i] <= FLT_MAX)) {
            return nano_fail(err, NANO_ERR_ARGUMENT, "%s: importance of column %lld: found %g, expected >= 0", t->name,
                             (long long)i, (double)importance[i]);
        }
    }
    const size_t row_bytes = (size_t)(n_per_row / t->block_size) * t->block_bytes;
    uint8_t *out = y;
    for (int64_t r = 0; r < n_rows; r++, x += n_per_row, out += row_bytes) {
        t->from_float_weighted(x, importance, out, n_per_row);
    }
    return NANO_OK;
}

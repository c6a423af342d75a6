/* The levels, and which one is in force. */
#include <stdlib.h>
#include <string.h>

#include "cpu/features.h"
#include "cpu/kernels/levels.h"

typedef struct level {
    const char *name;
    uint32_t needs;   /* bits of cpu/features.h, on top of those of the levels before it */
    bool is_optional; /* levels above it do without it */
    void (*init)(nano_kernels *k);
} level;

/* Lowest first; a level's kernels stand on those of the one before that the machine has. */
static const level levels[] = {
    {"generic", 0, false, nano_kernels_init_ref},
#if defined(NANO_HAVE_AVX2)
    {"avx2", NANO_CPU_AVX2 | NANO_CPU_FMA | NANO_CPU_F16C, false, nano_kernels_init_avx2},
#endif
#if defined(NANO_HAVE_AVXVNNI)
    {"avxvnni", NANO_CPU_AVXVNNI, true, nano_kernels_init_avxvnni},
#endif
#if defined(NANO_HAVE_AVX512)
    {"avx512", NANO_CPU_AVX512F | NANO_CPU_AVX512BW | NANO_CPU_AVX512DQ | NANO_CPU_AVX512VL | NANO_CPU_AVX512VNNI,
     false, nano_kernels_init_avx512},
#endif
#if defined(NANO_HAVE_AMX)
    {"amx", NANO_CPU_AVX512BF16 | NANO_CPU_AMX_BF16, false, nano_kernels_init_amx},
#endif
#if defined(NANO_HAVE_NEON)
    {"neon", NANO_CPU_NEON, false, nano_kernels_init_neon},
#endif
#if defined(NANO_HAVE_DOTPROD)
    {"dotprod", NANO_CPU_DOTPROD, false, nano_kernels_init_dotprod},
#endif
#if defined(NANO_HAVE_I8MM)
    {"i8mm", NANO_CPU_I8MM, false, nano_kernels_init_i8mm},
#endif
};

enum { N_LEVELS = sizeof levels / sizeof levels[0], LEVELS_TEXT = 64 };

/* Written by the first thread to claim them, read-only once built. */
static struct {
    nano_atomic claimed;
    nano_atomic built;
    int n_levels; /* that this machine can run; for each: */
    const level *level[N_LEVELS];
    nano_kernels kernels[N_LEVELS];
    char text[LEVELS_TEXT]; /* their names, comma-separated */
} tables;

/* The level in force, an index into `tables`. */
static nano_atomic chosen;

static int find_level(const char *name) {
    for (int i = 0; i < tables.n_levels; i++) {
        if (strcmp(tables.level[i]->name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static void find_levels(void) {
    const uint32_t features = nano_cpu_features();
    for (int i = 0; i < N_LEVELS; i++) {
        if ((features & levels[i].needs) == levels[i].needs) {
            tables.level[tables.n_levels++] = &levels[i];
        } else if (!levels[i].is_optional) {
            return;
        }
    }
}

static int default_level(void) {
    const char *forced = getenv("NANOLLM_CPU");
    const int found = forced != NULL ? find_level(forced) : -1;
    return found >= 0 ? found : tables.n_levels - 1;
}

static void build(void) {
    nano_kernels k;
    find_levels();
    for (int i = 0; i < tables.n_levels; i++) {
        tables.level[i]->init(&k);
        tables.kernels[i] = k;
        if (i > 0) {
            strncat(tables.text, ",", sizeof tables.text - strlen(tables.text) - 1);
        }
        strncat(tables.text, tables.level[i]->name, sizeof tables.text - strlen(tables.text) - 1);
    }
    nano_atomic_store(&chosen, default_level());
}

static void build_once(void) {
    if (NANO_LIKELY(nano_atomic_load(&tables.built) != 0)) {
        return;
    }
    if (nano_atomic_exchange(&tables.claimed, 1) == 0) {
        build();
        nano_atomic_store(&tables.built, 1);
    }
    while (nano_atomic_load(&tables.built) == 0) {
        nano_thread_yield();
    }
}

const nano_kernels *nano_kernels_current(void) {
    build_once();
    return &tables.kernels[nano_atomic_load(&chosen)];
}

const nano_kernels *nano_kernels_at(const char *name) {
    build_once();
    const int found = find_level(name);
    return found >= 0 ? &tables.kernels[found] : NULL;
}

const char *nano_kernels_name(const nano_kernels *k) { return tables.level[k - tables.kernels]->name; }

const char *nano_cpu_level(void) {
    build_once();
    return tables.level[nano_atomic_load(&chosen)]->name;
}

const char *nano_cpu_levels(void) {
    build_once();
    return tables.text;
}

nano_status nano_cpu_set_level(const char *name, nano_error *err) {
    build_once();
    if (name == NULL) {
        name = getenv("NANOLLM_CPU");
    }
    const int found = name != NULL ? find_level(name) : tables.n_levels - 1;
    if (found < 0) {
        return nano_fail(err, NANO_ERR_ARGUMENT, "cpu level: found %s, expected one of %s", name, tables.text);
    }
    nano_atomic_store(&chosen, found);
    return NANO_OK;
}

nano_linear_fn *nano_kernels_linear(const nano_kernels *k, nano_type type) {
    switch (type) {
#define NANO_TYPE(NAME, name, id, block, bytes, activation) \
    case NANO_TYPE_##NAME: return k->linear_##name;
#define NANO_TYPE_SIZE_ONLY(NAME, id, block, bytes)
#include "types/types.inc"
#undef NANO_TYPE
#undef NANO_TYPE_SIZE_ONLY
        default: return NULL;
    }
}

nano_convert_fn *nano_kernels_quantize(const nano_kernels *k, nano_type activation) {
    return activation == NANO_TYPE_A8 ? k->quantize_a8 : NULL;
}

nano_weigh_fn *nano_kernels_weigh(const nano_kernels *k, nano_type type) {
    switch (type) {
        case NANO_TYPE_F32: return k->weigh_f32;
        case NANO_TYPE_F16: return k->weigh_f16;
        case NANO_TYPE_Q8_0: return k->weigh_q8_0;
        case NANO_TYPE_Q4_0: return k->weigh_q4_0;
        default: return NULL;
    }
}

/*
 * The type table and its conversions: 16-bit floats against the nearest of all their values, found in double
 * precision; quantised types by what their definitions promise. (tests/test_types.py compares bytes with the gguf
 * package.)
 */
#include "types/types.h"

#include <math.h>

#include "tests/check.h"
#include "text/random.h"
#include "types/f16.h"

enum { N = 32 * 64 };

static nano_random rng;

static float random_float(float scale) { return (float)(nano_random_double(&rng) * 2.0 - 1.0) * scale; }

/* ---------------------------------------------------------- 16-bit floats */

/* The value of a format with so many mantissa bits and that exponent bias, by its definition. */
static double value_of(uint16_t h, int mantissa_bits, int bias) {
    const int exponent = (h & 0x7fff) >> mantissa_bits;
    const int mantissa = h & ((1 << mantissa_bits) - 1);
    const double size = exponent == 0 ? ldexp(mantissa, 1 - bias - mantissa_bits)
                                      : ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    return h & 0x8000 ? -size : size;
}

/* Every finite value survives; what lies between two goes to the nearer, ties to the even one. */
static void test_16_bit(nano_type type, int mantissa_bits, int bias, uint16_t infinity) {
    int n_wrong = 0;
    for (uint32_t h = 0; h < infinity; h++) {
        const double value = value_of((uint16_t)h, mantissa_bits, bias);
        const double next = value_of((uint16_t)(h + 1), mantissa_bits, bias); /* as if infinity were finite */
        const float middle = (float)((value + next) / 2.0);
        const float x[] = {(float)value, (float)-value, nextafterf(middle, 0.0f), middle, nextafterf(middle, INFINITY)};
        const uint16_t up = (uint16_t)(h + 1);
        const uint16_t expected[] = {(uint16_t)h, (uint16_t)(h | 0x8000u), (uint16_t)h, h & 1 ? up : (uint16_t)h, up};
        uint16_t found[5];
        float back = 0.0f;
        CHECK_OK(nano_type_from_float(type, x, found, 5, &check_error));
        CHECK_OK(nano_type_to_float(type, &h, &back, 1, &check_error));
        for (int i = 0; i < 5; i++) {
            n_wrong += found[i] != expected[i];
        }
        n_wrong += back != (float)value;
    }
    CHECK(n_wrong == 0);
}

static void test_16_bit_specials(nano_type type, uint16_t infinity) {
    const float x[] = {INFINITY, -INFINITY, NAN, 3.4e38f, nano_bits_f32(0x7f800001u)};
    uint16_t y[5];
    float back[5];
    CHECK_OK(nano_type_from_float(type, x, y, 5, &check_error));
    CHECK_OK(nano_type_to_float(type, y, back, 5, &check_error));
    CHECK(y[0] == infinity && y[1] == (infinity | 0x8000));
    CHECK(isinf(back[0]) && isinf(back[1]) && back[1] < 0.0f);
    CHECK(isnan(back[2]) && isnan(back[4]));
    CHECK(type == NANO_TYPE_BF16 || y[3] == infinity);
}

/* ------------------------------------------------------------- quantised */

/* The largest error of a block is about half of its scale: `steps` steps span the block's range. */
static void test_quantised(nano_type type, double steps, bool symmetric) {
    static float x[N];
    static float back[N];
    static uint8_t y[N * 2];
    const nano_type_traits *t = nano_type_find(type);
    for (int i = 0; i < N; i++) {
        x[i] = random_float(i % 96 < 32 ? 1.0f : 100.0f) + (symmetric ? 0.0f : 3.0f);
    }
    t->from_float(x, y, N);
    t->to_float(y, back, N);
    for (int b = 0; b < N; b += 32) {
        float lo = x[b];
        float hi = x[b];
        double worst = 0.0;
        for (int i = b; i < b + 32; i++) {
            lo = fminf(lo, x[i]);
            hi = fmaxf(hi, x[i]);
            worst = fmax(worst, fabs((double)x[i] - (double)back[i]));
        }
        const double range = symmetric ? 2.0 * fmax(fabs((double)lo), fabs((double)hi)) : (double)hi - (double)lo;
        const double f16_error = fmax(fabs((double)lo), fabs((double)hi)) / 512.0;
        /* the code at the far end of a symmetric 4- or 5-bit block is one short of it */
        CHECK(worst <= range / steps * (symmetric && steps < 100.0 ? 1.001 : 0.501) + f16_error);
    }
}

/* Damaged input gives some result, not undefined behaviour. */
static void test_not_finite(nano_type type) {
    float x[256];
    uint8_t y[512];
    for (int kind = 0; kind < 4; kind++) {
        const float odd[] = {NAN, INFINITY, 3e38f, 1e-45f};
        for (int i = 0; i < 256; i++) {
            x[i] = i % 3 == 0 ? odd[kind] : -odd[kind];
        }
        CHECK_OK(nano_type_from_float(type, x, y, 256, &check_error));
        CHECK_OK(nano_type_quantize(type, x, NULL, y, 1, 256, &check_error));
        CHECK_OK(nano_type_to_float(type, y, x, 256, &check_error));
    }
}

static void test_a8(void) {
    static float x[N];
    static float back[N];
    static uint32_t row[N / 32 * 10];
    for (int i = 0; i < N; i++) {
        x[i] = i / 32 == 3 ? 0.0f : random_float(2.0f);
    }
    x[5 * 32] = NAN;
    x[6 * 32] = INFINITY;
    nano_a8_from_float(x, row, N);
    nano_a8_to_float(row, back, N);
    for (int b = 0; b < N / 32; b++) {
        int32_t sum = 0;
        for (int i = 32 * b; i < 32 * b + 32; i++) {
            const double error = fabs((double)x[i] - (double)back[i]);
            CHECK(b == 5 || b == 6 || error <= 0.5001 * (double)nano_a8_d(row, N)[b]);
            sum += nano_a8_q(row)[i];
        }
        CHECK(nano_a8_block_sum(nano_a8_sum(row, N) + 2 * b) == sum);
    }
    CHECK(nano_a8_d(row, N)[3] == 0.0f);
    CHECK(isnan(back[5 * 32 + 1]) && isnan(back[6 * 32 + 1])); /* the damage stays visible */
}

/* ------------------------------------------------------------------ table */

static void test_table(void) {
    float x[32] = {0};
    uint8_t y[256];
    int n_types = 0;
    for (nano_type type = -1; type < 2000; type++) {
        const char *name = nano_type_name(type);
        n_types += name != NULL;
        CHECK((name == NULL) == (nano_type_block_size(type) == 0));
        CHECK((name == NULL) == (nano_type_block_bytes(type) == 0));
        CHECK(name == NULL || nano_type_from_name(name) == type);
        CHECK(name != NULL || !nano_type_is_supported(type));
    }
    CHECK(n_types >= 30);
    CHECK(nano_type_from_name("q4_k") == NANO_TYPE_Q4_K && nano_type_from_name("Bf16") == NANO_TYPE_BF16);
    CHECK(nano_type_from_name("q4") == -1 && nano_type_from_name("q4_00") == -1 && nano_type_from_name("") == -1);
    CHECK(nano_type_from_name(NULL) == -1);
    CHECK(nano_type_is_supported(NANO_TYPE_Q4_0) && !nano_type_is_supported(NANO_TYPE_IQ2_XS));
    CHECK(nano_type_name(NANO_TYPE_A8) == NULL && nano_type_find(NANO_TYPE_A8) != NULL);
    CHECK(nano_type_row_bytes(NANO_TYPE_Q8_0, 64) == 68 && nano_type_row_bytes(NANO_TYPE_Q8_0, 0) == 0);
    CHECK(nano_type_row_bytes(NANO_TYPE_Q8_0, 33) == 0 && nano_type_row_bytes(NANO_TYPE_Q8_0, -32) == 0);
    CHECK(nano_type_row_bytes(NANO_TYPE_F64, INT64_MAX) == 0 && nano_type_row_bytes(77, 32) == 0);
    CHECK_FAILS(NANO_ERR_ARGUMENT, "77", nano_type_from_float(77, x, y, 32, &check_error));
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "Q8_K", nano_type_to_float(NANO_TYPE_Q8_K, y, x, 0, &check_error));
    const float importance[32] = {1.0f, -1.0f};
    CHECK_OK(nano_type_quantize(NANO_TYPE_Q4_0, x, NULL, y, 1, 32, &check_error));
    CHECK_OK(nano_type_quantize(NANO_TYPE_Q4_0, x, importance, y, 1, 0, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "column 1",
                nano_type_quantize(NANO_TYPE_Q4_0, x, importance, y, 1, 32, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "-1 rows", nano_type_quantize(NANO_TYPE_Q4_0, x, NULL, y, -1, 32, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "32", nano_type_quantize(NANO_TYPE_Q4_K, x, NULL, y, 1, 32, &check_error));
    CHECK_FAILS(NANO_ERR_UNSUPPORTED, "Q8_1", nano_type_quantize(NANO_TYPE_Q8_1, x, NULL, y, 1, 32, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "33", nano_type_from_float(NANO_TYPE_Q4_0, x, y, 33, &check_error));
    CHECK_FAILS(NANO_ERR_ARGUMENT, "-32", nano_type_to_float(NANO_TYPE_Q4_0, y, x, -32, &check_error));
}

int main(void) {
    nano_random_seed(&rng, 7);
    test_table();
    test_16_bit(NANO_TYPE_F16, 10, 15, 0x7c00);
    test_16_bit(NANO_TYPE_BF16, 7, 127, 0x7f80);
    test_16_bit_specials(NANO_TYPE_F16, 0x7c00);
    test_16_bit_specials(NANO_TYPE_BF16, 0x7f80);
    test_quantised(NANO_TYPE_Q8_0, 254.0, true);
    test_quantised(NANO_TYPE_Q4_0, 16.0, true);
    test_quantised(NANO_TYPE_Q4_1, 15.0, false);
    test_quantised(NANO_TYPE_Q5_0, 32.0, true);
    test_quantised(NANO_TYPE_Q5_1, 31.0, false);
    for (nano_type type = 0; type < 64; type++) {
        if (nano_type_is_supported(type) && nano_type_block_size(type) > 1) {
            test_not_finite(type);
        }
    }
    test_a8();
    return check_result();
}

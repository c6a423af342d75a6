/*
 * The one random generator: xoshiro256** 1.0, seeded by SplitMix64, both as described in D. Blackman and S. Vigna,
 * "Scrambled linear pseudorandom number generators" (2021). Integer arithmetic only, so a seed gives the same
 * numbers on every platform.
 */
#ifndef NANO_TEXT_RANDOM_H
#define NANO_TEXT_RANDOM_H

#include <stdint.h>

typedef struct nano_random {
    uint64_t s[4];
} nano_random;

static inline uint64_t nano_splitmix64(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void nano_random_seed(nano_random *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        r->s[i] = nano_splitmix64(&seed);
    }
}

static inline uint64_t nano_random_next(nano_random *r) {
    uint64_t *s = r->s;
    uint64_t x = s[1] * 5;
    uint64_t result = ((x << 7) | (x >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, 1): the 53 high bits, so every value is exact in a double. */
static inline double nano_random_double(nano_random *r) {
    return (double)(nano_random_next(r) >> 11) * (1.0 / 9007199254740992.0);
}

#endif

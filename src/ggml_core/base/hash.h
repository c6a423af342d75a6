/* A 64-bit hash that finds damage and tells things apart; it does not withstand an adversary. */
#ifndef NANO_BASE_HASH_H
#define NANO_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NANO_HASH_START 0xcbf29ce484222325ULL

/* Goes on with `h` over n bytes; the result depends on how they are cut into calls. FNV-1a over words of 8 bytes, its
 * high half folded down after each, and the length at the end. */
static inline uint64_t nano_hash(uint64_t h, const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t word = 0;
    for (size_t left = n; left > 0;) {
        size_t piece = left < sizeof word ? left : sizeof word;
        word = 0;
        memcpy(&word, p, piece);
        h = (h ^ word) * 0x100000001b3ULL;
        h ^= h >> 32;
        p += piece;
        left -= piece;
    }
    h = (h ^ (uint64_t)n) * 0x100000001b3ULL;
    return h ^ (h >> 32);
}

#endif

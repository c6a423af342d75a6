#include "ggml_core.h"

/* Speculation without a second model: text that repeats itself is its own draft (A. Saxena, "Prompt Lookup Decoding",
 * 2023). Longer n-grams are surer guides than shorter ones, and later places than earlier ones. */
enum { LONGEST = 3 };

/* How many tokens, at most LONGEST, end both the text and its first n_first tokens. */
static int32_t n_common_end(const int32_t *tokens, int32_t n_tokens, int32_t n_first) {
    int32_t n = 0;
    while (n < LONGEST && n < n_first && tokens[n_first - 1 - n] == tokens[n_tokens - 1 - n]) {
        n++;
    }
    return n;
}

int32_t nano_lookup_draft(const int32_t *tokens, int32_t n_tokens, int32_t *draft, int32_t max_draft) {
    int32_t longest = 0, from = 0;
    for (int32_t i = n_tokens - 1; i > 0 && longest < LONGEST; i--) {
        int32_t n = n_common_end(tokens, n_tokens, i);
        if (n > longest) {
            longest = n;
            from = i;
        }
    }
    if (longest == 0) {
        return 0;
    }
    /* As in LZ77 the copy may run into itself, so that a short period goes on. */
    for (int32_t i = 0; i < max_draft; i++) {
        int32_t at = from + i;
        draft[i] = at < n_tokens ? tokens[at] : draft[at - n_tokens];
    }
    return max_draft > 0 ? max_draft : 0;
}

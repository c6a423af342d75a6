/* Drafts from the text itself. */
#include "tests/check.h"

#define N(array) (int32_t)(sizeof(array) / sizeof *(array))

static bool drafts(const int32_t *tokens, int32_t n_tokens, const int32_t *expected, int32_t n_expected) {
    int32_t draft[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    int32_t n = nano_lookup_draft(tokens, n_tokens, draft, n_expected);
    return n == n_expected && memcmp(draft, expected, (size_t)n * sizeof *draft) == 0 && draft[n] == -1;
}

static void test_longest_then_latest(void) {
    /* 2 3 occurs twice before; after 1 2 3, once, came 4; after the later 2 3 came 6. */
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 2, 3, 6, 1, 2, 3};
    CHECK(drafts(tokens, N(tokens), (const int32_t[]){4, 5, 2}, 3));
    CHECK(!drafts(tokens, 8, (const int32_t[]){1}, 1)); /* ends with 6, which is new */
    static const int32_t latest[] = {2, 3, 4, 2, 3, 6, 9, 2, 3};
    CHECK(drafts(latest, N(latest), (const int32_t[]){6, 9, 2}, 3));
    static const int32_t single[] = {7, 1, 8, 2, 7};
    CHECK(drafts(single, N(single), (const int32_t[]){1, 8, 2, 7}, 4));
}

static void test_more_than_three_count_as_three(void) {
    /* Four tokens match at the start, three match later: the later place wins. */
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 9, 2, 3, 4, 6, 1, 2, 3, 4};
    CHECK(drafts(tokens, N(tokens), (const int32_t[]){6, 1}, 2));
}

static void test_periods_go_on(void) {
    static const int32_t one[] = {5, 5};
    CHECK(drafts(one, N(one), (const int32_t[]){5, 5, 5, 5, 5}, 5));
    static const int32_t two[] = {9, 1, 2, 1, 2, 1, 2};
    CHECK(drafts(two, N(two), (const int32_t[]){1, 2, 1, 2, 1}, 5));
}

static void test_nothing_to_say(void) {
    static const int32_t tokens[] = {1, 2, 3, 1};
    int32_t draft[1] = {-1};
    CHECK(nano_lookup_draft(tokens, 0, draft, 1) == 0);
    CHECK(nano_lookup_draft(tokens, 1, draft, 1) == 0);
    CHECK(nano_lookup_draft(tokens, 3, draft, 1) == 0);
    CHECK(nano_lookup_draft(tokens, 4, draft, 0) == 0);
    CHECK(nano_lookup_draft(tokens, 4, draft, -1) == 0);
    CHECK(draft[0] == -1);
}

int main(void) {
    test_longest_then_latest();
    test_more_than_three_count_as_three();
    test_periods_go_on();
    test_nothing_to_say();
    return check_result();
}

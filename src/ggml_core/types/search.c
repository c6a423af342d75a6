#include "types/search.h"

void nano_book_fill(nano_book *book, const int8_t *values) {
    int code = 0;
    for (int i = 0; i < NANO_BOOK_HALVES; i++) {
        while (code < NANO_BOOK_SIZE - 1 && i - NANO_BOOK_HALVES / 2 >= values[code] + values[code + 1]) {
            code++;
        }
        book->nearest[i] = (uint8_t)code;
        book->value[i] = (float)values[code];
    }
}

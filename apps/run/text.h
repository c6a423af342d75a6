/* Strings that grow, and what is done with text on its way in. */
#ifndef RUN_TEXT_H
#define RUN_TEXT_H

#include "ggml_core.h"
#include "out.h"

/* Starts as all zeros. `data` ends with a NUL that `size` does not count; NULL while empty. */
typedef struct text {
    char *data;
    size_t size;
    size_t capacity;
} text;

/* Memory of n items, or the end of the program with a message. */
void *allocate(size_t n, size_t item_size);

void text_free(text *t);
void text_add(text *t, const char *bytes, size_t size);
void text_addf(text *t, const char *format, ...) RUN_PRINTF(2, 3);
/* Adds bytes as well-formed UTF-8: U+FFFD for the longest beginning of a character that does not become one
 * (Unicode 15, section 3.9), as Python's errors="replace". */
void text_add_clean(text *t, const char *bytes, size_t size);
/* Adds a text given as an option, cleaned, with \n, \r, \t, \\, \", \' and \xHH resolved; neighbouring \xHH are bytes
 * of UTF-8. */
void text_add_unescaped(text *t, const char *bytes, size_t size);
/* Adds a JSON string, quotes included. */
void text_add_json(text *t, const char *bytes, size_t size);
/* A size in the largest unit that leaves at least 1: "1.25 MiB". */
void text_add_bytes(text *t, uint64_t n);
nano_str text_str(const text *t);

/* Reads a file, or stdin for "-", as a prompt is read: well-formed UTF-8, every line end \n, the last one left out.
 * Returns an exit code. */
int text_read(text *t, const char *path);

#endif

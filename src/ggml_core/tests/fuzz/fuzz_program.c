/* Programs from outside: loading refuses what it must, and what loads saves to bytes that load again. */
#include "ggml_core.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nano_graph *graph = NULL, *again = NULL;
    nano_error err = {NANO_OK, ""};
    size_t saved = 0;
    if (nano_graph_load(data, size, &graph, &err) != NANO_OK) {
        return 0;
    }
    if (nano_graph_save(graph, NULL, 0, &saved, &err) == NANO_OK) {
        uint8_t *bytes = malloc(saved);
        if (bytes != NULL && (nano_graph_save(graph, bytes, saved, &saved, &err) != NANO_OK ||
                              nano_graph_load(bytes, saved, &again, &err) != NANO_OK)) {
            abort();
        }
        free(bytes);
        nano_graph_free(again);
    }
    nano_graph_free(graph);
    return 0;
}

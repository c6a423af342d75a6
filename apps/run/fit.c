/* `fit` and `info`: what a model is and needs, without loading it. */
#include "generate.h"
#include "report.h"

#include <inttypes.h>
#include <string.h>

static int plan(engine *e, const options *o) {
    nano_limits limits;
    int code = engine_limits(o, &limits);
    code = code == EXIT_OK ? engine_open(e, options_last(&o->models), &o->adapters) : code;
    code = code == EXIT_OK ? engine_plan(e, o->n_ctx, limits) : code;
    return code == EXIT_OK ? engine_find_largest(e) : code;
}

static void add_verdict(text *t, const engine *e) {
    text_addf(t, "\n%s: %s; ", e->path, engine_fits(e) ? "fits" : "does not fit");
    if (e->largest_n_ctx > 0) {
        text_addf(t, "a context of %" PRId32 " would fit\n", e->largest_n_ctx);
    } else {
        text_addf(t, "no context would fit\n");
    }
}

int run_fit(const options *o) {
    engine e = {.path = NULL};
    text t = {NULL, 0, 0};
    int code = plan(&e, o);
    if (code == EXIT_OK) {
        if (o->json) {
            text_addf(&t, "{\"model\": ");
            text_add_json(&t, e.path, strlen(e.path));
            text_addf(&t, ", \"fits\": %s, ", engine_fits(&e) ? "true" : "false");
            report_memory_json(&t, &e, true);
            text_addf(&t, "}\n");
        } else {
            report_memory(&t, &e);
            add_verdict(&t, &e);
        }
        emit(t.data, t.size);
        code = engine_fits(&e) ? EXIT_OK : EXIT_ERROR;
    }
    text_free(&t);
    engine_free(&e);
    return code;
}

int run_info(const options *o) {
    engine e = {.path = NULL};
    text t = {NULL, 0, 0};
    int code = plan(&e, o);
    if (code == EXIT_OK) {
        const nano_gguf *own = e.sidecar != NULL ? e.sidecar : e.gguf;
        text_addf(&t, "%-14s%s, ", "file", e.path);
        text_add_bytes(&t, nano_gguf_file_size(e.gguf));
        text_addf(&t, ", GGUF version %" PRIu32 "\n", nano_gguf_version(e.gguf));
        report_file(&t, e.gguf, nano_model_n_vocab(e.model));
        text_addf(&t, "%-14s%s\n", "program", e.sidecar != NULL ? nano_gguf_path(e.sidecar) : "in the file");
        text_addf(&t, "%-14s%s\n\n", "chat pieces",
                  nano_gguf_find(own, "nanollm.chat.open") != NULL ? "in the same place" : "none");
        report_memory(&t, &e);
        add_verdict(&t, &e);
        if (o->verbose) {
            text_add(&t, "\n", 1);
            report_metadata(&t, e.gguf);
        }
        emit(t.data, t.size);
    }
    text_free(&t);
    engine_free(&e);
    return code;
}

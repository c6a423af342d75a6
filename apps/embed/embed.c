/* A language model in a program of one's own: load, encode, step, choose the likeliest token, print, free. */
#include "ggml_core.h"

#include <stdio.h>
#include <string.h>

enum { N_CTX = 256, N_PREDICT = 32, N_SCRATCH = 1 << 16, N_PIECE = 4096 };

int main(int argc, char **argv) {
    static uint64_t scratch[N_SCRATCH / 8]; /* lent to the tokenizer */
    static char piece[N_PIECE];
    const char *path = argc > 1 ? argv[1] : "model.gguf", *prompt = argc > 2 ? argv[2] : "Once upon a time";
    int32_t ids[N_CTX], n_rows = 0;
    size_t n = 0, n_bytes = 0;
    nano_error err = {NANO_OK, ""};
    nano_gguf *gguf = NULL;
    nano_model *model = NULL;
    nano_plan *plan = NULL;
    nano_session *session = NULL;
    nano_tokenizer *tokenizer = NULL;
    nano_sampler *sampler = NULL;
    nano_decoder decoder;
    nano_limits limits = nano_limits_default();
    nano_sampler_params greedy = nano_sampler_params_default();
    limits.n_ctx = N_CTX;
    greedy.temperature = 0;
    nano_status status = nano_gguf_open(path, &gguf, &err); /* mapped, not read */
    const nano_gguf_value *program = status == NANO_OK ? nano_gguf_find(gguf, "nanollm.program") : NULL;
    if (program == NULL || nano_model_create(gguf, program->data, program->n_bytes, &model, &err) != NANO_OK ||
        nano_plan_create(model, &limits, &plan, &err) != NANO_OK || /* the exact memory is known here ... */
        nano_plan_memory(plan).total > nano_memory_available() ||   /* ... and nothing is allocated yet */
        nano_session_create(plan, &session, &err) != NANO_OK ||
        nano_tokenizer_create(gguf, &tokenizer, &err) != NANO_OK ||
        nano_sampler_create(&greedy, (int32_t)nano_model_n_vocab(model), &sampler, &err) != NANO_OK) {
        (void)fprintf(stderr, "%s\n", err.status != NANO_OK ? err.message : "no program, or no memory for it");
        return 1; /* a program that goes on frees what it has, as below: every free accepts NULL */
    }
    nano_decoder_init(&decoder, tokenizer, false);
    status = nano_tokenizer_encode(tokenizer, prompt, strlen(prompt), true, true, scratch, sizeof scratch, ids, N_CTX,
                                   &n, &err);
    for (int step = 0; status == NANO_OK && step <= N_PREDICT; step++, n = 1) { /* the prompt, then tokens */
        for (size_t i = 0; i < n && status == NANO_OK; i++) {
            status = nano_decoder_push(&decoder, tokenizer, ids[i], piece, sizeof piece, &n_bytes, &err);
            (void)fwrite(piece, 1, status == NANO_OK ? n_bytes : 0, stdout);
        }
        status = status == NANO_OK ? nano_session_eval(session, (int32_t)n, ids, NULL, NULL, &err) : status;
        status =
            status == NANO_OK ? nano_sampler_sample(sampler, nano_session_logits(session, &n_rows), ids, &err) : status;
        step = nano_tokenizer_is_end(tokenizer, ids[0]) ? N_PREDICT : step;
    }
    (void)fprintf(status == NANO_OK ? stdout : stderr, "%s\n", err.message);
    nano_sampler_free(sampler);
    nano_tokenizer_free(tokenizer);
    nano_session_free(session);
    nano_plan_free(plan);
    nano_model_free(model);
    nano_gguf_free(gguf);
    return status == NANO_OK ? 0 : 1;
}

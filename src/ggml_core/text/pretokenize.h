/* Splits text into the words that byte-level BPE merges within. Each rule is a published regular expression,
 * scanned by hand; ill-formed bytes count as symbols. */
#ifndef NANO_TEXT_PRETOKENIZE_H
#define NANO_TEXT_PRETOKENIZE_H

#include "ggml_core.h"

typedef enum nano_pretokenizer_kind {
    NANO_PRE_DEFAULT, /* runs of punctuation apart, GPT-2's rule, digits in threes */
    NANO_PRE_GPT2,    /* openai/gpt-2 */
    NANO_PRE_LLAMA3,  /* meta-llama/Meta-Llama-3-8B */
    NANO_PRE_QWEN2,   /* Qwen/Qwen2-7B: Llama 3's rule, each number character apart */
    NANO_PRE_SMOLLM   /* HuggingFaceTB/SmolLM-135M: each number character apart, GPT-2's rule */
} nano_pretokenizer_kind;

/* What a tokenizer.ggml.pre says. */
typedef struct nano_pretokenizer_name {
    const char *name;
    nano_pretokenizer_kind kind;
    bool whole_words; /* see nano_bpe */
    bool add_bos;     /* where the file does not say */
} nano_pretokenizer_name;

/* NULL when the name is not known. */
const nano_pretokenizer_name *nano_pretokenizer_find(nano_str name);

typedef struct nano_pretokenizer {
    nano_pretokenizer_kind kind;
    const uint8_t *at, *end;
    const uint8_t *segment_end; /* some rules cut the text twice: words do not cross a segment's end */
} nano_pretokenizer;

nano_pretokenizer nano_pretokenizer_start(nano_pretokenizer_kind kind, const uint8_t *text, size_t size);
/* Where the next word ends; it begins where the one before ended. Not to be called at the end of the text. */
const uint8_t *nano_pretokenizer_next(nano_pretokenizer *p);

#endif

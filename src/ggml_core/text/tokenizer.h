/*
 * Inside of a tokenizer. Two models, by GGUF's tokenizer.ggml.model:
 *   "gpt2"   byte-level BPE: text is split into words (pretokenize.c), a word's bytes are merged by rank (bpe.c)
 *   "llama"  SentencePiece BPE: a whole run of text is merged by score, unknown characters become bytes (spm.c)
 * Both merge with merge.c. Special tokens are cut out of the text first (special.c).
 */
#ifndef NANO_TEXT_TOKENIZER_H
#define NANO_TEXT_TOKENIZER_H

#include "ggml_core.h"
#include "text/merge.h"
#include "text/pretokenize.h"
#include "text/special.h"
#include "text/vocab.h"

/* tokenizer.ggml.token_type */
typedef enum nano_token_type {
    NANO_TOKEN_UNDEFINED = 0,
    NANO_TOKEN_NORMAL = 1,
    NANO_TOKEN_UNKNOWN = 2,
    NANO_TOKEN_CONTROL = 3,
    NANO_TOKEN_USER_DEFINED = 4,
    NANO_TOKEN_UNUSED = 5,
    NANO_TOKEN_BYTE = 6
} nano_token_type;

typedef enum nano_tokenizer_model { NANO_TOKENIZER_BPE, NANO_TOKENIZER_SPM } nano_tokenizer_model;

/* Longest text of one encode: positions in its escaped form fit an int32_t. */
#define NANO_TEXT_MAX ((size_t)1 << 29)

/* U+2581, which stands for a space in SentencePiece vocabularies. */
#define NANO_SPM_SPACE "\xE2\x96\x81"
enum { NANO_SPM_SPACE_BYTES = 3 };

/* A merge of byte-level BPE; its rank is its index. */
typedef struct nano_bpe_merge {
    int32_t left, right, merged;
} nano_bpe_merge;

typedef struct nano_bpe {
    nano_bpe_merge *merges; /* (n_merges) */
    uint32_t *slots;        /* open addressing by (left, right): rank + 1, 0 where empty */
    uint32_t slot_mask;
    uint32_t n_merges;
    bool whole_words; /* a word that is a token is that token, whatever the merges say */
} nano_bpe;

typedef struct nano_spm {
    uint32_t *order; /* (n_tokens): the token to merge first has the smallest */
    /* Bit (last byte of a character, first byte of the next): some token holds such two side by side. Text is cut
     * where none does: merges cannot cross, so the pieces give the same ids as the whole. U+2581 counts as a space. */
    uint8_t joins[256 * 256 / 8];
    bool add_space_prefix;
    size_t space_ids; /* most ids that one space becomes */
} nano_spm;

struct nano_tokenizer {
    nano_tokenizer_model model;
    nano_vocab vocab;
    uint8_t *types;        /* (n_tokens) nano_token_type */
    uint8_t *ends;         /* (n_tokens) 1: ends generation */
    int32_t byte_ids[256]; /* the token of a single byte, or -1 */
    nano_special special;
    nano_pretokenizer_kind pretokenizer;
    nano_bpe bpe;
    nano_spm spm;
    int32_t bos, eos, eot, unknown; /* or -1 */
    bool add_bos, add_eos;
};

/* One encode: the caller's scratch, divided, and his ids. */
typedef struct nano_encoder {
    const nano_tokenizer *tokenizer;
    nano_merger merger;
    uint8_t *bytes; /* the spelling of what is being merged */
    int32_t *ids;
    size_t capacity;
    size_t n_ids; /* also counts those past the capacity, which are not written */
} nano_encoder;

static inline void nano_encoder_emit(nano_encoder *e, int32_t id) {
    if (e->n_ids < e->capacity) {
        e->ids[e->n_ids] = id;
    }
    e->n_ids++;
}

/* bpe.c: `merges` is the value of tokenizer.ggml.merges; `path` stands in messages. */
nano_status nano_bpe_load(nano_tokenizer *t, const nano_gguf_value *merges, const char *path, nano_error *err);
void nano_bpe_encode(nano_encoder *e, const uint8_t *text, size_t size);
/* The character that stands for a byte in a byte-level vocabulary, and back (-1: none does). */
uint32_t nano_bpe_char_of_byte(uint8_t byte);
int32_t nano_bpe_byte_of_char(uint32_t code);

/* spm.c */
nano_status nano_spm_load(nano_tokenizer *t, const nano_gguf_value *scores, const char *path, nano_error *err);
void nano_spm_encode(nano_encoder *e, const uint8_t *text, size_t size, bool space_prefix);
/* The byte that a spelling "<0x0A>" means, or -1. */
int32_t nano_spm_byte_of_spelling(nano_str spelling);

#endif

/*
 * nanollm: a C99 tensor core for small language models.
 *
 * The one public header. The road through it:
 *
 *   nano_gguf_open          a GGUF file, mapped and bounds-checked
 *   nano_graph_create       a graph, shape-checked as it is built ...
 *   nano_graph_save         ... serialised: a program, which may travel in the file
 *   nano_model_create       file + program: every weight bound and checked
 *   nano_plan_create        model + limits: every buffer's offset, the exact bytes
 *   nano_session_create     plan + memory + threads; the last allocation
 *   nano_session_eval       one step: tokens in, logits out
 *   nano_session_gradient   ... or, of a program with a loss: a batch in, gradients out
 *
 * Rules that hold for every function:
 *  - A function that can fail returns a nano_status and, when `err` is not NULL, fills it. Outputs are
 *    written only on NANO_OK. Nothing is printed, nothing exits.
 *  - Objects are made by `..._create` / `..._open` and released by `..._free`, which accepts NULL.
 *  - `const` objects may be shared between threads; a session, sampler, writer or graph belongs to one
 *    thread at a time.
 *  - Shapes in comments are row-major, outermost first: (n_tokens, n_embd). The `ne` arrays follow GGUF:
 *    ne[0] is the innermost dimension.
 *  - Strings are UTF-8. Memory sizes are bytes.
 */
#ifndef GGML_CORE_H
#define GGML_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  define NANO_API
#elif defined(__GNUC__)
#  define NANO_API __attribute__((visibility("default")))
#else
#  define NANO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ status */

typedef enum nano_status {
    NANO_OK = 0,
    NANO_ERR_ARGUMENT,    /* the caller's mistake: a value out of its documented range */
    NANO_ERR_IO,          /* the operating system refused: open, read, write, map */
    NANO_ERR_FORMAT,      /* damaged or malicious data: file, program, tokenizer */
    NANO_ERR_UNSUPPORTED, /* well-formed, but a type, version or feature this build lacks */
    NANO_ERR_NOT_FOUND,   /* a key or a tensor that must be there is not */
    NANO_ERR_SHAPE,       /* tensors that do not go together */
    NANO_ERR_MEMORY,      /* does not fit, or the system has no more */
    NANO_ERR_LIMIT,       /* a planned limit is reached: context full, batch too long */
    NANO_ERR_CANCELLED,   /* nano_session_cancel was called */
    NANO_ERR_INTERNAL     /* a broken invariant; please report */
} nano_status;

/* What went wrong, in one line: the file, the key or tensor, what was found and what was expected. */
typedef struct nano_error {
    nano_status status;
    char message[500];
} nano_error;

NANO_API const char *nano_status_name(nano_status status); /* "NANO_ERR_IO"; never NULL */
NANO_API const char *nano_version(void);                   /* "0.1.0" */

/* ------------------------------------------------------------------- types */

/* A tensor's element type, by GGUF's number (0 = F32, 1 = F16, 8 = Q8_0, ...). */
typedef int32_t nano_type;

NANO_API const char *nano_type_name(nano_type type);            /* "Q8_0"; NULL when unknown */
NANO_API nano_type nano_type_from_name(const char *name);       /* any case; -1 when unknown */
NANO_API bool nano_type_is_supported(nano_type type);           /* can it be computed with? */
NANO_API int64_t nano_type_block_size(nano_type type);          /* elements a block; 0 when unknown */
NANO_API size_t nano_type_block_bytes(nano_type type);          /* bytes a block; 0 when unknown */
NANO_API size_t nano_type_row_bytes(nano_type type, int64_t n); /* 0 when n is not whole blocks or overflows */

/* Converts n elements (whole blocks) from and to float32: the same bits at every kernel level. */
NANO_API nano_status nano_type_from_float(nano_type type, const float *x, void *y, int64_t n, nano_error *err);
NANO_API nano_status nano_type_to_float(nano_type type, const void *x, float *y, int64_t n, nano_error *err);
/* Quantises n_rows rows of n_per_row elements (whole blocks), row after row in x and in y, searching for the scales
 * that minimise the squared error, each column's weighted by importance[column]: n_per_row finite numbers >= 0, the
 * same for all rows, or NULL for 1. Slower than nano_type_from_float and closer; equally a conversion for the types
 * that leave nothing to search (F32, F16, BF16, Q8_0). The result depends on nothing but x and importance, row by row. */
NANO_API nano_status nano_type_quantize(nano_type type, const float *x, const float *importance, void *y,
                                        int64_t n_rows, int64_t n_per_row, nano_error *err);

/* -------------------------------------------------------------------- GGUF */

/* Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; versions 2 and 3, little endian. */

typedef struct nano_gguf nano_gguf;

typedef enum nano_gguf_kind {
    NANO_GGUF_UINT8 = 0,
    NANO_GGUF_INT8 = 1,
    NANO_GGUF_UINT16 = 2,
    NANO_GGUF_INT16 = 3,
    NANO_GGUF_UINT32 = 4,
    NANO_GGUF_INT32 = 5,
    NANO_GGUF_FLOAT32 = 6,
    NANO_GGUF_BOOL = 7,
    NANO_GGUF_STRING = 8,
    NANO_GGUF_ARRAY = 9,
    NANO_GGUF_UINT64 = 10,
    NANO_GGUF_INT64 = 11,
    NANO_GGUF_FLOAT64 = 12
} nano_gguf_kind;

/* Bytes inside the mapped file; not NUL-terminated. */
typedef struct nano_str {
    const char *data;
    size_t size;
} nano_str;

/* One metadata value. Scalars: n_items = 1 and item_kind = kind. Arrays: item_kind is the items' kind
 * (arrays of arrays are refused at open). `data` points at the first item, unaligned, little endian; a string
 * there is its length as uint64 and then its bytes: nano_gguf_next_str walks them. */
typedef struct nano_gguf_value {
    nano_str key;
    nano_gguf_kind kind;
    nano_gguf_kind item_kind;
    uint64_t n_items;
    const uint8_t *data;
    size_t n_bytes;
} nano_gguf_value;

/* One tensor. `data` points into the mapping, aligned as the file says. */
typedef struct nano_gguf_tensor {
    const char *name; /* NUL-terminated, owned by the nano_gguf */
    nano_type type;
    int32_t n_dims;
    int64_t ne[4]; /* unused dims are 1 */
    size_t n_bytes;
    uint64_t offset; /* from the start of the file */
    const void *data;
} nano_gguf_tensor;

/* Maps `path` and checks everything: counts, lengths, kinds, duplicate keys and names, shapes, offsets
 * inside the file, aligned and not overlapping. Tensors of unknown type are refused with the type's number. */
NANO_API nano_status nano_gguf_open(const char *path, nano_gguf **out, nano_error *err);
/* The same over memory that the caller keeps alive and unchanged; it starts at a multiple of 8 when there are
 * tensors in it. `name` stands in messages for the path. */
NANO_API nano_status nano_gguf_open_memory(const void *data, size_t size, const char *name, nano_gguf **out,
                                           nano_error *err);
NANO_API void nano_gguf_free(nano_gguf *gguf);

NANO_API const char *nano_gguf_path(const nano_gguf *gguf);
NANO_API uint32_t nano_gguf_version(const nano_gguf *gguf);
NANO_API uint64_t nano_gguf_file_size(const nano_gguf *gguf);
NANO_API uint64_t nano_gguf_alignment(const nano_gguf *gguf);

NANO_API uint64_t nano_gguf_n_values(const nano_gguf *gguf);
NANO_API const nano_gguf_value *nano_gguf_value_at(const nano_gguf *gguf, uint64_t i);  /* NULL past the end */
NANO_API const nano_gguf_value *nano_gguf_find(const nano_gguf *gguf, const char *key); /* NULL when absent */
NANO_API uint64_t nano_gguf_n_tensors(const nano_gguf *gguf);
NANO_API const nano_gguf_tensor *nano_gguf_tensor_at(const nano_gguf *gguf, uint64_t i);
NANO_API const nano_gguf_tensor *nano_gguf_find_tensor(const nano_gguf *gguf, const char *name);

/* Items of a value, converted: item i of an array, item 0 of a scalar. False when i is out of range or the
 * kind cannot be converted without loss of meaning (a string is not a number; a float is not an integer; a bool
 * is an integer, 0 or 1, and no float), and when `value` is NULL. */
NANO_API bool nano_gguf_item_int(const nano_gguf_value *value, uint64_t i, int64_t *out);
NANO_API bool nano_gguf_item_float(const nano_gguf_value *value, uint64_t i, double *out);
/* Walks an array of strings (or one string): start with *cursor = 0; false at the end. O(1) a step. */
NANO_API bool nano_gguf_next_str(const nano_gguf_value *value, size_t *cursor, nano_str *out);

/* Typed look-ups. NANO_ERR_NOT_FOUND or NANO_ERR_FORMAT name the file, the key and the kinds. */
NANO_API nano_status nano_gguf_get_int(const nano_gguf *gguf, const char *key, int64_t *out, nano_error *err);
NANO_API nano_status nano_gguf_get_float(const nano_gguf *gguf, const char *key, double *out, nano_error *err);
NANO_API nano_status nano_gguf_get_str(const nano_gguf *gguf, const char *key, nano_str *out, nano_error *err);

/* ------------------------------------------------------------- GGUF writer */

/* Writes version 3 to a temporary file beside `path`; nano_gguf_writer_finish syncs and renames it, so an
 * interrupted run leaves the old file or none. Order of calls: open, set_* (metadata), tensor (declare all),
 * write (data, in the order declared, in any number of pieces a tensor), finish. */
typedef struct nano_gguf_writer nano_gguf_writer;

NANO_API nano_status nano_gguf_writer_open(const char *path, nano_gguf_writer **out, nano_error *err);
/* Scalars and arrays of numbers: `items` are n_items little-endian items of `kind`. A scalar is
 * is_array = false with n_items = 1. Setting a key twice is an error. */
NANO_API nano_status nano_gguf_writer_set(nano_gguf_writer *w, const char *key, nano_gguf_kind kind, bool is_array,
                                          const void *items, uint64_t n_items, nano_error *err);
NANO_API nano_status nano_gguf_writer_set_str(nano_gguf_writer *w, const char *key, bool is_array,
                                              const nano_str *items, uint64_t n_items, nano_error *err);
/* Copies a value of an open file, bytes unchanged. */
NANO_API nano_status nano_gguf_writer_copy(nano_gguf_writer *w, const nano_gguf_value *value, nano_error *err);
NANO_API nano_status nano_gguf_writer_tensor(nano_gguf_writer *w, const char *name, nano_type type, int32_t n_dims,
                                             const int64_t *ne, nano_error *err);
NANO_API nano_status nano_gguf_writer_write(nano_gguf_writer *w, const void *data, size_t n_bytes, nano_error *err);
NANO_API nano_status nano_gguf_writer_finish(nano_gguf_writer *w, nano_error *err);
/* Also abandons an unfinished file: the temporary one is removed. */
NANO_API void nano_gguf_writer_free(nano_gguf_writer *w);

/* --------------------------------------------------------- quantising files */

/* What a whole file is quantised to, by the numbers of its general.file_type (7 = Q8_0, 15 = Q4_K_M, ...). Each is a
 * recipe: a type for most matrices, and better ones for those where it pays. */
typedef int32_t nano_ftype;

enum { NANO_FTYPE_COPY = -2 }; /* no number of the format: every tensor stays as it is */

NANO_API nano_ftype nano_ftype_at(int32_t i);               /* all there are, i = 0, 1, ...; -1 past the end */
NANO_API const char *nano_ftype_name(nano_ftype ftype);     /* "Q4_K_M"; NULL when unknown */
NANO_API nano_ftype nano_ftype_from_name(const char *name); /* any case, or the number in digits; -1 when unknown */

/* Where nano_quantize_file is. Pointers are the core's, valid during the call. */
typedef struct nano_quantize_step {
    const nano_gguf_tensor *tensor; /* as it is in the file */
    nano_type type;                 /* what it becomes */
    nano_type wanted; /* what the recipe or the caller chose; not `type` where its blocks do not fill a row */
    bool has_importance;
    uint64_t n_bytes; /* after */
    uint64_t index;   /* of the tensor: it is number index + 1 of nano_gguf_n_tensors */
    bool is_done;     /* with this tensor */
    uint64_t n_read;  /* bytes of tensors read so far */
} nano_quantize_step;

/* One metadata value to write, as nano_gguf_writer_set and nano_gguf_writer_set_str take it. */
typedef struct nano_quantize_value {
    const char *key;
    nano_gguf_kind kind; /* of an item */
    bool is_array;
    const void *items; /* numbers; nano_str where kind is NANO_GGUF_STRING */
    uint64_t n_items;
} nano_quantize_value;

typedef struct nano_quantize_options {
    nano_ftype ftype;
    int32_t n_threads;              /* 0: nano_cpu_default_threads */
    bool allow_requantize;          /* take matrices that are quantised already; otherwise they are refused */
    bool pure;                      /* the recipe's main type for every matrix */
    bool leave_output;              /* output.weight stays as it is */
    bool no_fallback;               /* fail where a row is not whole blocks of the wanted type */
    bool dry_run;                   /* decide and report; write nothing */
    nano_type output_type;          /* of output.weight, or of the embedding that stands for it; -1: the recipe's */
    nano_type token_embedding_type; /* of token_embd.weight; -1: the recipe's */
    void *context;                  /* handed to the functions below: on the caller's thread, any may be NULL */
    /* Another type for a matrix than the recipe's; `proposed` when there is no wish. */
    nano_type (*choose)(void *context, const char *name, nano_type proposed);
    /* A tensor's importances: finite numbers >= 0, one a column, (ne[3], ne[2], ne[0]) for tensors of more than two
     * dims; *n is set to how many. NULL when there are none. They stay valid until nano_quantize_file returns. */
    const float *(*importance)(void *context, const char *name, int64_t *n);
    /* Called after each piece of work, at least once a tensor; false ends with NANO_ERR_CANCELLED. */
    bool (*progress)(void *context, const nano_quantize_step *step);
    const nano_quantize_value *values; /* metadata to set or replace; they have the last word */
    int32_t n_values;
} nano_quantize_options;

NANO_API nano_quantize_options nano_quantize_options_default(void); /* COPY, 0, all false, -1, -1, all NULL */
/* Writes `gguf` again with its matrices in other types, in one pass, atomically as nano_gguf_writer does. Vectors,
 * norms and learned positions stay as they are; metadata is carried over, general.file_type and
 * general.quantization_version are set. A tensor whose rows the wanted type's blocks do not fill falls back to a type
 * of about the same quality with smaller blocks, then to F16. Everything that can be refused is refused before the
 * first byte is written. Memory: a few MiB a thread and one row as f32, whatever the file's size. The bytes written do
 * not depend on the number of threads. `out_path` is not read in a dry run. */
NANO_API nano_status nano_quantize_file(const nano_gguf *gguf, const char *out_path,
                                        const nano_quantize_options *options, nano_error *err);

/* ------------------------------------------------------------------- graph */

/* A graph is a list of tensors in the order they were made. A leaf is a weight, an input or a cache; every
 * other tensor is the output of one op over earlier tensors, so there are no cycles. The outermost dim of an
 * activation may be symbolic: T (tokens in this step) or W (rows whose logits are wanted, W <= T). */
typedef struct nano_graph nano_graph;

enum { NANO_DIM_T = -1, NANO_DIM_W = -2 };

typedef enum nano_input {
    NANO_INPUT_TOKENS = 0,    /* i32 (T): token ids */
    NANO_INPUT_POSITIONS = 1, /* i32 (T): position of each token in its slot */
    NANO_INPUT_WANTED = 2,    /* i32 (W): rows of this step whose logits are wanted */
    NANO_INPUT_TARGETS = 3,   /* i32 (W): the token that each wanted row should predict */
    NANO_INPUT_WEIGHTS = 4    /* f32 (W): what each wanted row's loss counts */
} nano_input;

/* An op's parameters; ops.inc and docs/architecture.md say which op reads which. */
enum { NANO_MAX_SRC = 4, NANO_MAX_INTS = 12, NANO_MAX_FLOATS = 12 };

NANO_API nano_status nano_graph_create(nano_graph **out, nano_error *err);
NANO_API void nano_graph_free(nano_graph *graph);

/* Each returns the new tensor's index in *out. The same weight, input or cache asked for twice is one tensor. */
NANO_API nano_status nano_graph_weight(nano_graph *graph, const char *name, int32_t n_dims, const int64_t *ne,
                                       int32_t *out, nano_error *err);
/* The same from another file than the model's: 0 is the model's, 1 and on the others given to nano_model_create_with. */
NANO_API nano_status nano_graph_weight_of(nano_graph *graph, int32_t file, const char *name, int32_t n_dims,
                                          const int64_t *ne, int32_t *out, nano_error *err);
NANO_API nano_status nano_graph_input(nano_graph *graph, nano_input kind, int32_t *out, nano_error *err);
/* A K or V cache of one layer: (n_slots, n_head_kv, n_ctx, head_dim), n_slots and n_ctx set by the plan.
 * Caches of even index hold keys, of odd index values: index = 2 * layer + is_value. */
NANO_API nano_status nano_graph_cache(nano_graph *graph, int32_t index, int64_t n_head_kv, int64_t head_dim,
                                      int32_t *out, nano_error *err);
/* Adds op `name` over `src` (n_src tensor indices; -1 leaves an optional source out). */
NANO_API nano_status nano_graph_op(nano_graph *graph, const char *name, int32_t n_src, const int32_t *src,
                                   int32_t n_ints, const int64_t *ints, int32_t n_floats, const double *floats,
                                   int32_t *out, nano_error *err);
/* Names the graph's result: logits, f32 (W, n_vocab), or a loss, f32 (1). */
NANO_API nano_status nano_graph_set_output(nano_graph *graph, int32_t tensor, nano_error *err);

NANO_API int32_t nano_graph_n_tensors(const nano_graph *graph);
/* Shape of a tensor, with NANO_DIM_T / NANO_DIM_W where symbolic. */
NANO_API nano_status nano_graph_shape(const nano_graph *graph, int32_t tensor, int32_t *n_dims, int64_t *ne,
                                      nano_error *err);

/* Serialises to `buffer` when it is not NULL and `capacity` suffices; *size gets the bytes needed either way. */
NANO_API nano_status nano_graph_save(const nano_graph *graph, void *buffer, size_t capacity, size_t *size,
                                     nano_error *err);
/* Rebuilds a graph from untrusted bytes, every node going through the same checks as when it was built.
 * NANO_ERR_UNSUPPORTED for a program of another version than this build's, and for an op it does not know. */
NANO_API nano_status nano_graph_load(const void *data, size_t size, nano_graph **out, nano_error *err);
/* The program version that this build writes and reads, and the one that a program needs. */
enum { NANO_PROGRAM_VERSION = 1 };
NANO_API nano_status nano_program_version(const void *data, size_t size, uint64_t *version, nano_error *err);

/* A new graph with a LoRA adapter in it (Hu et al., 2021, arXiv:2106.09685): a linear whose weight W (n_out, n_in), of
 * file 0, has the tensors W.lora_a (r, n_in) and W.lora_b (n_out, r) in `adapter` becomes
 * linear + scale * alpha / r * (x A^T) B^T, where alpha is the file's adapter.lora.alpha (0 stands for r); its fused
 * activation comes after that, as an op of its own. To rows of a table W (n_rows, n) with W.lora_a (n_rows, r) and
 * W.lora_b (n, r) the same is added; a linear that reads the table, too, stays as it is. `file` (1 and on) is the
 * adapter's number in nano_model_create_with. An adapted graph may be adapted again, with another file. A scale of 0
 * changes no bit. NANO_ERR_UNSUPPORTED for a file that is no LoRA adapter, NANO_ERR_NOT_FOUND for a tensor that the
 * graph has no use for, NANO_ERR_SHAPE for one that does not go with its weight.
 * `adapter` NULL: the same graph with every linear's fused activation as an op of its own (file and scale unused). */
NANO_API nano_status nano_graph_adapt(const nano_graph *graph, const nano_gguf *adapter, int32_t file, float scale,
                                      nano_graph **out, nano_error *err);
/* Whether a file is a LoRA adapter, and one of the architecture of `model`, which may be NULL: to be asked first, so
 * that a message says what is wrong with the file and not with its first matrix. */
NANO_API nano_status nano_adapter_check(const nano_gguf *adapter, const nano_gguf *model, nano_error *err);

/* Adds a loss: the cross entropy of the graph's output, logits (W, n), against NANO_INPUT_TARGETS, each row's times
 * NANO_INPUT_WEIGHTS, summed: *loss, f32 (1). The output stays what it was. */
NANO_API nano_status nano_graph_loss(nano_graph *graph, int32_t *loss, nano_error *err);
/* The tensor that is weight `name` of a file (0: the model's); -1 when the graph does not read it. */
NANO_API int32_t nano_graph_find_weight(const nano_graph *graph, int32_t file, const char *name);
/* Makes the weights params[0 .. n_params - 1] parameters and appends the gradient of `loss`, f32 (1), for each of them;
 * the loss becomes the graph's output. A step of nano_session_gradient adds the gradients to what a session keeps for
 * each parameter. Only what leads from a parameter to the loss is differentiated: other weights may be of any type.
 * recompute: of each layer (the ops over weights of one "blk.N." and what is between them) only what other layers read
 * is kept for the gradients; the rest is computed again when they need it: the same bits, less memory, more time.
 * NANO_ERR_ARGUMENT for a parameter that the loss does not depend on, by name; NANO_ERR_UNSUPPORTED where an op on the
 * way has no derivative. On any error the graph is as it was. */
NANO_API nano_status nano_graph_backward(nano_graph *graph, int32_t loss, int32_t n_params, const int32_t *params,
                                         bool recompute, nano_error *err);

/* ------------------------------------------------------------ model, plan */

/* A file and a program bound together. Borrows `gguf`, which must outlive it; shareable between threads. A program
 * travels in a file's key nanollm.program, an array of uint8, or in that of a file beside it. */
typedef struct nano_model nano_model;

NANO_API nano_status nano_model_create(const nano_gguf *gguf, const void *program, size_t size, nano_model **out,
                                       nano_error *err);
/* The same over several files: files[0] is the model's, the others are those that nano_graph_weight_of numbers 1 and on.
 * All are borrowed; the array itself is not. */
NANO_API nano_status nano_model_create_with(const nano_gguf *const *files, int32_t n_files, const void *program,
                                            size_t size, nano_model **out, nano_error *err);
NANO_API void nano_model_free(nano_model *model);
NANO_API int64_t nano_model_n_vocab(const nano_model *model); /* columns of the output */

/* Which optimiser's state a session keeps room for: f32 m and v (ADAM), or what nano_lbfgs works on (LBFGS). */
typedef enum nano_optimizer {
    NANO_OPTIMIZER_NONE = 0,
    NANO_OPTIMIZER_ADAM = 1,
    NANO_OPTIMIZER_LBFGS = 2
} nano_optimizer;

typedef struct nano_limits {
    int32_t n_ctx;           /* positions a slot */
    int32_t n_batch;         /* most tokens in one step */
    int32_t n_slots;         /* sequences held at once */
    int32_t n_outputs;       /* most rows of logits in one step */
    int32_t n_threads;       /* 0: one per physical core that is fast */
    int32_t n_threads_batch; /* for steps of more tokens than n_slots; 0: n_threads */
    uint64_t cpu_mask[4]; /* CPUs 0..255 that threads may run on, bit i % 64 of word i / 64; all 0: the fast ones where
                             the system tells them apart, else any */
    int32_t poll;         /* how idle threads wait: 0 sleep at once .. 100 spin long */
    nano_type type_k;     /* cache types: F32, F16, Q8_0, Q4_0. Heads of any size: rows are padded to whole blocks */
    nano_type type_v;
    bool deterministic; /* prompts add up in the decode kernels' order */
    bool importance;    /* keep the sums that nano_session_importance hands out */
    nano_optimizer optimizer;
    int32_t history;      /* of LBFGS: pairs of steps and gradients kept */
    int32_t n_gpu_layers; /* the last so many layers, and the output, on a device; more than there are: all. 0: none;
                             -1: as many as 19 of 20 parts of its free memory hold, none where there is no device */
    int32_t device;       /* which: nano_device_at */
} nano_limits;

NANO_API nano_limits nano_limits_default(void); /* 2048, 512, 1, 1, 0, 0, no mask, 50, F16, F16, the rest 0 */

/* A device that can run layers. */
typedef struct nano_device {
    char name[96];
    char image[32];             /* the device code that it will run: "sm_53"; "" when there is none for it */
    int32_t compute_capability; /* 53 is 5.3 */
    bool shares_memory;         /* with the processor: nothing is copied, everything is counted once */
    uint64_t memory_available;
    uint64_t memory_total;
} nano_device;

/* Devices of this machine; 0 where there is no driver, or this library is built without (NANOLLM_CUDA). */
NANO_API int32_t nano_device_count(void);
/* NANO_ERR_NOT_FOUND says why there is none. */
NANO_API nano_status nano_device_at(int32_t i, nano_device *out, nano_error *err);

/* Exact bytes. `weights` is mapped from the file (shared, reclaimable); the rest is one allocation. */
typedef struct nano_memory {
    uint64_t weights;     /* tensor data the program reads, mapped */
    uint64_t cache;       /* K and V */
    uint64_t activations; /* the arena of temporaries, lifetimes overlapped */
    uint64_t outputs;     /* logits; sums of importance */
    uint64_t scratch;     /* working space of all threads */
    uint64_t parameters;  /* weights that have gradients, as f32; not among `weights` */
    uint64_t gradients;   /* of the parameters */
    uint64_t optimizer;   /* its state */
    uint64_t bookkeeping; /* nodes, inputs, positions, the session itself */
    uint64_t allocated;   /* all but the weights: what create allocates */
    uint64_t total;       /* weights + allocated, and what a device holds that has no memory of its own */
    uint64_t device;      /* what a device holds: */
    uint64_t device_weights;
    uint64_t device_cache; /* the rest are activations and outputs */
} nano_memory;

typedef struct nano_plan nano_plan;

/* Plans without reading a weight. The plan borrows the model. */
NANO_API nano_status nano_plan_create(const nano_model *model, const nano_limits *limits, nano_plan **out,
                                      nano_error *err);
NANO_API void nano_plan_free(nano_plan *plan);
NANO_API nano_memory nano_plan_memory(const nano_plan *plan);
NANO_API nano_limits nano_plan_limits(const nano_plan *plan); /* n_threads, n_gpu_layers resolved */
/* The largest n_ctx, at most limits->n_ctx, whose total is within `budget` bytes, and what a device holds within what it
 * has free; 0 when none is. */
NANO_API nano_status nano_plan_fit(const nano_model *model, const nano_limits *limits, uint64_t budget, int32_t *n_ctx,
                                   nano_error *err);

/* What this process may still use: the least of physical memory available, cgroup and rlimit headroom. */
NANO_API uint64_t nano_memory_available(void);
NANO_API uint64_t nano_memory_peak(void); /* highest resident set of this process so far; 0 when unknown */

/* ----------------------------------------------------------------- session */

typedef struct nano_session nano_session;

/* Makes the plan's single allocation and starts its threads. Borrows the model; the plan is copied. A session does not
 * survive fork(2): its threads stay behind in the parent, so a child must neither use nor free it. */
NANO_API nano_status nano_session_create(const nano_plan *plan, nano_session **out, nano_error *err);
NANO_API void nano_session_free(nano_session *session);

/* One step. Token i belongs to slot slots[i] (all 0 when NULL) and takes that slot's next position.
 * wanted[i] != 0 asks for its logits (only the last token's when NULL). On any error no slot has moved. */
NANO_API nano_status nano_session_eval(nano_session *session, int32_t n_tokens, const int32_t *tokens,
                                       const int32_t *slots, const uint8_t *wanted, nano_error *err);
/* Logits of the last step, f32 (n_rows, n_vocab), in token order; valid until the next eval. The caller may
 * write to them. */
NANO_API float *nano_session_logits(nano_session *session, int32_t *n_rows);

NANO_API int32_t nano_session_n_past(const nano_session *session, int32_t slot);
/* Forgets the positions from n_past on. */
NANO_API nano_status nano_session_truncate(nano_session *session, int32_t slot, int32_t n_past, nano_error *err);
/* Makes slot `to` start with the first n_past positions of slot `from`. */
NANO_API nano_status nano_session_copy_slot(nano_session *session, int32_t from, int32_t to, int32_t n_past,
                                            nano_error *err);
/* A weight that has a gradient. value and gradient: f32 of the weight's shape, in the session's memory, free to be read
 * and written between steps. */
typedef struct nano_param {
    const char *name; /* the model's */
    int32_t file;     /* which of the model's files it came from */
    nano_type type;   /* there: F32, F16 or BF16 */
    int32_t n_dims;
    int64_t ne[4];
    int64_t n;      /* elements */
    int64_t offset; /* of its first one in the flat vectors */
    float *value;
    float *gradient;
} nano_param;

NANO_API int32_t nano_session_n_params(const nano_session *session);
/* Parameter i, in the order of the program's weights. */
NANO_API nano_status nano_session_param(nano_session *session, int32_t i, nano_param *out, nano_error *err);
/* All parameters as one vector of *n floats, each starting on a cache line with zeros between, and their gradients
 * likewise. state: room for the optimiser of the limits, zeroed when the session is made; NULL where there is none. Any
 * argument but the session may be NULL. */
NANO_API void nano_session_flat(nano_session *session, int64_t *n, float **values, float **gradients, void **state,
                                size_t *state_bytes);
/* Forward and backward over a batch of sequences, each from position 0 on: token i belongs to slot slots[i] (all 0 when
 * NULL), a slot's tokens lie next to each other and are its whole sequence. *loss becomes the sum over i of weights[i]
 * times the loss at token i, whose target is targets[i]; there is none where targets[i] < 0. weights NULL: 1 / number of
 * targets. ADDS to the gradients; a program without gradients computes the loss alone. At most n_outputs targets. The
 * slots are empty afterwards. On any error the gradients are undefined: zero them. */
NANO_API nano_status nano_session_gradient(nano_session *session, int32_t n_tokens, const int32_t *tokens,
                                           const int32_t *slots, const int32_t *targets, const float *weights,
                                           double *loss, nano_error *err);
NANO_API void nano_session_zero_gradients(nano_session *session);
/* The loss of such a batch, with the same bits, and nothing else: forward alone. Gradients stay as they are. */
NANO_API nano_status nano_session_loss(nano_session *session, int32_t n_tokens, const int32_t *tokens,
                                       const int32_t *slots, const int32_t *targets, const float *weights, double *loss,
                                       nano_error *err);
/* What a linear's weight has been multiplied with since the session was made: sums[i], i < n, is the sum of the squares
 * of column i over n_rows rows. The session owns sums. NANO_ERR_NOT_FOUND for a weight that no linear reads,
 * NANO_ERR_ARGUMENT when the plan's limits did not ask for importance. */
NANO_API nano_status nano_session_importance(const nano_session *session, const char *weight, const double **sums,
                                             int64_t *n, int64_t *n_rows, nano_error *err);
/* Writes the first n_tokens positions of a slot to a file, with the tokens that made them: n_tokens <= n_past of the
 * slot. The file is written beside `path`, synced and renamed; memory is taken for its name alone. */
NANO_API nano_status nano_session_save(const nano_session *session, int32_t slot, const int32_t *tokens,
                                       int32_t n_tokens, const char *path, nano_error *err);
/* Makes the slot hold what a file has, and gives the tokens that made it: the next eval goes on behind them as if they
 * had been evaluated here. NANO_ERR_ARGUMENT for a file of another model, program, cache type or kernel level, whose
 * bits would be others; NANO_ERR_FORMAT for a damaged one; NANO_ERR_LIMIT when it has more tokens than `capacity` or
 * n_ctx. On any error the slot has not changed. */
NANO_API nano_status nano_session_load(nano_session *session, int32_t slot, const char *path, int32_t *tokens,
                                       int32_t capacity, int32_t *n_tokens, nano_error *err);
/* From any thread: the running or next eval returns NANO_ERR_CANCELLED soon. */
NANO_API void nano_session_cancel(nano_session *session);

/* Kernel level: "generic", "avx2", "avxvnni", "avx512", "amx", "neon", "dotprod", "i8mm". NANOLLM_CPU forces one for
 * the process. */
NANO_API const char *nano_cpu_level(void);
/* Comma-separated levels this machine can run, lowest first. */
NANO_API const char *nano_cpu_levels(void);
/* Chooses a level for sessions made from now on; NULL: the best. Unknown or unavailable: NANO_ERR_ARGUMENT. */
NANO_API nano_status nano_cpu_set_level(const char *level, nano_error *err);
/* Physical cores this process may use that are fast (the big ones where the system says which), at least 1. */
NANO_API int32_t nano_cpu_default_threads(void);

/* -------------------------------------------------------------- optimisers */

/* Optimisers work on vectors that the caller owns, a session's or any other, on the caller's thread. They allocate
 * nothing, add up in fixed orders and give the same bits at every kernel level. */

/* ADAM (Kingma & Ba, 2014, arXiv:1412.6980): with the gradient g of a parameter w, at step t,
 *
 *   m <- beta1 m + (1 - beta1) g      v <- beta2 v + (1 - beta2) g^2
 *   w <- w - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
 *
 * Weight decay: `decoupled` is AdamW (Loshchilov & Hutter, 2017, arXiv:1711.05101), w <- w - rate decay w first;
 * otherwise decay w is added to g. */
typedef struct nano_adam {
    double beta1;    /* 0.9; 0 <= beta < 1 */
    double beta2;    /* 0.999 */
    double eps;      /* 1e-8; FLT_MIN or more */
    double max_norm; /* where the norm of all gradients together is larger they count scaled down to it (Pascanu et al.,
                        2013, arXiv:1211.5063); 0: no limit */
    bool decoupled;  /* true */
} nano_adam;

/* n parameters with one rate and decay. The four vectors are apart from one another and from those of other spans; m and
 * v are zeros before step 1. */
typedef struct nano_adam_span {
    float *value;
    const float *gradient;
    float *m, *v;
    int64_t n;
    double rate;
    double decay;
} nano_adam_span;

NANO_API nano_adam nano_adam_default(void);
/* One step; `step` counts from 1. *norm, unless NULL, gets the norm of all gradients before they are scaled.
 * NANO_ERR_ARGUMENT for an option out of its range and for a gradient that is not finite: nothing has changed then. */
NANO_API nano_status nano_adam_step(const nano_adam *adam, int64_t step, int32_t n_spans, const nano_adam_span *spans,
                                    double *norm, nano_error *err);

typedef enum nano_schedule_kind {
    NANO_SCHEDULE_CONSTANT = 0,
    NANO_SCHEDULE_LINEAR = 1, /* down to the floor along a straight line */
    NANO_SCHEDULE_COSINE = 2  /* along half a cosine (Loshchilov & Hutter, 2016, arXiv:1608.03983) */
} nano_schedule_kind;

/* What the rate of a step (1 ... n_steps) is multiplied with: step / n_warm up to step n_warm, then from 1 on as `kind`
 * says, so that it is `floor` at step n_steps and stays there. */
NANO_API double nano_schedule(nano_schedule_kind kind, int64_t step, int64_t n_warm, int64_t n_steps, double floor);

/* L-BFGS (Liu & Nocedal, 1989; Nocedal & Wright, Numerical Optimization, 2nd ed., algorithms 7.4, 7.5): minimises a
 * smooth function of n variables from its values and gradients, all in f64. */

/* Sets *f to the value at x (n) and g (n) to the gradient there. x is valid during the call. Another status than NANO_OK
 * ends the minimisation with it. Values or gradients that are not finite are legal: x is then taken to be too far. */
typedef nano_status nano_objective_fn(void *context, const double *x, double *f, double *g, nano_error *err);

typedef enum nano_line_search {
    NANO_LINE_SEARCH_WOLFE = 0,       /* strong Wolfe conditions: bracket, then zoom (algorithms 3.5, 3.6) */
    NANO_LINE_SEARCH_BACKTRACKING = 1 /* sufficient decrease alone (algorithm 3.1) */
} nano_line_search;

/* Why it ended. */
typedef enum nano_lbfgs_reason {
    NANO_LBFGS_GRADIENT = 0,    /* max |g[i]| <= gradient_tolerance */
    NANO_LBFGS_DECREASE = 1,    /* f fell by <= f_tolerance * max(|f| before, |f| after, 1) */
    NANO_LBFGS_ITERATIONS = 2,  /* max_iterations */
    NANO_LBFGS_EVALUATIONS = 3, /* max_evaluations */
    NANO_LBFGS_LINE_SEARCH = 4, /* no step along the gradient lowers f enough: rounding, or g is not f's gradient */
    NANO_LBFGS_NOT_FINITE = 5,  /* f or g is not finite where it started, or wherever the line search went */
    NANO_LBFGS_CANCELLED = 6,   /* `progress` said so, or the function with NANO_ERR_CANCELLED */
    NANO_LBFGS_FAILED = 7       /* the function, with another status */
} nano_lbfgs_reason;

NANO_API const char *nano_lbfgs_reason_text(nano_lbfgs_reason reason); /* a phrase; never NULL */

typedef struct nano_lbfgs_result {
    nano_lbfgs_reason reason;
    int32_t iterations;  /* steps taken */
    int32_t evaluations; /* of the function */
    double f;            /* at x; NaN when the first evaluation failed */
    double gradient;     /* max |g[i]| there */
} nano_lbfgs_result;

typedef struct nano_lbfgs_options {
    int32_t history;           /* 10: pairs of steps and gradient changes kept; 0 is steepest descent */
    int32_t max_iterations;    /* 1000 */
    int32_t max_evaluations;   /* 10000 */
    double gradient_tolerance; /* 1e-5 */
    double f_tolerance;        /* 1e-9; 0: only when f does not fall at all */
    nano_line_search line_search;
    double decrease;        /* 1e-4: c1, 0 < c1 < 0.5, of f(x + a p) <= f(x) + c1 a p.g(x) */
    double curvature;       /* 0.9: c2, c1 < c2 < 1, of |p.g(x + a p)| <= c2 |p.g(x)|; for strong Wolfe alone */
    int32_t max_line_steps; /* 20: evaluations in one line search */
    /* Called after each iteration with where it is; false ends. May be NULL. */
    bool (*progress)(void *context, const double *x, const nano_lbfgs_result *now);
    void *progress_context;
} nano_lbfgs_options;

NANO_API nano_lbfgs_options nano_lbfgs_options_default(void);
/* Bytes of work memory for n variables: (4 + 2 history) n + 2 history doubles; 0 when n < 1, history < 0 or the size
 * overflows. */
NANO_API size_t nano_lbfgs_bytes(int64_t n, int32_t history);
/* Minimises from x (n), which becomes the best point found: f there is never larger than at the start. `work`:
 * nano_lbfgs_bytes, aligned for doubles. Pairs that do not show positive curvature are not kept, so that every direction
 * leads down. NANO_OK for every reason but FAILED and the function's own CANCELLED; x and *result are written with these,
 * too. NANO_ERR_ARGUMENT for options out of their ranges: nothing is written then. */
NANO_API nano_status nano_lbfgs(const nano_lbfgs_options *options, int64_t n, double *x, nano_objective_fn *f,
                                void *context, void *work, nano_lbfgs_result *result, nano_error *err);

/* The same over f32 parameters, as a session's (nano_session_flat): f sets *f and `gradient` (n) to what they are at
 * `values` (n) as they stand. work: nano_lbfgs_flat_bytes, for x in f64 as well. */
typedef nano_status nano_flat_objective_fn(void *context, double *f, nano_error *err);

NANO_API size_t nano_lbfgs_flat_bytes(int64_t n, int32_t history);
NANO_API nano_status nano_lbfgs_flat(const nano_lbfgs_options *options, int64_t n, float *values, const float *gradient,
                                     nano_flat_objective_fn *f, void *context, void *work, nano_lbfgs_result *result,
                                     nano_error *err);

/* --------------------------------------------------------------- tokenizer */

typedef struct nano_tokenizer nano_tokenizer;

/* From the file's tokenizer.ggml.* keys. Copies what it needs. */
NANO_API nano_status nano_tokenizer_create(const nano_gguf *gguf, nano_tokenizer **out, nano_error *err);
NANO_API void nano_tokenizer_free(nano_tokenizer *tokenizer);
NANO_API int32_t nano_tokenizer_n_tokens(const nano_tokenizer *tokenizer);
/* Special ids: -1 when the file names none ("llama" files: bos 1 and eos 2 where these are control tokens). */
NANO_API int32_t nano_tokenizer_bos(const nano_tokenizer *tokenizer);
NANO_API int32_t nano_tokenizer_eos(const nano_tokenizer *tokenizer);
NANO_API int32_t nano_tokenizer_eot(const nano_tokenizer *tokenizer);
NANO_API bool nano_tokenizer_adds_bos(const nano_tokenizer *tokenizer);
NANO_API bool nano_tokenizer_adds_eos(const nano_tokenizer *tokenizer);
/* True for every token that ends generation: eos, eot, and the well-known end-of-turn tokens. */
NANO_API bool nano_tokenizer_is_end(const nano_tokenizer *tokenizer, int32_t id);
NANO_API bool nano_tokenizer_is_special(const nano_tokenizer *tokenizer, int32_t id); /* control or unknown */
/* The token as the file spells it ("Ġhello", "▁hello", "<0x0A>"); size 0 when out of range. */
NANO_API nano_str nano_tokenizer_spelling(const nano_tokenizer *tokenizer, int32_t id);
/* The id of an exact spelling, or -1. */
NANO_API int32_t nano_tokenizer_find(const nano_tokenizer *tokenizer, const char *spelling, size_t size);

/* Encoding allocates nothing: the caller lends nano_tokenizer_scratch(t, size) bytes, aligned for any type,
 * and room for nano_tokenizer_max_ids(t, size) ids. add_special: BOS/EOS as the file says.
 * parse_special: spellings of special tokens in the text become those tokens. Invalid UTF-8 is legal input. */
NANO_API size_t nano_tokenizer_scratch(const nano_tokenizer *tokenizer, size_t text_size);
NANO_API size_t nano_tokenizer_max_ids(const nano_tokenizer *tokenizer, size_t text_size);
NANO_API nano_status nano_tokenizer_encode(const nano_tokenizer *tokenizer, const char *text, size_t size,
                                           bool add_special, bool parse_special, void *scratch, size_t scratch_size,
                                           int32_t *ids, size_t capacity, size_t *n_ids, nano_error *err);

/* Streaming decoding: emits only whole UTF-8 characters; ill-formed bytes become U+FFFD. */
typedef struct nano_decoder {
    uint8_t pending[8]; /* an unfinished character */
    int32_t n_pending;
    bool started;      /* false, as after a special token: a leading space that encoding added is dropped */
    bool show_special; /* write control tokens out as they are spelt */
} nano_decoder;

NANO_API void nano_decoder_init(nano_decoder *decoder, const nano_tokenizer *tokenizer, bool show_special);
/* Most bytes one push or flush can write. */
NANO_API size_t nano_decoder_max_bytes(const nano_tokenizer *tokenizer);
NANO_API nano_status nano_decoder_push(nano_decoder *decoder, const nano_tokenizer *tokenizer, int32_t id, char *out,
                                       size_t capacity, size_t *n_bytes, nano_error *err);
NANO_API size_t nano_decoder_flush(nano_decoder *decoder, char *out, size_t capacity);

/* -------------------------------------------------------------------- chat */

/* A chat template as literal pieces, for programs that cannot run Jinja:
 *
 *   open user answer ... next user answer ...                              without a system message
 *   system_open system system_close user answer ... next user answer ...   with one
 *
 * In a file they are the strings nanollm.chat.open, .system_open, .system_close, .answer and .next, and the bools .trim
 * (white space around a message goes) and .trim_system (the same of the system message; where absent, as .trim). A
 * template that takes no system message lacks the two system pieces. */
typedef struct nano_chat nano_chat;

/* `name` NULL: the pieces of the file; NANO_ERR_NOT_FOUND when it has none, and `tokenizer` may be NULL. Otherwise a
 * built-in template with the tokenizer's BOS and EOS as they are spelt; `gguf` may be NULL. Copies what it needs. */
NANO_API nano_status nano_chat_create(const nano_gguf *gguf, const nano_tokenizer *tokenizer, const char *name,
                                      nano_chat **out, nano_error *err);
NANO_API void nano_chat_free(nano_chat *chat);
/* Names of the built-in templates, i = 0, 1, ...; NULL past the end. */
NANO_API const char *nano_chat_name_at(int32_t i);
/* The text before the answer to `user`, to be encoded with parse_special: when is_first the opening, with `system`
 * unless that is NULL or empty, otherwise what ends the last answer (its end token included) and opens the next turn;
 * then the message and what opens the answer. *n gets the bytes needed; `out` NULL measures; NANO_ERR_LIMIT when
 * `capacity` is less; NANO_ERR_UNSUPPORTED for a system message where the template has no place for one. Allocates
 * nothing. */
NANO_API nano_status nano_chat_turn(const nano_chat *chat, bool is_first, const nano_str *system, nano_str user,
                                    char *out, size_t capacity, size_t *n, nano_error *err);

/* ----------------------------------------------------------------- sampler */

typedef struct nano_sampler nano_sampler;

/* Defaults and order of the chain: logit bias, penalties, top-k, typical, top-p, min-p, temperature, draw (DRY and
 * XTC are not offered). temperature <= 0 is greedy: the first of the largest logits. mirostat replaces the
 * truncating samplers. */
typedef struct nano_sampler_params {
    uint64_t seed;
    float temperature;       /* 0.8 */
    int32_t top_k;           /* 40; <= 0: all */
    float top_p;             /* 0.95; 1: off */
    float min_p;             /* 0.05; 0: off */
    float typical_p;         /* 1: off */
    float repeat_penalty;    /* 1: off */
    float presence_penalty;  /* 0: off */
    float frequency_penalty; /* 0: off */
    int32_t penalty_last_n;  /* 64; 0: off; -1: all of max_last_n */
    int32_t max_last_n;      /* most tokens the penalties can look back on, for penalty_last_n = -1 */
    int32_t mirostat;        /* 0 off, 1, 2 */
    float mirostat_tau;      /* 5.0 */
    float mirostat_eta;      /* 0.1 */
    int32_t min_keep;        /* 1: the truncating samplers leave at least so many */
    const int32_t *bias_ids; /* n_bias logit biases, copied */
    const float *bias_values;
    int32_t n_bias;
} nano_sampler_params;

NANO_API nano_sampler_params nano_sampler_params_default(void);
NANO_API nano_status nano_sampler_create(const nano_sampler_params *params, int32_t n_vocab, nano_sampler **out,
                                         nano_error *err);
NANO_API void nano_sampler_free(nano_sampler *sampler);
/* Draws from f32 (n_vocab) logits; they are left unchanged. Allocates nothing. NaN logits are never drawn;
 * NANO_ERR_ARGUMENT when no finite one is left. Does not accept: call nano_sampler_accept with the choice. */
NANO_API nano_status nano_sampler_sample(nano_sampler *sampler, const float *logits, int32_t *id, nano_error *err);
/* Tells the penalties about a token (of the prompt or just drawn). */
NANO_API void nano_sampler_accept(nano_sampler *sampler, int32_t id);
/* Forgets accepted tokens and starts the random stream at `seed` again. */
NANO_API void nano_sampler_reset(nano_sampler *sampler, uint64_t seed);

/* Guesses how a text goes on, for evaluating several tokens in one step: the tokens that followed the latest earlier
 * place of the longest n-gram (3 to 1 tokens) that ends `tokens`; a period goes on. Writes max_draft ids to `draft` and
 * returns how many, or 0 when nothing came before. Allocates nothing. Evaluate the last token and the draft with all
 * rows wanted, draw row after row while each draw is what the draft says, then nano_session_truncate: the same tokens
 * as without, when a step has at most 16. (Prompt lookup decoding, A. Saxena, 2023.) */
NANO_API int32_t nano_lookup_draft(const int32_t *tokens, int32_t n_tokens, int32_t *draft, int32_t max_draft);

#ifdef __cplusplus
}
#endif

#endif /* GGML_CORE_H */

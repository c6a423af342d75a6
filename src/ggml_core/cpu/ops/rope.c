/* Rotary position embedding (Su et al. 2021, arXiv:2104.09864), with linear position interpolation (Chen et al. 2023,
 * arXiv:2306.15595), YaRN (Peng et al. 2023, arXiv:2309.00071) and per-frequency factors (Llama 3.1). */
#include "cpu/exec.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925;

int64_t nano_units_rope_table(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

/* ints: n_rot, scaling, n_ctx_orig. floats: freq_base, factor, ext_factor, attn_factor, beta_fast, beta_slow. */
typedef struct yarn {
    double low;  /* pair index up to which frequencies are kept, */
    double high; /* and from which they are interpolated */
} yarn;

/* The pair index whose wave turns `turns` times over the original context (YaRN, section 3.2). */
static double pair_of_turns(double n_rot, double n_ctx_orig, double turns, double freq_base) {
    return n_rot * log(n_ctx_orig / (turns * two_pi)) / (2.0 * log(freq_base));
}

static yarn yarn_range(const nano_params *p) {
    double n_rot = (double)p->ints[0], n_ctx = (double)p->ints[2];
    double low = floor(pair_of_turns(n_rot, n_ctx, p->floats[4], p->floats[0]));
    double high = ceil(pair_of_turns(n_rot, n_ctx, p->floats[5], p->floats[0]));
    return (yarn){fmax(low, 0.0), fmin(high, n_rot - 1.0)};
}

/* The angle a position adds to pair i. */
static double frequency(const nano_params *p, const yarn *range, int64_t i, const float *factors) {
    double freq = pow(p->floats[0], -2.0 * (double)i / (double)p->ints[0]);
    freq = factors == NULL ? freq : freq / (double)factors[i];
    switch ((nano_rope_scaling)p->ints[1]) {
        case NANO_ROPE_NONE: return freq;
        case NANO_ROPE_LINEAR: return freq / p->floats[1];
        case NANO_ROPE_YARN: break;
    }
    double ramp = ((double)i - range->low) / fmax(range->high - range->low, 0.001);
    double kept = (1.0 - fmin(fmax(ramp, 0.0), 1.0)) * p->floats[2];
    return freq / p->floats[1] * (1.0 - kept) + freq * kept;
}

void nano_forward_rope_table(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    (void)thread;
    const nano_params *p = &node->params;
    const float *factors = nano_vector(&node->src[1]);
    bool is_yarn = p->ints[1] == NANO_ROPE_YARN;
    yarn range = is_yarn ? yarn_range(p) : (yarn){0.0, 0.0};
    /* YaRN also widens the logits: both q and k are scaled, section 3.4. */
    double size = is_yarn ? p->floats[3] * (1.0 + 0.1 * log(p->floats[1])) : 1.0;
    for (int64_t i = 0; i < p->ints[0] / 2; i++) {
        /* Rounded to f32 as the reference implementations do, so that long contexts agree with them. */
        float freq = (float)frequency(p, &range, i, factors);
        for (int64_t t = first; t < last; t++) {
            float angle = (float)step->positions[t] * freq;
            float *row = nano_out_row(node, t);
            row[2 * i] = (float)(cos((double)angle) * size);
            row[2 * i + 1] = (float)(sin((double)angle) * size);
        }
    }
}

int64_t nano_units_rope(const nano_step *step, const nano_node *node) { return nano_step_rows(step, &node->out); }

uint64_t nano_rope_scratch(const nano_node *node) {
    return node->params.ints[1] != 0 ? (uint64_t)node->src[1].ne[0] * sizeof(float) : 0;
}

/* The angles of the opposite sign: a turn's gradient is the turn back. */
static const float *negated(const float *angles, int64_t n_rot, float *out) {
    for (int64_t i = 0; i < n_rot; i += 2) {
        out[i] = angles[i];
        out[i + 1] = -angles[i + 1];
    }
    return out;
}

void nano_forward_rope(const nano_step *step, const nano_node *node, int64_t first, int64_t last, int thread) {
    const nano_operand *x = &node->src[0], *table = &node->src[1];
    nano_rope_fn *rope =
        node->params.ints[0] == NANO_ROPE_PAIRS ? step->kernels->rope_pairs : step->kernels->rope_halves;
    float *scratch = (float *)(void *)(step->scratch + (size_t)thread * step->scratch_stride);
    int64_t n = x->ne[0], n_rot = table->ne[0];
    for (int64_t t = first; t < last; t++) {
        const float *angles = nano_row(table, t);
        angles = node->params.ints[1] != 0 ? negated(angles, n_rot, scratch) : angles;
        for (int64_t h = 0; h < x->ne[1]; h++) {
            rope(nano_row(x, t) + h * n, angles, nano_out_row(node, t) + h * n, n_rot, n);
        }
    }
}

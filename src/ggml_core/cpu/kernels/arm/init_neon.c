/* What the neon level does better than the reference: for now, everything. */
#include "cpu/kernels/levels.h"

void nano_kernels_init_neon(nano_kernels *k) {
    k->linear_f32 = nano_linear_f32_neon;
    k->linear_f16 = nano_linear_f16_neon;
    k->linear_bf16 = nano_linear_bf16_neon;
    k->linear_q8_0 = nano_linear_q8_0_neon;
    k->linear_q4_0 = nano_linear_q4_0_neon;
    k->linear_q4_1 = nano_linear_q4_1_neon;
    k->linear_q5_0 = nano_linear_q5_0_neon;
    k->linear_q5_1 = nano_linear_q5_1_neon;
    k->linear_q2_k = nano_linear_q2_k_neon;
    k->linear_q3_k = nano_linear_q3_k_neon;
    k->linear_q4_k = nano_linear_q4_k_neon;
    k->linear_q5_k = nano_linear_q5_k_neon;
    k->linear_q6_k = nano_linear_q6_k_neon;
    k->linear_iq4_nl = nano_linear_iq4_nl_neon;
    k->linear_iq4_xs = nano_linear_iq4_xs_neon;
    k->quantize_a8 = nano_quantize_a8_neon;
    k->f32_to_f16 = nano_f32_to_f16_neon;
    k->add = nano_add_neon;
    k->mul = nano_mul_neon;
    k->swiglu = nano_swiglu_neon;
    k->gelu = nano_gelu_neon;
    k->silu = nano_silu_neon;
    k->gelu_grad = nano_gelu_grad_neon;
    k->silu_grad = nano_silu_grad_neon;
    k->swiglu_grad = nano_swiglu_grad_neon;
    k->norm_grad = nano_norm_grad_neon;
    k->rms_norm_grad = nano_rms_norm_grad_neon;
    k->scale = nano_scale_neon;
#if defined(__aarch64__) /* sums in vectors of doubles, which 32-bit processors lack */
    k->norm = nano_norm_neon;
    k->rms_norm = nano_rms_norm_neon;
#endif
    k->rope_pairs = nano_rope_pairs_neon;
    k->rope_halves = nano_rope_halves_neon;
    k->max = nano_max_neon;
    k->exp_sum = nano_exp_sum_neon;
    k->softmax_grad = nano_softmax_grad_neon;
    k->weigh_f32 = nano_weigh_f32_neon;
    k->weigh_f16 = nano_weigh_f16_neon;
    k->weigh_q8_0 = nano_weigh_q8_0_neon;
    k->weigh_q4_0 = nano_weigh_q4_0_neon;
    k->multiply_f32 = nano_multiply_f32_neon;
    k->transpose_f32 = nano_transpose_f32_neon;
}

// AVX-512 with bf16 dot products in linear layers (denormal inputs and sums count as zero there).
#include "ops/cpu/kernels.h"

#include <immintrin.h>

#define CARAT_SIMD_WIDTH 16
#define CARAT_SIMD_DOT_BF16

namespace carat::ops::cpu {

namespace {

#include "ops/cpu/simd.inc"

#include "ops/cpu/elementwise.inc"

#include "ops/cpu/linear_dot.inc"

#include "ops/cpu/attention.inc"

}  // namespace

const Kernels kAvx512Bf16Kernels = {
    .linear_rows = linear_rows,
    .linear_scratch_bytes = 0,
    .linear_packed_bytes = nullptr,
    .linear_pack = nullptr,
    .sum_of_squares = sum_of_squares,
    .sum = sum,
    .scale_by = scale_by,
    .add = add,
    .mul = mul,
    .lookup_mul = lookup_mul,
    .scale_lookup_scale = scale_lookup_scale,
    .rotate = rotate,
    .clamp = clamp,
    .add_bias = add_bias,
    .normalize = normalize,
    .add_fused = add_fused,
    .standardize = standardize,
    .widen = widen_row,
    .narrow = narrow_row,
    .add_product = add_product,
    .dot = dot,
    .add_scaled = add_scaled,
    .attention_load_rows = attention_load_rows,
    .attention_block = attention_block,
    .attention_merge = attention_merge,
    .attention_finish = attention_finish,
};

}  // namespace carat::ops::cpu

#pragma once
// The two passes over a whole row of logits that sampling needs, vectorised: everything after them looks at few values.

#include <cstdint>
#include <span>
#include <string_view>

namespace carat::sampling {

/// Values per block in the results below.
inline constexpr int64_t kBlock = 256;
inline int64_t num_blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

/// maxima[b] = max of block b of x; returns the largest of all. x is not empty; maxima has num_blocks(x.size())
/// entries. NaNs are passed over (a block of NaNs alone has -infinity).
float block_maxima(std::span<const float> x, std::span<float> maxima);

/// sums[b] = sum over block b of exp((x - shift) * scale); returns the sum of all. Where (x - shift) * scale is below
/// -87 the term is 0. Relative error of a term below 6e-7; (x - shift) * scale <= 0.
double block_exp_sums(std::span<const float> x, float shift, float scale, std::span<double> sums);

/// out[i] = the term of x[i] in block_exp_sums.
void exp_terms(std::span<const float> x, float shift, float scale, std::span<float> out);

/// The instruction sets that this machine has kernels for, best first; the best is used.
std::span<const char* const> instruction_sets();
/// For tests and benchmarks, before anything samples: uses that one from now on. False if this machine lacks it.
bool use_instruction_set(std::string_view name);

}  // namespace carat::sampling

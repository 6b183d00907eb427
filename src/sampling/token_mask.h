#pragma once
// Sets of tokens as bits: token t is bit t % 32 of word t / 32; bits beyond the vocabulary are 0. [ceil(V / 32)]
// uint32, the layout that XGrammar writes and sampling kernels read.

#include <cstdint>
#include <span>

#include "base/token.h"

namespace carat {

inline constexpr int num_mask_words(int vocab_size) { return (vocab_size + 31) / 32; }

inline bool mask_has(std::span<const uint32_t> mask, TokenId token) {
  return (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1u) != 0;
}
inline void mask_add(std::span<uint32_t> mask, TokenId token) {
  mask[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
}
inline void mask_remove(std::span<uint32_t> mask, TokenId token) {
  mask[static_cast<size_t>(token) / 32] &= ~(1u << (token % 32));
}
/// Every token of the vocabulary.
void mask_add_all(std::span<uint32_t> mask, int vocab_size);
/// Takes out the bits beyond the vocabulary.
void mask_cut(std::span<uint32_t> mask, int vocab_size);
bool mask_empty(std::span<const uint32_t> mask);
/// The lowest token in the mask; 0 if there is none.
TokenId mask_first(std::span<const uint32_t> mask);
/// logits[t] = -infinity for each t that is not in the mask. logits [V], mask [ceil(V / 32)].
void apply_mask(std::span<const uint32_t> mask, std::span<float> logits);

}  // namespace carat

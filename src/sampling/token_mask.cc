#include "sampling/token_mask.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace carat {

void mask_add_all(std::span<uint32_t> mask, int vocab_size) {
  std::ranges::fill(mask, ~0u);
  mask_cut(mask, vocab_size);
}

void mask_cut(std::span<uint32_t> mask, int vocab_size) {
  if (vocab_size % 32 != 0) mask.back() &= (1u << (vocab_size % 32)) - 1;
}

bool mask_empty(std::span<const uint32_t> mask) {
  return std::ranges::all_of(mask, [](uint32_t word) { return word == 0; });
}

TokenId mask_first(std::span<const uint32_t> mask) {
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0) return static_cast<TokenId>(i * 32 + static_cast<size_t>(std::countr_zero(mask[i])));
  return 0;
}

void apply_mask(std::span<const uint32_t> mask, std::span<float> logits) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  for (size_t begin = 0; begin < logits.size(); begin += 32) {
    const uint32_t word = mask[begin / 32];
    if (word == ~0u) continue;
    const size_t count = std::min<size_t>(32, logits.size() - begin);
    float* const x = logits.data() + begin;
    if (count == 32 && std::popcount(word) >= 16) {  // most stay: ban the others one by one
      for (uint32_t banned = ~word; banned != 0; banned &= banned - 1) x[std::countr_zero(banned)] = kBanned;
      continue;
    }
    float kept[32];
    std::copy_n(x, count, kept);
    std::fill_n(x, count, kBanned);
    for (uint32_t allowed = word; allowed != 0; allowed &= allowed - 1) {
      const int i = std::countr_zero(allowed);
      x[i] = kept[i];
    }
  }
}

}  // namespace carat

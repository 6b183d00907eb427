#pragma once
// For tests: media without content, and an encoder that makes soft tokens of their hashes.

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "model/media_encoder.h"
#include "model/text/text_model_testing.h"
#include "tensor/bf16.h"

namespace carat::testing {

inline std::shared_ptr<const EncoderInput> fake_input(uint64_t hash, int num_tokens,
                                                      EncoderInput::Kind kind = EncoderInput::Kind::kImage) {
  auto input = std::make_shared<EncoderInput>();
  input->kind = kind;
  input->hash = {hash, ~hash};
  input->num_tokens = num_tokens;
  return input;
}

/// [num_tokens, H], of the size that embeddings have.
inline std::vector<Bf16> fake_soft_tokens(const EncoderInput& input, int hidden_size) {
  std::mt19937_64 random(input.hash[0]);
  std::normal_distribution<float> normal;
  std::vector<Bf16> out;
  for (int i = 0; i < input.num_tokens * hidden_size; ++i) out.emplace_back(normal(random));
  return out;
}

/// What a TextModelDriver is to be told of a prompt's media.
inline std::vector<SoftItem> soft_items(const std::vector<MediaSpan>& media, const TextConfig& config) {
  std::vector<SoftItem> out;
  for (const MediaSpan& span : media)
    out.push_back({span.begin, span.input->num_tokens,
                   config.bidirectional_vision && span.input->kind != EncoderInput::Kind::kAudio,
                   fake_soft_tokens(*span.input, config.hidden_size)});
  return out;
}

class FakeEncoder final : public MediaEncoder {
 public:
  /// `num_calls` may be null; it is written by the runner's thread.
  explicit FakeEncoder(int* num_calls = nullptr) : num_calls_(num_calls) {}
  void encode(ops::Context&, const EncoderInput& input, TensorView soft_tokens) override {
    if (num_calls_) ++*num_calls_;
    CARAT_CHECK_EQ(soft_tokens.dim(0), int64_t{input.num_tokens});
    std::ranges::copy(fake_soft_tokens(input, static_cast<int>(soft_tokens.last_dim())),
                      static_cast<Bf16*>(soft_tokens.data));
  }

 private:
  int* num_calls_;
};

}  // namespace carat::testing

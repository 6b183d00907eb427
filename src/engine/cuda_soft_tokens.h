#pragma once
// Soft tokens on a GPU: from encoder to the rows of a step.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/soft_token_cache.h"
#include "model/cuda_media_encoder.h"
#include "tensor/cuda/device.h"

namespace carat {

/// Rows [row, row + count) of a step that are an item's soft tokens from `first` on.
struct SoftSpan {
  std::shared_ptr<const EncoderInput> input;
  int first = 0, row = 0, count = 0;
  std::optional<int> last_key;  ///< where they see each other: the block's last position
};

/// Items are encoded when first needed, kept in the cache, and copied from there to the step's rows, since what one
/// step needs may be more than the cache holds. Everything is enqueued on one stream, which orders it. Engine thread.
class CudaSoftTokens {
 public:
  /// Of the cache and of a step.
  static int64_t device_bytes(int hidden_size, int cache_tokens, int step_tokens);
  /// `encoder` null: no media, nothing is taken. Errors: kOverloaded.
  Result<void> init(std::unique_ptr<CudaMediaEncoder> encoder, int hidden_size, int cache_tokens, int step_tokens);

  int max_item_tokens() const { return cache_.num_rows(); }
  /// [step_tokens, H] bf16 on the device: the step's rows by number, those of its spans filled.
  void* step_rows() const { return row(cache_.num_rows()); }
  /// Enqueues what brings the spans' soft tokens to their rows.
  void gather(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const SoftSpan> spans);

 private:
  struct Copy {
    int from, to, count;
  };
  void* row(int i) const { return memory_.as<char>() + i * row_bytes_; }
  void flush(const cuda::Launch& launch, const cuda::Stream& stream);

  std::unique_ptr<CudaMediaEncoder> encoder_;
  int64_t row_bytes_ = 0;
  SoftTokenCache cache_{0};
  cuda::DeviceBuffer memory_;
  std::vector<CudaMediaEncoder::Item> items_;
  std::vector<Copy> copies_;
};

}  // namespace carat

#include "engine/cuda_soft_tokens.h"

namespace carat {

int64_t CudaSoftTokens::device_bytes(int hidden_size, int cache_tokens, int step_tokens) {
  return cache_tokens > 0 ? int64_t{2} * hidden_size * (int64_t{cache_tokens} + step_tokens) : 0;
}

Result<void> CudaSoftTokens::init(std::unique_ptr<CudaMediaEncoder> encoder, int hidden_size, int cache_tokens,
                                  int step_tokens) {
  CARAT_CHECK((encoder != nullptr) == (cache_tokens > 0), "an encoder has a cache");
  if (!encoder) return {};
  encoder_ = std::move(encoder);
  row_bytes_ = int64_t{2} * hidden_size;
  cache_ = SoftTokenCache(cache_tokens);
  CARAT_TRY(memory_, cuda::DeviceBuffer::allocate(device_bytes(hidden_size, cache_tokens, step_tokens)));
  return {};
}

void CudaSoftTokens::gather(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const SoftSpan> spans) {
  for (const SoftSpan& span : spans) {
    auto place = cache_.find_or_take(*span.input);
    if (!place) {
      flush(launch, stream);
      place = cache_.find_or_take(*span.input);
    }
    if (place->fresh) items_.push_back({span.input.get(), row(place->row)});
    copies_.push_back({place->row + span.first, span.row, span.count});
  }
  flush(launch, stream);
}

/// What was asked for so far goes to its rows: from here on the cache may use its places again.
void CudaSoftTokens::flush(const cuda::Launch& launch, const cuda::Stream& stream) {
  if (!items_.empty()) encoder_->encode(launch, stream, items_);
  for (const Copy& copy : copies_)
    stream.copy_on_device(row(cache_.num_rows() + copy.to), row(copy.from), copy.count * row_bytes_);
  items_.clear();
  copies_.clear();
  cache_.release();
}

}  // namespace carat

#include "media/limits.h"

#include "base/str.h"

namespace carat {

Result<void> check_encoded_size(const MediaLimits& limits, size_t size, std::string_view kind) {
  if (static_cast<int64_t>(size) <= limits.max_encoded_bytes) return {};
  return Error{Errc::kTooLarge,
               str_cat("the ", kind, " has ", size, " bytes; at most ", limits.max_encoded_bytes, " are allowed")};
}

Result<void> check_picture_size(const MediaLimits& limits, int64_t max_pixels, int64_t width, int64_t height,
                                std::string_view what) {
  const auto refuse = [&](const auto&... allowed) {
    return Error{Errc::kTooLarge,
                 str_cat(what, " ", width, " x ", height, " pixels; at most ", allowed..., " are allowed")};
  };
  if (width * height > max_pixels) return refuse(max_pixels);
  if (width > limits.max_side || height > limits.max_side) return refuse(limits.max_side, " in a row or column");
  return {};
}

Result<void> check_deadline(const MediaLimits& limits, std::string_view kind) {
  if (limits.stopped && limits.stopped())
    return Error{Errc::kCancelled, str_cat("decoding the ", kind, " was stopped")};
  if (limits.deadline == MediaLimits::Clock::time_point::max() || MediaLimits::Clock::now() <= limits.deadline)
    return {};
  return Error{Errc::kUnavailable, str_cat("decoding the ", kind, " took longer than is allowed")};
}

}  // namespace carat

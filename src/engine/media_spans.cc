#include "engine/media_spans.h"

#include <algorithm>

#include "base/hash.h"

namespace carat {

std::span<const MediaSpan> spans_within(std::span<const MediaSpan> media, int begin, int end) {
  const auto first = std::ranges::upper_bound(media, begin, {}, end_of);
  const auto last = std::ranges::lower_bound(first, media.end(), end, {}, &MediaSpan::begin);
  return {first, last};
}

int uncut_end(std::span<const MediaSpan> media, int begin, int end) {
  // A span with positions on both sides of `end`.
  for (const MediaSpan& span : spans_within(media, end - 1, end))
    if (is_block(span) && end_of(span) > end) return std::max(begin, span.begin);
  return end;
}

int smallest_slice(std::span<const MediaSpan> media, int begin) {
  for (const MediaSpan& span : spans_within(media, begin, begin + 1))
    if (is_block(span)) return end_of(span) - begin;
  return 1;
}

std::vector<TokenId> cache_ids(std::span<const TokenId> prompt, std::span<const MediaSpan> media) {
  std::vector<TokenId> ids(prompt.begin(), prompt.end());
  for (const MediaSpan& span : media) {
    const uint64_t content = hash_combine(span.input->hash[0], span.input->hash[1]);
    for (int i = 0; i < span.input->num_tokens; ++i)
      ids[static_cast<size_t>(span.begin + i)] =
          -1 - static_cast<TokenId>(hash_combine(content, static_cast<uint64_t>(i)) & 0x7fffffff);
  }
  return ids;
}

}  // namespace carat

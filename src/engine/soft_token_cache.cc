#include "engine/soft_token_cache.h"

#include <algorithm>

#include "base/check.h"

namespace carat {

std::optional<SoftTokenCache::Place> SoftTokenCache::find_or_take(const EncoderInput& input) {
  CARAT_CHECK(input.num_tokens > 0 && input.num_tokens <= num_rows_, "an item fits the cache");
  // An arena holds hundreds of items at most, and a step asks for a few.
  for (auto& [row, item] : items_) {
    if (item.hash != input.hash) continue;
    CARAT_CHECK_EQ(item.num_rows, input.num_tokens);
    item.stamp = ++clock_;
    return Place{row, false};
  }
  std::optional<int> row;
  while (!(row = gap_of(input.num_tokens))) {
    const auto oldest = std::ranges::min_element(items_, {}, [](const auto& entry) { return entry.second.stamp; });
    if (oldest->second.stamp > released_) return std::nullopt;
    items_.erase(oldest);
  }
  items_[*row] = {input.hash, input.num_tokens, ++clock_};
  return Place{*row, true};
}

/// The first row of so many free ones.
std::optional<int> SoftTokenCache::gap_of(int num_rows) const {
  int begin = 0;
  for (const auto& [row, item] : items_) {
    if (row - begin >= num_rows) return begin;
    begin = row + item.num_rows;
  }
  return num_rows_ - begin >= num_rows ? std::optional(begin) : std::nullopt;
}

}  // namespace carat

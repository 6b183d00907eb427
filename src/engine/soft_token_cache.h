#pragma once
// Which rows of an arena hold the soft tokens of which items. Bookkeeping only: row numbers, no memory.

#include <cstdint>
#include <map>
#include <optional>

#include "base/encoder_input.h"

namespace carat {

/// Keeps encoders' outputs between chunks, requests and turns of a conversation: items are found by their content's
/// hash, and the least recently used make room. An item's rows lie side by side. Not thread-safe.
class SoftTokenCache {
 public:
  explicit SoftTokenCache(int num_rows) : num_rows_(num_rows) {}

  struct Place {
    int row = 0;         ///< the first of input.num_tokens rows
    bool fresh = false;  ///< they hold nothing yet: the caller encodes the item before it asks for others
  };
  /// The rows of an item of at most num_rows tokens. Null if there is room only where items lie that were asked for
  /// since the last release(): their rows are to be read first.
  std::optional<Place> find_or_take(const EncoderInput& input);
  /// Rows handed out so far have been read, or will be before anything is written to rows handed out later.
  void release() { released_ = clock_; }

  int num_rows() const { return num_rows_; }
  int num_items() const { return static_cast<int>(items_.size()); }

 private:
  struct Item {
    Hash128 hash{};
    int num_rows = 0;
    uint64_t stamp = 0;  ///< of its last use
  };
  std::optional<int> gap_of(int num_rows) const;

  int num_rows_;
  uint64_t clock_ = 0, released_ = 0;
  std::map<int, Item> items_;  ///< by first row
};

}  // namespace carat

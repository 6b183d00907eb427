#pragma once
// Finds the first of several stop strings in a text that arrives in pieces.

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace carat {

/// Knuth-Morris-Pratt with one state per stop string: each byte costs a few steps for each of them, and next to nothing
/// while no stop string has begun. Pure state, no thread of its own.
class StopMatcher {
 public:
  /// None of `stops` may be empty.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Match {
    size_t stop = 0;  ///< index into the list; of those that end at the same byte, the first
    size_t end = 0;   ///< bytes of the piece up to and including the stop string's last one
  };
  /// Reads the next piece of the text. The first stop string to be complete wins; nothing may be fed after it.
  std::optional<Match> feed(std::string_view piece);
  /// Bytes at the end of what was fed that may yet become a stop string: its longest suffix that begins one.
  size_t num_held() const { return num_held_; }

  const std::string& stop(size_t index) const { return patterns_[index].text; }
  bool empty() const { return patterns_.empty(); }

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // border[i]: the longest proper prefix of text that text[0..i] ends in
    size_t matched = 0;
  };
  bool advance(Pattern& pattern, char c);

  std::vector<Pattern> patterns_;
  std::array<bool, 256> is_first_{};  // bytes that begin a stop string
  size_t num_held_ = 0;
};

}  // namespace carat

#pragma once
// A sample's ids -> text: incremental decoding, stop strings with hold-back. Pure state, no thread of its own.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "output/stop_matcher.h"
#include "output/stop_regex.h"
#include "tokenizer/tokenizer.h"

namespace carat {

struct TextOptions {
  static constexpr size_t kMaxStops = 32;
  static constexpr size_t kMaxStopBytes = 4096;  ///< bounds the tables of each sample, and what it may hold back

  bool skip_special_tokens = true;
  std::vector<std::string> stop = {};                    ///< stop strings, none empty
  std::shared_ptr<const StopRegexes> stop_regexes = {};  ///< searched after the stop strings; may be null
  bool no_stop_trim = false;                             ///< keep the matched stop string or token in the text
  /// Special tokens that a parser wants to see as such: they are reported by id and place, and their text is left out,
  /// whatever skip_special_tokens says.
  std::vector<TokenId> markers = {};
};

/// Checks number and length of the stop strings, and that none is empty. Errors: kInvalidArgument, SGLang's text for
/// the number.
Result<void> validate(const TextOptions& options);

/// Feed tokens in order; take text that is certain. The sum of all deltas does not depend on how the tokens were cut
/// into calls, and text once given is never taken back.
///
/// Stop strings are searched in the text as it is with all special tokens, as SGLang does, so a stop string may name
/// one that is not shown. The stop string that is complete first ends the text, within the token that completes it; the
/// longest end of the text that may still become a stop string is held back until it is decided. Stop expressions are
/// searched after each token, in the same text and with the same care.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, TextOptions options);

  struct Marker {
    size_t offset = 0;  ///< in the delta's text: what stands before it came before the marker
    TokenId id = 0;
    bool operator==(const Marker&) const = default;
  };
  struct Delta {
    std::string text;
    std::vector<Marker> markers;
    /// Tokens consumed by this call; fewer than given if a stop string ended the text. The one that completes the stop
    /// string counts.
    int num_tokens = 0;
    /// The stop string or expression that ended the text. Nothing may be pushed afterwards, nor finish called.
    std::optional<std::string> matched_stop;
  };
  Delta push(std::span<const TokenId> tokens);
  /// The text that was held back. `end_token`: the sequence ended with this end or stop token, which was not pushed;
  /// its text shows only with no_stop_trim. A stop string that it completes outweighs it (matched_stop). Call once.
  Delta finish(std::optional<TokenId> end_token = std::nullopt);
  /// Instead of push and finish for the last token that a length limit allows: the limit outweighs a stop string that
  /// this token completes, so that nothing is searched and the text is whole. Call once.
  Delta finish_at_limit(TokenId last);

 private:
  /// A stretch of the raw text that is not shown; as absolute offsets.
  struct Hidden {
    uint64_t begin = 0, end = 0;
    std::optional<TokenId> marker;
  };
  bool is_marker(TokenId id) const;
  bool is_skipped(TokenId id) const;
  void append(TokenId id);
  void append_hidden(std::string_view text, std::optional<TokenId> marker);
  /// Searches what was appended to held_ from `start` on and moves what is certain into `delta`. True at a stop string.
  bool settle(size_t start, Delta& delta);
  /// The text ends at held_[begin], where `stop` was found. True.
  bool stop_at(size_t begin, const std::string& stop, Delta& delta);
  void release(size_t num_bytes, Delta& delta);

  const Tokenizer* tokenizer_;
  TextOptions options_;
  StreamDecoder decoder_;
  StopMatcher matcher_;
  std::optional<StopRegexSearch> regexes_;
  std::string held_;            // raw text not yet given out
  std::vector<Hidden> hidden_;  // what of held_ is not shown, in order
  uint64_t released_ = 0;       // raw bytes before held_
};

}  // namespace carat

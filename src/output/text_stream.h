#pragma once
// A sample's ids -> text: incremental decoding, stop strings with hold-back. Pure state, no thread of its own.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/token.h"
#include "tokenizer/tokenizer.h"

namespace carat {

struct TextOptions {
  bool skip_special_tokens = true;
  std::vector<std::string> stop;  ///< stop strings, none empty
  bool no_stop_trim = false;      ///< keep the matched stop string or token in the text
};

/// Feed tokens in order; take text that is certain. The sum of all deltas does not depend on how the tokens were cut
/// into calls.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, TextOptions options);

  struct Delta {
    std::string text;
    /// Tokens consumed by this call; fewer than given if a stop string ended the text.
    int num_tokens = 0;
    /// The stop string that ended the text. Nothing may be pushed afterwards.
    std::optional<std::string> matched_stop;
  };
  Delta push(std::span<const TokenId> tokens);
  /// The text that was held back. `end_token`: the sequence ended with this end or stop token, which was not pushed;
  /// its text shows only with no_stop_trim.
  Delta finish(std::optional<TokenId> end_token = std::nullopt);

 private:
  const Tokenizer* tokenizer_;
  TextOptions options_;
  StreamDecoder decoder_;
  std::string held_;
};

}  // namespace carat

#pragma once
// Finds the first match of several regular expressions in a text that arrives in pieces. RE2 is behind it and shows in
// stop_regex.cc only: time is linear in the text, whatever the expression.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace carat {

/// Compiled expressions, shared by all samples of a request. RE2's syntax: Python's without references and look-around,
/// with \d, \s and \w for ASCII. Constant, any thread.
class StopRegexes {
 public:
  static constexpr size_t kMaxCount = 32;
  static constexpr size_t kMaxBytes = 256;
  /// Of text that may yet become a match; what is older is given out.
  static constexpr size_t kMaxHeld = 4096;

  /// Errors: kInvalidArgument above a limit (SGLang's texts) and for what RE2 does not take.
  static Result<std::shared_ptr<const StopRegexes>> compile(const std::vector<std::string>& patterns);
  ~StopRegexes();

  struct Match {
    size_t regex = 0;  ///< index into the list; of those that match, the first
    size_t begin = 0;  ///< in the text: its leftmost match
  };
  /// Looks from `from` on; what stands before counts for \b and ^.
  std::optional<Match> find(std::string_view text, size_t from) const;
  /// Where the longest end of text[from, ...) begins that is a beginning of a match; text.size() if there is none.
  size_t undecided(std::string_view text, size_t from) const;
  const std::string& pattern(size_t index) const { return patterns_[index]; }

 private:
  struct Compiled;
  StopRegexes();
  std::vector<std::string> patterns_;
  std::unique_ptr<Compiled> compiled_;
};

/// One sample's search. No thread of its own.
class StopRegexSearch {
 public:
  explicit StopRegexSearch(std::shared_ptr<const StopRegexes> regexes) : regexes_(std::move(regexes)) {}

  struct Match {
    std::string pattern;
    size_t num_bytes = 0;  ///< from the match's begin to the end of what was fed
  };
  /// Reads the next piece of the text, whole characters. After a match nothing may be fed.
  std::optional<Match> feed(std::string_view piece);
  /// Bytes at the end of what was fed that may yet become a match, at most kMaxHeld.
  size_t num_held() const { return window_.size() - from_; }

 private:
  const std::shared_ptr<const StopRegexes> regexes_;
  std::string window_;  // the character before what is undecided, and that
  size_t from_ = 0;     // where it begins
};

/// An expression that matches every beginning of what `pattern` matches, nothing and the whole included. Absent where
/// the syntax is too rare to be worth it (\Q, flags in the middle); `pattern` is one that RE2 takes.
std::optional<std::string> prefix_pattern(std::string_view pattern);

}  // namespace carat

#pragma once
// A vocabulary of single characters with Gemma's markers, for tests of constraints.

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sampling/constraint.h"
#include "sampling/grammar/grammar_compiler.h"

namespace carat::testing {

/// Tokens 0..9 are special, then come the printable ASCII characters and the newline, then some words.
struct SmallVocabulary {
  static constexpr TokenId kEnd = 0, kTurnEnd = 1, kThoughtOpen = 2, kThoughtClose = 3, kCallOpen = 4, kCallClose = 5,
                           kMark = 6, kOther = 7, kLabel = 8;
  std::vector<std::string> pieces;

  SmallVocabulary() {
    pieces.resize(10);
    pieces[kLabel] = "thought";
    for (char c = ' '; c < 127; ++c) pieces.emplace_back(1, c);
    for (const char* piece : {"\n", "{\"", "\":", "true", "12", "call", "abc", "\xC3\xA9", "\xC3", "\xA9"})
      pieces.emplace_back(piece);
  }
  int size() const { return static_cast<int>(pieces.size()); }
  TokenId at(char c) const { return c == '\n' ? 10 + 95 : 10 + (c - ' '); }
  std::vector<TokenId> tokens(std::string_view text) const {
    std::vector<TokenId> out;
    for (const char c : text) out.push_back(at(c));
    return out;
  }
  /// Markers print as the real ones do.
  std::string text(std::span<const TokenId> tokens) const {
    static const char* const kNames[] = {"<eos>",        "<turn|>",      "<|channel>", "<channel|>",
                                         "<|tool_call>", "<tool_call|>", "<|\"|>",     "<other>"};
    std::string out;
    for (const TokenId t : tokens) out += t < 8 ? kNames[t] : pieces[static_cast<size_t>(t)];
    return out;
  }
  ConstraintMarkers markers() const { return {kThoughtOpen, kThoughtClose, kCallOpen, kCallClose}; }
  GrammarVocabulary grammar() const { return {pieces, kCallClose, kMark}; }
  /// A plan with the markers and what it takes to close thoughts.
  ConstraintPlan plan() const {
    ConstraintPlan out;
    out.markers = markers();
    out.thought_label = {kLabel, at('\n')};
    out.thought_end = {at('\n'), kThoughtClose};
    return out;
  }
};

/// The character that token t of the next function's vocabulary is.
inline char letter_or_digit(TokenId t) {
  return t % 3 == 0 ? static_cast<char>('0' + t % 10) : static_cast<char>('a' + t % 26);
}
/// Answers of runs of letters and digits in turn, over a vocabulary of any size; each of its tokens is one of them.
inline std::shared_ptr<const ConstraintPlan> runs_of_letters_and_digits(int vocab_size) {
  GrammarVocabulary vocabulary;
  for (TokenId t = 0; t < vocab_size; ++t) vocabulary.pieces.emplace_back(1, letter_or_digit(t));
  GrammarCompiler compiler(std::move(vocabulary), {.timeout = std::chrono::minutes(5)});
  auto plan = std::make_shared<ConstraintPlan>();
  plan->answer = compiler.compile_now({GrammarSource::Kind::kRegex, "([a-m]{3}[0-9]{1,2}[n-z][0-4])+"}).value();
  return plan;
}

}  // namespace carat::testing

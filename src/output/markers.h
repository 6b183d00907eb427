#pragma once
// The control tokens of thoughts and tool calls, and text in which they stand as single bytes.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/token.h"
#include "output/text_stream.h"
#include "tokenizer/tokenizer.h"

namespace carat {

enum class Marker : uint8_t {
  kChannelOpen,    ///< <|channel>
  kChannelClose,   ///< <channel|>
  kCallOpen,       ///< <|tool_call>
  kCallClose,      ///< <tool_call|>
  kResponseOpen,   ///< <|tool_response>
  kResponseClose,  ///< <tool_response|>
  kQuote,          ///< <|"|>, around strings in call arguments
};
inline constexpr int kNumMarkers = 7;

std::string_view spelling(Marker marker);

// Marked text: UTF-8 in which each marker is one byte from 0xF8 on, which UTF-8 never uses. So a marker that the model
// generated and text that merely spells it stay apart, and no marker is ever cut in two.

constexpr char to_byte(Marker marker) { return static_cast<char>(0xF8 + static_cast<int>(marker)); }
constexpr bool is_marker_byte(char c) { return static_cast<unsigned char>(c) >= 0xF8; }
constexpr Marker to_marker(char byte) { return static_cast<Marker>(static_cast<unsigned char>(byte) - 0xF8); }
/// Position of the first marker at or after `from`, or npos.
size_t find_marker(std::string_view marked, size_t from = 0);
/// Appends plain text: each marker as it is spelled.
void append_spelled(std::string& out, std::string_view marked);
std::string spelled(std::string_view marked);

/// The ids of a vocabulary's markers. Immutable, any thread.
class MarkerIds {
 public:
  MarkerIds() = default;
  /// Those of the markers that `tokenizer` has.
  explicit MarkerIds(const Tokenizer& tokenizer);

  std::optional<TokenId> id(Marker marker) const { return ids_[static_cast<size_t>(marker)]; }
  /// For TextOptions::markers.
  std::vector<TokenId> all() const;
  /// What a TextStream with these markers gave out, as marked text.
  void append_marked(std::string& out, const TextStream::Delta& delta) const;
  /// Whether a reply to `prompt` begins inside a thought: one was opened, and neither it, nor a turn or tool response
  /// after it, was closed, nor a turn begun.
  bool ends_in_thought(std::span<const TokenId> prompt) const;

 private:
  std::array<std::optional<TokenId>, kNumMarkers> ids_{};
  std::vector<TokenId> thought_bounds_;  // tokens after which no earlier thought is open
};

/// Plain text -> marked text, markers recognised by their spelling: for text that has no tokens. What may become a
/// marker is held back.
class MarkerScanner {
 public:
  void push(std::string_view text, std::string& marked);
  void finish(std::string& marked);

 private:
  std::string held_;  // the beginning of a marker
};

}  // namespace carat

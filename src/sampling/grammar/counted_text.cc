#include "sampling/grammar/counted_text.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "base/utf8.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

/// Behind a backslash.
constexpr std::string_view kEscaped = "\"\\/bfnrt";
constexpr std::string_view kEscape = "\\";

/// Bytes of the first character of a text, 0 if there is none or it may not stand there.
size_t character(std::string_view text, TextStyle style) {
  if (text.empty()) return 0;
  const Utf8Step step = decode_utf8(text);
  if (!step.valid) return 0;
  if (style == TextStyle::kPlain) return step.code_point == 0 ? 0 : static_cast<size_t>(step.length);
  if (step.code_point < 0x20 || text[0] == '"') return 0;
  if (text[0] != '\\') return static_cast<size_t>(step.length);
  return text.size() > 1 && kEscaped.find(text[1]) != std::string_view::npos ? 2 : 0;
}

/// What may follow the bytes of a character that is not whole: low .. high. The Unicode Standard, table 3-7.
std::pair<int, int> next_byte(std::string_view partial) {
  if (partial.empty()) return {0xC2, 0xF4};
  const int first = static_cast<unsigned char>(partial[0]);
  if (partial.size() > 1) return {0x80, 0xBF};
  return {first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF};
}

bool is_whole(std::string_view character) {
  const int first = static_cast<unsigned char>(character[0]);
  return character.size() == (first < 0xE0 ? 2u : first < 0xF0 ? 3u : 4u);
}

}  // namespace

TextTokens::TextTokens(const std::vector<std::string>& pieces, TextStyle style) : lengths_(pieces.size()) {
  constexpr int kMaxLength = 1000;  // of a token; longer ones are left out
  bytes_.fill(-1);
  std::unordered_map<std::string_view, TokenId> ids;
  for (size_t t = 0; t < pieces.size(); ++t) ids.emplace(pieces[t], static_cast<TokenId>(t));
  int longest = 0;
  for (size_t t = 0; t < pieces.size(); ++t) {
    const std::string& piece = pieces[t];
    const auto token = static_cast<TokenId>(t);
    int length = 0;
    size_t at = 0;
    while (const size_t bytes = character(std::string_view(piece).substr(at), style)) {
      at += bytes;
      ++length;
    }
    const int first = piece.empty() ? 0 : static_cast<unsigned char>(piece[0]);
    if (at == piece.size() && length <= kMaxLength) {
      lengths_[t] = static_cast<uint16_t>(length);
      longest = std::max(longest, length);
    } else if (piece.size() == 1 && first >= 0x80 && bytes_[static_cast<size_t>(first)] < 0) {
      bytes_[static_cast<size_t>(first)] = token;
      byte_of_.emplace(token, static_cast<uint8_t>(first));
    } else if (style == TextStyle::kJson && at > 0 && length <= kMaxLength && piece[at] == '"') {
      if (const auto rest = ids.find(std::string_view(piece).substr(at)); rest != ids.end())
        closers_.emplace(token, Closer{length, rest->second});
    }
  }
  for (int value = 0x80; value <= 0xF4; ++value)
    if (bytes_[static_cast<size_t>(value)] < 0 && value != 0xC0 && value != 0xC1) byte_of_.clear();

  if (style == TextStyle::kJson && ids.contains(kEscape)) {
    for (size_t i = 0; i < kEscaped.size(); ++i)
      if (const auto token = ids.find(kEscaped.substr(i, 1)); token != ids.end()) escaped_.push_back(token->second);
    if (escaped_.size() == kEscaped.size()) escape_ = ids.at(kEscape);
  }

  up_to_.assign(static_cast<size_t>(longest) + 1,
                std::vector<uint32_t>(static_cast<size_t>(num_mask_words(static_cast<int>(pieces.size())))));
  for (size_t most = 1; most < up_to_.size(); ++most)
    for (size_t t = 0; t < pieces.size(); ++t)
      if (lengths_[t] > 0 && lengths_[t] <= most) mask_add(up_to_[most], static_cast<TokenId>(t));
}

std::span<const uint32_t> TextTokens::up_to(int64_t most) const {
  return up_to_[static_cast<size_t>(std::clamp<int64_t>(most, 0, static_cast<int64_t>(up_to_.size()) - 1))];
}

std::optional<TokenId> TextTokens::byte(int value) const {
  if (byte_of_.empty()) return std::nullopt;
  return bytes_[static_cast<size_t>(value)];
}

std::optional<uint8_t> TextTokens::byte_of(TokenId token) const {
  const auto found = byte_of_.find(token);
  return found == byte_of_.end() ? std::nullopt : std::optional(found->second);
}

bool TextCount::accept(TokenId token) {
  if (partial_ == kEscape) {
    if (std::ranges::count(tokens_->escaped(), token) == 0) return false;
    partial_.clear();
    ++length_;
    return true;
  }
  if (token == tokens_->escape() && partial_.empty() && room() > 0) {
    partial_ = kEscape;
    return true;
  }
  if (const int length = tokens_->length(token); length > 0) {
    if (!partial_.empty() || length > room()) return false;
    length_ += length;
    return true;
  }
  const auto byte = tokens_->byte_of(token);
  const auto [low, high] = next_byte(partial_);
  if (!byte || *byte < low || *byte > high || room() < 1) return false;
  partial_ += static_cast<char>(*byte);
  if (partial_.size() > 1 && is_whole(partial_)) {
    partial_.clear();
    ++length_;
  }
  return true;
}

bool TextCount::may_end(int64_t more) const {
  return partial_.empty() && more <= room() && length_ + more >= bounds_.least;
}

void TextCount::add_to(std::span<uint32_t> mask) const {
  if (partial_ == kEscape) {
    for (const TokenId token : tokens_->escaped()) mask_add(mask, token);
    return;
  }
  if (partial_.empty()) {
    const auto whole = tokens_->up_to(room());
    for (size_t i = 0; i < whole.size(); ++i) mask[i] |= whole[i];
    if (tokens_->escape() && room() > 0) mask_add(mask, *tokens_->escape());
  }
  const auto [low, high] = next_byte(partial_);
  for (int value = low; value <= high && room() > 0; ++value)
    if (const auto token = tokens_->byte(value)) mask_add(mask, *token);
}

const TextTokens::Closer* TextCount::closer(TokenId token) const {
  const auto found = tokens_->closers().find(token);
  return found != tokens_->closers().end() && may_end(found->second.length) ? &found->second : nullptr;
}

}  // namespace carat

#include "base/utf8.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace carat {

namespace {

constexpr Utf8Step broken(int length) { return {kReplacementCharacter, length, false}; }

bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

/// Bytes from `at` that are ASCII, in steps of 8.
size_t ascii_run(std::string_view text, size_t at) {
  const size_t begin = at;
  for (uint64_t word; at + 8 <= text.size(); at += 8) {
    std::memcpy(&word, text.data() + at, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at - begin;
}

/// The start of the character that ends at `end`, going back over at most three continuation bytes.
size_t previous_character(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && end - at < 4 && is_continuation(static_cast<unsigned char>(text[at]))) --at;
  return decode_utf8(text.substr(at, end - at)).length == static_cast<int>(end - at) ? at : end - 1;
}

// Cased and Case_Ignorable of the Unicode Standard, section 3.13, as far as a general category tells.
bool is_cased(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
      return true;
    default:
      return false;
  }
}
bool is_case_ignorable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:  // the word-break classes MidLetter, MidNumLet and Single_Quote
      return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 || c == 0x2018 ||
             c == 0x2019 || c == 0x2024 || c == 0x2027 || c == 0xFE13 || c == 0xFE52 || c == 0xFE55 || c == 0xFF07 ||
             c == 0xFF0E || c == 0xFF1A;
  }
}
/// Whether the sigma text[begin, end) ends a word: a cased letter before it, none after it, ignorable ones skipped.
bool is_final_sigma(std::string_view text, size_t begin, size_t end) {
  bool cased_before = false;
  for (size_t at = begin; at > 0;) {
    at = previous_character(text, at);
    const char32_t c = decode_utf8(text.substr(at)).code_point;
    if (is_case_ignorable(c)) continue;
    cased_before = is_cased(c);
    break;
  }
  if (!cased_before) return false;
  while (end < text.size()) {
    const Utf8Step step = decode_utf8(text.substr(end));
    if (!is_case_ignorable(step.code_point)) return !is_cased(step.code_point);
    end += static_cast<size_t>(step.length);
  }
  return true;
}

}  // namespace

Utf8Step decode_utf8(std::string_view text) {
  CARAT_DCHECK(!text.empty(), "decode_utf8 of nothing");
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xC2 || lead > 0xF4) return broken(1);
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte has a narrower range; it rules out overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (text.size() < 2 || byte(1) < low || byte(1) > high) return broken(1);
  char32_t value = lead & (0x7Fu >> length);
  value = value << 6 | (byte(1) & 0x3Fu);
  for (int i = 2; i < length; ++i) {
    if (text.size() <= static_cast<size_t>(i) || !is_continuation(byte(static_cast<size_t>(i)))) return broken(i);
    value = value << 6 | (byte(static_cast<size_t>(i)) & 0x3Fu);
  }
  return {value, length, true};
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) c = kReplacementCharacter;
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (true) {
    at += ascii_run(text, at);
    if (at == text.size()) return at;
    const Utf8Step step = decode_utf8(text.substr(at));
    if (!step.valid) return at;
    at += static_cast<size_t>(step.length);
  }
}

void append_valid_utf8(std::string& out, std::string_view text) {
  while (true) {
    const size_t good = valid_utf8_prefix(text);
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) return;
    out.append(kReplacementUtf8);
    text.remove_prefix(static_cast<size_t>(decode_utf8(text).length));
  }
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  append_valid_utf8(out, text);
  return out;
}

size_t incomplete_utf8_tail(std::string_view text) {
  for (size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    const auto lead = static_cast<unsigned char>(tail[0]);
    if (is_continuation(lead)) continue;
    const size_t whole = lead < 0xC2 || lead > 0xF4 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    const Utf8Step step = decode_utf8(tail);
    return whole > length && !step.valid && step.length == static_cast<int>(length) ? length : 0;
  }
  return 0;
}

size_t utf8_length(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) at += static_cast<size_t>(decode_utf8(text.substr(at)).length);
  return count;
}

bool is_unicode_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view lstrip_unicode(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    if (!is_unicode_space(step.code_point)) break;
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return text;
}

std::string_view rstrip_unicode(std::string_view text) {
  while (!text.empty()) {
    const size_t at = previous_character(text, text.size());
    if (!is_unicode_space(decode_utf8(text.substr(at)).code_point)) break;
    text = text.substr(0, at);
  }
  return text;
}

std::string_view strip_unicode(std::string_view text) { return rstrip_unicode(lstrip_unicode(text)); }

std::string to_lower_unicode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = decode_utf8(text.substr(at));
    const size_t end = at + static_cast<size_t>(step.length);
    if (step.code_point == 0x130) {
      out += "i\xCC\x87";  // the one letter whose lower case is two code points
    } else if (step.code_point == 0x3A3) {
      append_utf8(out, is_final_sigma(text, at, end) ? 0x3C2 : 0x3C3);
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(step.code_point))));
    }
    at = end;
  }
  return out;
}

std::string to_upper_unicode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    const auto c = static_cast<utf8proc_int32_t>(step.code_point);
    // Letters that become several do so in their folded form, too: sharp s -> ss -> SS.
    utf8proc_int32_t folded[4];
    const auto count = utf8proc_decompose_char(c, folded, 4, UTF8PROC_CASEFOLD, nullptr);
    const bool expands = count > 1 && count <= 4 && utf8proc_category(c) != UTF8PROC_CATEGORY_LU;
    for (int i = 0; i < (expands ? count : 1); ++i)
      append_utf8(out, static_cast<char32_t>(utf8proc_toupper(expands ? folded[i] : c)));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return out;
}

bool is_unicode_printable(char32_t c) {
  if (c == ' ') return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_SO;  // no separator, control or unassigned
}

bool is_unicode_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // the joiners, and the letters in circles and squares, which count as alphabetic
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  }
}

}  // namespace carat

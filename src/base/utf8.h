#pragma once
// UTF-8: decoding, repair, and the few Unicode facts that Gemma's formats need. Pure functions, any thread.

#include <string>
#include <string_view>

namespace carat {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
/// U+FFFD in UTF-8.
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

/// What stands at the start of a text: a character, or a maximal part of one that is broken there.
struct Utf8Step {
  char32_t code_point;  ///< U+FFFD if broken
  int length;           ///< bytes, 1..4
  bool valid;
};

/// Decodes the first character of `text`, which is not empty. Surrogates, overlong forms and values above U+10FFFF are
/// broken. Source: the Unicode Standard, section 3.9, "U+FFFD substitution of maximal subparts".
Utf8Step decode_utf8(std::string_view text);
/// Appends `code_point`; surrogates and values above U+10FFFF become U+FFFD.
void append_utf8(std::string& out, char32_t code_point);

/// Bytes of the longest prefix that is valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) { return valid_utf8_prefix(text) == text.size(); }
/// `text` with U+FFFD for each maximal broken part, as Python's errors="replace" and Rust's String::from_utf8_lossy.
std::string to_valid_utf8(std::string_view text);
void append_valid_utf8(std::string& out, std::string_view text);
/// Bytes at the end of `text` (0..3) that are the beginning of a character whose rest may still come.
size_t incomplete_utf8_tail(std::string_view text);
/// Number of code points; a broken part counts as one.
size_t utf8_length(std::string_view text);

/// What Python's str.isspace says of one code point.
bool is_unicode_space(char32_t code_point);
// Python's str.strip, lstrip and rstrip without arguments.
std::string_view strip_unicode(std::string_view text);
std::string_view lstrip_unicode(std::string_view text);
std::string_view rstrip_unicode(std::string_view text);
/// Python's str.lower, including U+0130 and the sigma at the end of a word.
std::string to_lower_unicode(std::string_view text);
/// Python's str.upper, including letters that become several (the sharp s, ligatures).
std::string to_upper_unicode(std::string_view text);
/// What Python's str.isprintable says of one code point.
bool is_unicode_printable(char32_t code_point);
/// The \w of regular expressions: alphabetic, mark, decimal digit, connector or joiner.
/// Source: Unicode Technical Standard 18, annex C.
bool is_unicode_word(char32_t code_point);

}  // namespace carat

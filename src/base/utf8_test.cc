#include "base/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace carat {
namespace {

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = decode_utf8(text);
    ASSERT_TRUE(step.valid);
    ASSERT_EQ(step.length, static_cast<int>(text.size()));
    ASSERT_EQ(step.code_point, c >= 0xD800 && c < 0xE000 ? kReplacementCharacter : c);
    for (size_t cut = 1; cut < text.size(); ++cut) ASSERT_EQ(incomplete_utf8_tail("ab" + text.substr(0, cut)), cut);
    ASSERT_EQ(incomplete_utf8_tail(text), 0u);
  }
  std::string text;
  append_utf8(text, 0x110000);
  EXPECT_EQ(text, kReplacementUtf8);
}

TEST(Utf8, RepairsMaximalParts) {
  // Expected values are those of Python's bytes.decode(errors="replace").
  const std::pair<std::string_view, int> cases[] = {
      {"\x80", 1},         {"\xFF\xFE", 2},         {"\xC0\xAF", 2},     {"\xE0\x80\x80", 3},
      {"\xE2\x82", 1},     {"\xE2\x82\xE2\x82", 2}, {"\xF0\x9F\x98", 1}, {"\xF0\x80\x80\x80", 4},
      {"\xED\xA0\x80", 3}, {"\xF4\x90\x80\x80", 4}, {"\xF5\x80", 2},     {"\xF1\x80\x80\xC3\xA9", 1},
      {"\xC2", 1}};
  for (const auto& [bytes, broken] : cases) {
    const std::string text = to_valid_utf8(bytes);
    int found = 0;
    for (size_t at = text.find(kReplacementUtf8); at != std::string::npos; at = text.find(kReplacementUtf8, at + 3))
      ++found;
    EXPECT_EQ(found, broken) << text;
    EXPECT_FALSE(is_valid_utf8(bytes));
    EXPECT_TRUE(is_valid_utf8(text));
  }
  EXPECT_EQ(to_valid_utf8("a\xE2\x82z\xF0\x9F\x98\x80"), "a\uFFFDz😀");
  EXPECT_EQ(to_valid_utf8(""), "");
  EXPECT_EQ(valid_utf8_prefix("123456789é\x80"), 11u);
}

TEST(Utf8, IncompleteTail) {
  EXPECT_EQ(incomplete_utf8_tail(""), 0u);
  EXPECT_EQ(incomplete_utf8_tail("abc"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xE2"), 1u);
  EXPECT_EQ(incomplete_utf8_tail("x\xF0\x9F\x98"), 3u);
  for (std::string_view hopeless :
       {"\x80", "\xFF", "\xC0", "\xE0\x80", "\xED\xA0", "\xF4\x90", "\xF0\x80\x80", "\xE2\x82\xAC", "\xE2\x82\xAC\x80"})
    EXPECT_EQ(incomplete_utf8_tail(hopeless), 0u);
}

TEST(Utf8, Strip) {
  EXPECT_EQ(strip_unicode(" \t\n\u00A0\u2003\u3000\u0085x y\u2028\x1F "), "x y");
  EXPECT_EQ(lstrip_unicode("  x "), "x ");
  EXPECT_EQ(rstrip_unicode(" x\u3000"), " x");
  EXPECT_EQ(strip_unicode("\u3000\n"), "");
  EXPECT_EQ(strip_unicode("\u200B\uFEFF"), "\u200B\uFEFF");  // no spaces to Python
  EXPECT_EQ(rstrip_unicode("x\x80 "), "x\x80");
  EXPECT_EQ(strip_unicode(""), "");
}

TEST(Utf8, LowerCase) {
  EXPECT_EQ(to_lower_unicode("HeLLo ŻÓŁW ДОМ ǅ ẞ"), "hello żółw дом ǆ ß");
  EXPECT_EQ(to_lower_unicode("İ"), "i\u0307");
  EXPECT_EQ(to_lower_unicode("ΟΔΟΣ ΣΑΣ Σ"), "οδος σας σ");
  EXPECT_EQ(to_lower_unicode("ΑΣ' ΑΣ.Β"), "ας' ασ.β");
}

TEST(Utf8, UpperCase) {
  EXPECT_EQ(to_upper_unicode("string aé\xCF\x83 1"), "STRING AÉ\xCE\xA3 1");
  EXPECT_EQ(to_upper_unicode("straße ﬁn ŉ ẞ İ ᾀ ᾈ ǅ"), "STRASSE FIN ʼN ẞ İ ἈΙ ἈΙ Ǆ");
  EXPECT_EQ(to_upper_unicode("\xFF"), "\xEF\xBF\xBD");
}

TEST(Utf8, Printable) {
  for (const char32_t c : {U' ', U'a', U'~', U'é', U'字', U'😀', U'\u0301'}) EXPECT_TRUE(is_unicode_printable(c));
  for (const char32_t c : {U'\n', U'\x7f', U'\u00a0', U'\u00ad', U'\u2028', U'\ufeff', U'\ue000', U'\u0378'})
    EXPECT_FALSE(is_unicode_printable(c)) << static_cast<uint32_t>(c);
}

TEST(Utf8, Words) {
  for (char32_t c : {U'a', U'7', U'_', U'é', U'字', U'٣'}) EXPECT_TRUE(is_unicode_word(c));
  for (char32_t c : {U' ', U'-', U'\u2581', U'\u3000', U'<'}) EXPECT_FALSE(is_unicode_word(c));
}

TEST(Utf8, Length) { EXPECT_EQ(utf8_length("aé字😀\x80"), 5u); }

}  // namespace
}  // namespace carat

// Expressions and texts from bytes: whatever RE2 takes, no part of a match may be given out, and none may be missed.
// Bytes: the length of the expression, the expression, the text (seven bits each, so that characters are whole).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "output/stop_regex.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace carat;
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string pattern(bytes.substr(0, data[0]));
  std::string text(bytes.substr(pattern.size()).substr(0, 64));
  for (char& c : text) c = static_cast<char>(c & 0x7f);
  const auto regexes = StopRegexes::compile({pattern});
  if (!regexes) return 0;
  StopRegexSearch search(*regexes);
  size_t given = 0;
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view so_far = std::string_view(text).substr(0, end);
    const auto truth = (*regexes)->find(so_far, 0);
    const auto match = search.feed(so_far.substr(end - 1));
    CARAT_CHECK(match.has_value() == truth.has_value(), "a match is found when it is complete");
    if (match) {
      CARAT_CHECK(end - match->num_bytes == truth->begin, "the match begins where it does in the whole text");
      CARAT_CHECK(truth->begin >= given, "nothing of a match was given out");
      return 0;
    }
    given = end - search.num_held();
  }
  return 0;
}

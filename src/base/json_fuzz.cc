// Any bytes: parse_json refuses them or gives a value that its own text reads back to.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto value = carat::parse_json(text)) {
    const std::string dumped = value->dump();
    const auto again = carat::parse_json(dumped);
    CARAT_CHECK(again.has_value(), "what we write can be read");
    CARAT_CHECK(*again == *value, "what we write reads back as it was");
  }
  // Any bytes as a string's contents: the text is one valid JSON string.
  std::string quoted;
  carat::append_json_string(quoted, text);
  CARAT_CHECK(carat::parse_json(quoted).has_value(), "a written string can be read");
  return 0;
}

// Bodies of chat requests: JSON text as it is, other bytes as decisions of the generator. What the parser accepts, the
// renderer turns into a prompt or refuses, the same each time; texts stay UTF-8.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "chat/body_generator.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

void run(const Json& body) {
  const auto input = parse_chat_input(body);
  if (!input) {
    CARAT_CHECK(!input.error().message.empty(), "an error without a message");
    return;
  }
  const auto big = render_chat(*input, ChatFamily::kBig);
  const auto small = render_chat(*input, ChatFamily::kSmall);
  CARAT_CHECK_EQ(big.has_value(), small.has_value());
  if (!big) return;
  CARAT_CHECK(big->text.starts_with("<bos>"), "a prompt without <bos>");
  CARAT_CHECK(big->text.starts_with(small->text), "the families differ elsewhere than at the end");
  CARAT_CHECK(is_valid_utf8(big->text), "a prompt that is no UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto json = parse_json({reinterpret_cast<const char*>(data), size});
  run(json ? *json : BodyGenerator(std::span(data, size)).body());
  return 0;
}

}  // namespace carat

// A reply's text from bytes: what a message is must not depend on where the text was cut, and what is told of calls
// must be JSON. Bytes: flags, a cut, then text in which markers are spelled or single bytes from 0xF8 on.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "output/message_parser.h"

namespace carat {
namespace {

using Parts = std::vector<MessagePart>;
using Kind = MessagePart::Kind;

/// Inputs up to this size are cut everywhere.
constexpr size_t kCutEverywhere = 96;

std::shared_ptr<const ToolSchemas> tools() {
  static const auto built = std::make_shared<const ToolSchemas>(ToolSchemas{
      {"f", nullptr},
      {"g",
       *parse_json(
           R"({"properties":{"s":{"type":"string"},"o":{"properties":{"s":{"type":"string"}}},"l":{"items":{"type":"string"}}}})")}});
  return built;
}

std::string to_marked(std::string_view bytes) {
  std::string marked;
  MarkerScanner scanner;
  while (!bytes.empty()) {
    const size_t text = std::min(find_marker(bytes), bytes.size());
    scanner.push(to_valid_utf8(bytes.substr(0, text)), marked);
    bytes.remove_prefix(text);
    if (bytes.empty()) break;
    scanner.finish(marked);
    marked += to_byte(static_cast<Marker>(static_cast<int>(to_marker(bytes[0])) % kNumMarkers));
    bytes.remove_prefix(1);
  }
  scanner.finish(marked);
  return marked;
}

Parts run(const MessageParserOptions& options, std::string_view text, bool truncated, size_t cut) {
  MessageParser parser(options);
  Parts parts;
  parser.push(text.substr(0, cut), parts);
  parser.push(text.substr(cut), parts);
  parser.finish(truncated, parts);
  CARAT_CHECK_EQ(parser.num_calls(), static_cast<int>(collect_message(parts).calls.size()));
  return parts;
}

/// In pieces of one byte, all parts in one list, and each piece's parts by themselves put together.
void check_bytewise(const MessageParserOptions& options, std::string_view text, bool truncated, const Parts& whole) {
  MessageParser joined(options), apart(options);
  Parts parts;
  Message message;
  const auto add = [&message](const Parts& more) {
    for (const MessagePart& part : more) {
      if (part.kind == Kind::kReasoning) message.reasoning += part.text;
      if (part.kind == Kind::kContent) message.content += part.text;
    }
  };
  for (size_t i = 0; i < text.size(); ++i) {
    joined.push(text.substr(i, 1), parts);
    Parts more;
    apart.push(text.substr(i, 1), more);
    add(more);
  }
  joined.finish(truncated, parts);
  Parts more;
  apart.finish(truncated, more);
  add(more);
  CARAT_CHECK(parts == whole, "the parts depend on where the text was cut");
  const Message wanted = collect_message(whole);
  CARAT_CHECK(message.reasoning == wanted.reasoning && message.content == wanted.content,
              "text was lost between pieces");
}

void check_parts(const Parts& parts) {
  int num_calls = 0;
  std::vector<bool> has_arguments;
  for (const MessagePart& part : parts) {
    CARAT_CHECK(is_valid_utf8(part.text), "a part is not UTF-8");
    CARAT_CHECK(!part.text.empty(), "a part is empty");
    if (part.kind == Kind::kCallName) {
      CARAT_CHECK_EQ(part.call_idx, num_calls++);
      has_arguments.push_back(false);
    }
    if (part.kind != Kind::kCallArguments) continue;
    CARAT_CHECK_EQ(part.call_idx, num_calls - 1);
    CARAT_CHECK(!has_arguments.back(), "a call has arguments twice");
    has_arguments.back() = true;
    const auto json = parse_json(part.text, {ToolArgumentReader::kMaxDepth + 1});
    CARAT_CHECK(json.has_value() && json->dump_spaced() == part.text, "arguments are not the JSON that we write");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint8_t flags = data[0];
  MessageParserOptions options;
  options.separate_reasoning = !(flags & 1);
  options.start = static_cast<MessageParserOptions::Start>((flags >> 1 & 3) % 3);
  options.parse_calls = flags & 8;
  options.stream_reasoning = !(flags & 32);
  options.nonempty_content = flags & 64;
  const bool truncated = flags & 128;
  options.tools = tools();
  const std::string text = to_marked({reinterpret_cast<const char*>(data) + 2, size - 2});

  const Parts whole = parse_message(options, text, truncated);
  check_parts(whole);
  check_bytewise(options, text, truncated, whole);
  const size_t first = text.size() <= kCutEverywhere ? 0 : data[1] * text.size() / 256;
  const size_t last = text.size() <= kCutEverywhere ? text.size() : first;
  for (size_t cut = first; cut <= last; ++cut)
    CARAT_CHECK(run(options, text, truncated, cut) == whole, "the parts depend on where the text was cut");
  return 0;
}

}  // namespace carat

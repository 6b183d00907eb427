// What a server may send: a response, the events in it, the JSON in them. Any bytes; where they are cut must not
// matter.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/str.h"
#include "client/bench_http.h"
#include "client/chat_ui.h"
#include "client/sse.h"
#include "http/response_parser.h"

namespace carat {
namespace {

// What a client sees of the bytes if they come in pieces of that size. Where it ends with an error, only that is kept:
// how much was handed on before depends on the pieces.
std::string run(std::string_view bytes, size_t piece) {
  std::string seen, body;
  ResponseParser parser(
      false, [&](const HttpResponseHead& head) { seen += str_cat(head.status, "|", head.headers.size(), "|"); },
      [&](std::string_view data) { body += data; });
  for (size_t at = 0; at < bytes.size() && !parser.done() && parser.error().empty(); at += piece)
    parser.feed(bytes.substr(at, piece));
  parser.end_of_input();
  CARAT_CHECK(parser.done() != !parser.error().empty(), "neither done nor failed, or both");
  return parser.done() ? seen + body : "failed";
}

std::string events(std::string_view bytes, size_t piece) {
  std::string seen;
  SseReader reader;
  for (size_t at = 0; at < bytes.size(); at += piece)
    reader.feed(bytes.substr(at, piece),
                [&](std::string_view name, std::string_view data) { seen += str_cat(name, "|", data, "\n\n"); });
  return seen;
}

void measure(std::string_view bytes) {
  for (const auto protocol : {BenchProtocol::kGenerate, BenchProtocol::kCompletions, BenchProtocol::kChat}) {
    BenchOutput output;
    output.begin(1, {});
    BenchEventReader reader(protocol, output);
    reader.on_event(2, bytes);
    reader.on_body(3, bytes);
    reader.finish();
  }
  for (const char c : printable(bytes)) CARAT_CHECK(c != '\x1b', "an escape reached the terminal");
}

}  // namespace
}  // namespace carat

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t whole = size == 0 ? 1 : size;
  CARAT_CHECK(carat::run(bytes, whole) == carat::run(bytes, 1), "a response depends on where it was cut");
  CARAT_CHECK(carat::events(bytes, whole) == carat::events(bytes, 3), "events depend on where they were cut");
  carat::measure(bytes);
  return 0;
}

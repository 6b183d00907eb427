// Any bytes: the parser must end in some state, and must not care how the bytes were cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "http/request_parser.h"
#include "http/wire.h"

namespace carat {
namespace {

constexpr RequestParser::Limits kLimits{.max_body_bytes = 300, .max_header_bytes = 400};

std::string describe(const HttpRequest& request) {
  std::string out = str_cat(request.method, "|", request.path, "|", request.query, "|", request.body);
  for (const auto& h : request.headers) out += str_cat("|", h.name, ":", h.value);
  return out;
}

// What a connection would make of the bytes if they came in pieces of that size.
std::vector<std::string> run(std::string_view bytes, size_t piece) {
  std::vector<std::string> seen;
  std::string unparsed;
  RequestParser* parser = nullptr;
  std::unique_ptr<RequestParser> owner;
  const auto renew = [&] {
    owner = std::make_unique<RequestParser>(kLimits);
    parser = owner.get();
  };
  renew();
  for (size_t at = 0; at < bytes.size(); at += piece) {
    unparsed += bytes.substr(at, piece);
    while (!unparsed.empty()) {
      const size_t taken = parser->feed(unparsed);
      CARAT_CHECK(taken <= unparsed.size(), "took more than there was");
      unparsed.erase(0, taken);
      if (parser->state() == RequestParser::State::kFailed) {
        const int status = parser->failure_status();
        CARAT_CHECK(http_wire::reason_phrase(status) != "Unknown", "a status without a name");
        CARAT_CHECK(!parser->failure_reason().empty(), "a refusal without a reason");
        seen.push_back("refused");
        return seen;
      }
      if (parser->state() != RequestParser::State::kDone) {
        CARAT_CHECK(unparsed.size() <= static_cast<size_t>(kLimits.max_header_bytes), "unbounded waiting");
        break;
      }
      auto request = parser->take();
      CARAT_CHECK(request.body.size() <= static_cast<size_t>(kLimits.max_body_bytes), "body over the limit");
      CARAT_CHECK(!request.path.empty() && (request.path[0] == '/' || request.path == "*"), "odd path");
      (void)request.query_value("a");
      (void)parser->keep_alive();
      seen.push_back(describe(request));
      renew();
    }
  }
  return seen;
}

// What is broken but has not ended may be refused at once or with its end, after the bytes here.
bool same_requests(std::vector<std::string> whole, std::vector<std::string> pieces) {
  for (auto* seen : {&whole, &pieces})
    if (!seen->empty() && seen->back() == "refused") seen->pop_back();
  return whole == pieces;
}

}  // namespace
}  // namespace carat

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = carat::run(bytes, std::max<size_t>(size, 1));
  CARAT_CHECK(carat::same_requests(whole, carat::run(bytes, 1)), "requests depend on where the bytes were cut");
  CARAT_CHECK(carat::same_requests(whole, carat::run(bytes, 7)), "requests depend on where the bytes were cut");
  return 0;
}

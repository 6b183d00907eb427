// Any bytes as a URL and as a redirect: what was read must be safe to put into a request and mean the same when
// written.
#include <algorithm>

#include "base/check.h"
#include "http/url.h"

namespace carat {
namespace {

void check(const Url& url) {
  CARAT_CHECK(!url.host.empty() && url.port >= 1 && url.port <= 65535, "host and port");
  CARAT_CHECK(url.target.starts_with('/'), "a target begins with a slash");
  for (const auto& text : {url.host, url.target})
    CARAT_CHECK(std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; }), "printable");
  const auto again = parse_url(url.to_string());
  CARAT_CHECK(again && again->host == url.host && again->port == url.port && again->target == url.target,
              "the same again");
}

}  // namespace
}  // namespace carat

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto url = carat::parse_url(text)) carat::check(*url);
  const carat::Url base{.https = true, .host = "host", .port = 443, .target = "/a/b?c"};
  if (const auto url = carat::resolve_url(base, text)) carat::check(*url);
  return 0;
}

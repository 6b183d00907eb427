// Any text as what a request may name as a medium: data URIs, base64, paths. Nothing is sent and no file is read.
#include "base/check.h"
#include "base/str.h"
#include "media/fetch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (carat::to_lower_ascii(carat::trim(text)).starts_with("http")) return 0;
  const carat::FetchOptions options{.max_bytes = 1000, .allowed_local_path = "/nowhere"};
  const auto bytes = carat::fetch_media(text, options);
  if (bytes)
    CARAT_CHECK(bytes->size() <= 1000, "bounded");
  else
    CARAT_CHECK(!bytes.error().message.empty() && bytes.error().message.size() < 1000, "a short message");
  return 0;
}

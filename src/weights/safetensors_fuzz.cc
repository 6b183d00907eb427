// Any bytes as a safetensors file: never a crash; what is accepted covers the file exactly.
#include <cstdint>
#include <set>

#include "base/check.h"
#include "weights/safetensors.h"

namespace carat {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto header = parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "input");
  if (!header) {
    CARAT_CHECK(!header.error().message.empty(), "an error says something");
    return 0;
  }
  int64_t at = header->data_begin;
  std::set<std::string_view> names;
  for (const SafetensorsEntry& entry : header->tensors) {
    CARAT_CHECK_EQ(entry.begin, at);
    CARAT_CHECK(entry.end >= entry.begin, "offsets ascend");
    CARAT_CHECK(names.insert(entry.name).second, "names are unique");
    at = entry.end;
  }
  CARAT_CHECK_EQ(at, static_cast<int64_t>(size));
  return 0;
}

}  // namespace carat

#include "config/json_file.h"

#include <string>
#include <utility>

#include "base/mapped_file.h"
#include "base/str.h"

namespace carat {

Result<Json> read_json_file(const std::filesystem::path& path) {
  constexpr int64_t kMaxFileBytes = 64 << 20;
  CARAT_TRY(const std::string text, read_text_file(path, kMaxFileBytes));
  auto json = parse_json(text);
  if (!json) return Error{Errc::kCorruptFile, str_cat(path.string(), ": ", json.error().message)};
  return json;
}

Result<std::optional<Json>> read_json_file_if_there(const std::filesystem::path& path) {
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return std::optional<Json>();
  CARAT_TRY(Json json, read_json_file(path));
  return std::optional<Json>(std::move(json));
}

}  // namespace carat

#pragma once
// The files of a model folder that hold JSON.

#include <filesystem>
#include <optional>

#include "base/json.h"
#include "base/result.h"

namespace carat {

/// Errors: kNotFound, kIo, kTooLarge, kCorruptFile; the message names the file.
Result<Json> read_json_file(const std::filesystem::path& path);
/// The same; none if there is no such file.
Result<std::optional<Json>> read_json_file_if_there(const std::filesystem::path& path);

}  // namespace carat

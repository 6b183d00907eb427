#pragma once
// A YAML file of flags: the only place that sees the YAML library.

#include <string>
#include <vector>

#include "base/result.h"

namespace carat {

struct YamlFlag {
  std::string key;
  std::vector<std::string> values;  ///< scalars as written; a map as JSON text; empty for null
};

/// Errors: kNotFound, kInvalidArgument, naming the file and, for syntax, the line.
Result<std::vector<YamlFlag>> read_yaml_flags(const std::string& path);

}  // namespace carat

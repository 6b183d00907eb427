#pragma once
// What `carat inspect` prints.

#include <string>
#include <string_view>

#include "base/result.h"

namespace carat {

/// A report about a model folder or hub name, lines of text for people: member, shape, files, bytes per part, KV bytes,
/// what fits in this machine's memory, problems. A published name that is not on this machine is described from the
/// built-in configuration. Broken or missing weights are problems in the report; an unreadable configuration is an
/// error, as load_model_config() gives it, or kNotFound.
Result<std::string> inspect_model(std::string_view model);

}  // namespace carat

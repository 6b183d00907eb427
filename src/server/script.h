#pragma once
// The file of --load-format scripted: JSON lines that say what to answer.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/scripted_runner.h"

namespace carat {

/// {"match": S, "text": T, "tokens_per_step": K, "ms_per_step": M, "finish": "stop" | "length" | "fault"}
struct ScriptRule {
  std::string match;        ///< part of the rendered prompt; empty matches all
  std::string text;         ///< the answer, special tokens by their text
  int tokens_per_step = 1;  ///< 1 .. 1024
  double ms_per_step = 0;   ///< 0 .. 3,600,000
  /// After the text: "stop" ends the turn, "length" repeats it until a limit, "fault" lets the device fail.
  ScriptedEnd end = ScriptedEnd::kStop;
};

/// Errors: kInvalidArgument with `name`, line and reason; an empty script too.
Result<std::vector<ScriptRule>> parse_script(std::string_view text, std::string_view name);
/// Errors: also kNotFound, kIo.
Result<std::vector<ScriptRule>> load_script(const std::filesystem::path& file);

}  // namespace carat

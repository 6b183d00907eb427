#pragma once
// From what a user calls a model to the folder that holds it.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace carat {

/// Where downloads of the Hugging Face hub may lie, first place first: $HF_HUB_CACHE, $HF_HOME/hub,
/// $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
std::vector<std::filesystem::path> hub_cache_folders();

/// A folder as it is, or the snapshot of a hub name ("google/gemma-4-E2B-it") in the local hub cache; nothing is
/// downloaded. `revision` is a branch, a tag or a commit. The folder holds a config.json.
/// Errors: kNotFound listing the places that were looked at; kInvalidArgument for what is neither path nor name.
Result<std::filesystem::path> resolve_model_path(std::string_view model, std::string_view revision = "main");

/// "ORG/NAME" or "NAME" in the hub's alphabet.
bool is_hub_name(std::string_view name);

}  // namespace carat

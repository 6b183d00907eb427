#include "weights/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "base/mapped_file.h"
#include "base/str.h"

namespace carat {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_word(std::string_view word) {
  return !word.empty() && word.size() <= 96 && word[0] != '.' && word[0] != '-' &&
         word.find("..") == std::string_view::npos && word.find("--") == std::string_view::npos &&
         std::all_of(word.begin(), word.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
         });
}

/// google/gemma-4-E2B -> models--google--gemma-4-E2B
std::string cache_folder_name(std::string_view model) {
  std::string name = "models";
  for (const std::string_view part : split(model, '/')) name += str_cat("--", part);
  return name;
}

/// The snapshot that refs/REVISION names, or the one of that commit itself.
std::optional<fs::path> find_snapshot(const fs::path& repository, std::string_view revision) {
  std::error_code ec;
  std::string commit(revision);
  if (const auto ref = read_text_file(repository / "refs" / revision, 4096)) commit = std::string(trim(*ref));
  if (!is_word(commit)) return {};
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::exists(snapshot / "config.json", ec)) return {};
  return snapshot;
}

Result<fs::path> resolve_folder(const fs::path& folder) {
  std::error_code ec;
  if (!fs::exists(folder / "config.json", ec))
    return Error{Errc::kNotFound, str_cat(folder.string(), " holds no config.json; a model folder is expected")};
  return folder;
}

}  // namespace

std::vector<fs::path> hub_cache_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const std::string& root, const char* below) {
    if (root.empty()) return;
    const fs::path folder = fs::path(root) / below;
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  };
  add(environment("HF_HUB_CACHE"), "");
  add(environment("HF_HOME"), "hub");
  add(environment("XDG_CACHE_HOME"), "huggingface/hub");
  add(environment("HOME"), ".cache/huggingface/hub");
  return folders;
}

bool is_hub_name(std::string_view name) {
  const auto parts = split(name, '/');
  return parts.size() <= 2 && std::all_of(parts.begin(), parts.end(), is_word);
}

Result<fs::path> resolve_model_path(std::string_view model, std::string_view revision) {
  if (model.empty() || model.find('\0') != std::string_view::npos)
    return Error{Errc::kInvalidArgument,
                 "the model path is empty; give a folder or a name such as google/gemma-4-E2B-it"};
  std::error_code ec;
  const fs::path path(model);
  if (fs::is_directory(path, ec)) return resolve_folder(path);
  if (fs::exists(path, ec))
    return Error{Errc::kInvalidArgument, str_cat(model, " is a file; the folder that holds config.json is expected")};
  if (!is_hub_name(model)) return Error{Errc::kNotFound, str_cat(model, " does not exist")};
  if (!is_word(revision))
    return Error{Errc::kInvalidArgument, str_cat("the revision ", revision, " must be a branch, a tag or a commit")};
  std::string looked = str_cat("./", model);
  for (const fs::path& cache : hub_cache_folders()) {
    const fs::path repository = cache / cache_folder_name(model);
    if (auto snapshot = find_snapshot(repository, revision)) return *snapshot;
    looked +=
        str_cat(", ", repository.string(), fs::exists(repository, ec) ? " (no complete snapshot of revision " : "",
                fs::exists(repository, ec) ? str_cat(revision, ")") : "");
  }
  return Error{Errc::kNotFound, str_cat("model ", model, " is not on this machine; looked at ", looked,
                                        ". Nothing is downloaded: fetch it first, or give a folder")};
}

}  // namespace carat

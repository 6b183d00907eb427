#include "weights/checkpoint.h"

#include <algorithm>
#include <set>

#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 1024;

/// A plain file name in the same folder, so that an index cannot reach other files.
bool is_plain_shard_name(std::string_view name) {
  return name.size() <= 255 && name.size() > 12 && name.ends_with(".safetensors") && name[0] != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

/// Tensor name -> shard name, as the index says.
Result<JsonObject> read_weight_map(const std::filesystem::path& path) {
  CARAT_TRY(const std::string text, read_text_file(path, kMaxIndexBytes));
  auto json = parse_json(text, {.max_depth = 16});
  if (!json) return Error{Errc::kCorruptFile, str_cat(path.string(), ": ", json.error().message)};
  Json* map = json->find("weight_map");
  if (!map || !map->is_object() || map->size() == 0)
    return Error{Errc::kCorruptFile, str_cat(path.string(), ": weight_map must be an object that is not empty")};
  for (const auto& [tensor, shard] : map->as_object())
    if (!shard.is_string() || !is_plain_shard_name(shard.as_string()))
      return Error{Errc::kCorruptFile,
                   str_cat(path.string(), ": weight_map sends ", Json(tensor).dump(), " to ", shard.dump(),
                           ", must be the plain name of a .safetensors file in the same folder")};
  return std::move(map->as_object());
}

std::string describe_folder(const std::filesystem::path& folder) {
  std::error_code ec;
  if (!std::filesystem::is_directory(folder, ec)) return str_cat(folder.string(), " is not a folder");
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ec)) {
    const auto extension = entry.path().extension();
    if (extension == ".safetensors" || extension == ".bin" || extension == ".gguf" || extension == ".pt")
      found += str_cat(found.empty() ? "; there is " : ", ", entry.path().filename().string());
  }
  return str_cat(folder.string(), " holds neither ", kSingle, " nor ", kIndex, found);
}

}  // namespace

Result<void> Checkpoint::add_file(const std::filesystem::path& path) {
  CARAT_TRY(MappedFile mapping, MappedFile::open(path));
  return add_mapping(path, std::move(mapping));
}

Result<void> Checkpoint::add_mapping(const std::filesystem::path& path, MappedFile mapping) {
  CARAT_TRY(SafetensorsHeader header, parse_safetensors(mapping.bytes(), path.string()));
  files_.push_back({path, std::move(mapping), std::move(header)});
  const File& file = files_.back();
  for (const SafetensorsEntry& entry : file.header.tensors) {
    const auto [it, is_new] = tensors_.try_emplace(entry.name, Tensor{&file, &entry});
    if (!is_new)
      return Error{Errc::kCorruptFile, str_cat(path.string(), ": tensor ", Json(entry.name).dump(), " is also in ",
                                               it->second.file->path.filename().string())};
  }
  return {};
}

Result<void> Checkpoint::add_shards(const std::filesystem::path& index_path) {
  CARAT_TRY(const JsonObject map, read_weight_map(index_path));
  std::set<std::string_view> shards;
  for (const auto& [tensor, shard] : map) shards.insert(shard.as_string());
  if (shards.size() > kMaxShards)
    return Error{Errc::kTooLarge,
                 str_cat(index_path.string(), " names ", shards.size(), " files, allowed are ", kMaxShards)};
  files_.reserve(shards.size());
  for (const std::string_view shard : shards) {
    auto added = add_file(folder_ / shard);
    if (!added && added.error().code == Errc::kNotFound)
      return Error{Errc::kNotFound, str_cat(added.error().message, " (", kIndex, " names ", shards.size(), " files)")};
    CARAT_TRY_VOID(added);
  }
  for (const auto& [tensor, shard] : map) {
    const Tensor* found = find(tensor);
    if (found && found->file->path.filename() == shard.as_string()) continue;
    return Error{
        Errc::kCorruptFile,
        str_cat((folder_ / shard.as_string()).string(), ": tensor ", Json(tensor).dump(), " is not in it, although ",
                kIndex, " says so", found ? str_cat("; it is in ", found->file->path.filename().string()) : "")};
  }
  if (static_cast<int64_t>(map.size()) == num_tensors()) return {};
  std::set<std::string_view> listed;
  for (const auto& [tensor, shard] : map) listed.insert(tensor);
  for (const File& file : files_)
    for (const SafetensorsEntry& entry : file.header.tensors)
      if (!listed.contains(entry.name))
        return Error{Errc::kCorruptFile,
                     str_cat(file.path.string(), ": tensor ", Json(entry.name).dump(), " is not listed in ", kIndex)};
  return {};
}

Result<std::shared_ptr<const Checkpoint>> Checkpoint::open(const WeightSource& source) {
  auto checkpoint = std::make_shared<Checkpoint>();
  const std::filesystem::path& folder = source.path;
  checkpoint->folder_ = folder;
  if (!source.bytes.empty()) {
    checkpoint->files_.reserve(1);
    CARAT_TRY_VOID(checkpoint->add_mapping(folder / kSingle, MappedFile::of_program(source.bytes)));
    return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
  }
  std::error_code ec;
  const bool single = std::filesystem::exists(folder / kSingle, ec);
  if (!single && !std::filesystem::exists(folder / kIndex, ec))
    return Error{Errc::kNotFound, str_cat("no weights: ", describe_folder(folder))};
  if (single) {
    checkpoint->files_.reserve(1);
    CARAT_TRY_VOID(checkpoint->add_file(folder / kSingle));
  } else {
    CARAT_TRY_VOID(checkpoint->add_shards(folder / kIndex));
  }
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

const Checkpoint::Tensor* Checkpoint::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

int64_t Checkpoint::tensor_bytes() const {
  int64_t bytes = 0;
  for (const File& file : files_) bytes += file.mapping.size() - file.header.data_begin;
  return bytes;
}

}  // namespace carat

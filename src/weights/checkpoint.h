#pragma once
// The safetensors files of a model as one set of named tensors.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"
#include "weights/safetensors.h"
#include "weights/weight_source.h"

namespace carat {

/// Maps model.safetensors, or the shards that model.safetensors.index.json names. Immutable, any thread.
class Checkpoint {
 public:
  struct File {
    std::filesystem::path path;
    MappedFile mapping;
    SafetensorsHeader header;
  };
  struct Tensor {
    const File* file;
    const SafetensorsEntry* entry;
    std::span<const std::byte> bytes() const {
      return file->mapping.bytes().subspan(static_cast<size_t>(entry->begin),
                                           static_cast<size_t>(entry->end - entry->begin));
    }
  };

  /// Errors: kNotFound (no weight files, a missing shard), kIo, kCorruptFile (a broken file, or an index that does not
  /// match its shards), kTooLarge. Messages name the file.
  static Result<std::shared_ptr<const Checkpoint>> open(const WeightSource& source);

  std::span<const File> files() const { return files_; }
  const std::filesystem::path& folder() const { return folder_; }
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// The tensor, or null if there is none of this name. Lives as long as the checkpoint.
  const Tensor* find(std::string_view name) const;
  int64_t num_tensors() const { return static_cast<int64_t>(tensors_.size()); }
  /// Of all tensors, without headers.
  int64_t tensor_bytes() const;

 private:
  Result<void> add_file(const std::filesystem::path& path);
  Result<void> add_mapping(const std::filesystem::path& path, MappedFile mapping);
  Result<void> add_shards(const std::filesystem::path& index_path);

  std::filesystem::path folder_;
  std::vector<File> files_;  // not resized once tensors_ points into it
  std::unordered_map<std::string_view, Tensor> tensors_;
};

}  // namespace carat

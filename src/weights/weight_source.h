#pragma once
// Where a model's weights are.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

namespace carat {

/// A folder with safetensors files, or one such file that is built into the program.
struct WeightSource {
  std::filesystem::path path;        ///< the folder; for bytes what messages call it
  std::span<const std::byte> bytes;  ///< empty for a folder; there as long as the process lives

  WeightSource(std::filesystem::path folder) : path(std::move(folder)) {}  // NOLINT: folders are given as they are
  WeightSource(std::string_view name, std::span<const std::byte> file) : path(name), bytes(file) {}
};

}  // namespace carat

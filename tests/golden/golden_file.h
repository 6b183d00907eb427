#pragma once
// Tensors stored by the reference, as values.

#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "weights/safetensors.h"

namespace carat::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::filesystem::path& path);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::vector<int64_t> shape(std::string_view name) const { return at(name).shape; }
  /// BF16 and F32, widened.
  std::vector<float> floats(std::string_view name) const;
  std::vector<int32_t> ints(std::string_view name) const;
  std::vector<uint8_t> bytes(std::string_view name) const;

 private:
  const SafetensorsEntry* find(std::string_view name) const;
  const SafetensorsEntry& at(std::string_view name) const;
  const std::byte* data(const SafetensorsEntry& entry) const { return file_.bytes().data() + entry.begin; }

  MappedFile file_;
  SafetensorsHeader header_;
};

/// What a comparison saw.
struct Difference {
  int64_t count = 0, differing = 0;
  double max_abs = 0;        ///< largest difference
  double squares = 0;        ///< sum of squared differences
  double value_squares = 0;  ///< sum of squares of the reference
  void add(float actual, float expected);
  void add(const Difference& other);
  double share() const { return count ? static_cast<double>(differing) / static_cast<double>(count) : 0; }
  double relative_rms() const { return value_squares > 0 ? std::sqrt(squares / value_squares) : 0; }
  std::string to_string() const;
};

}  // namespace carat::testing

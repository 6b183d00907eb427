#pragma once
// The safetensors file format: 8 bytes with the header's length, a JSON header, the tensors' bytes.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace carat {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           ///< as the file says, e.g. "BF16"; one of the format's types
  std::vector<int64_t> shape;  ///< no sizes below 0; the product is checked
  int64_t begin = 0, end = 0;  ///< bytes in the file
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  ///< in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;
  int64_t data_begin = 0;
};

/// Checks and reads the header of a whole file: entries lie inside it, do not overlap and leave no byte without an
/// owner, sizes match shapes, names are unique. `file_name` begins the messages. Errors: kCorruptFile naming file and
/// tensor; kTooLarge for a header above 100 MB.
Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file, std::string_view file_name);

/// "[2, 3]"
std::string shape_to_string(std::span<const int64_t> shape);

struct NamedTensor {
  std::string name;
  ConstTensorView view;  ///< contiguous
};

/// Writes a file that parse_safetensors() accepts; tensors keep their order, their bytes begin at a multiple of 64. A
/// file of that name is replaced once all is written. Errors: kIo.
Result<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors);

}  // namespace carat

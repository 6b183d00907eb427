#pragma once
// The files of carat-nano's checkpoint as they were when the program was built; nano_files.cc.in, filled in by CMake.

#include <cstddef>
#include <span>
#include <string_view>

namespace carat {

/// The bytes of models/nano/base/`name`, at a multiple of 64; empty if the folder had no weights.
std::span<const std::byte> nano_file(std::string_view name);

}  // namespace carat

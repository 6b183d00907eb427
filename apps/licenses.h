#pragma once
#include <string_view>

namespace carat {
/// The licences of what is linked into the program; made by CMake.
std::string_view license_text();
}  // namespace carat

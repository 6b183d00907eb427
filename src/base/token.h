#pragma once
#include <cstdint>

namespace carat {
/// An index into a model's vocabulary.
using TokenId = int32_t;
}  // namespace carat

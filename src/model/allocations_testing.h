#pragma once
// For tests: what this process takes from operator new.

#include <cstdint>

namespace carat::testing {

int64_t num_allocations();

}  // namespace carat::testing

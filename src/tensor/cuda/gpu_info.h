#pragma once
// Which GPUs this machine has. Builds and runs without CUDA (then there are none); no CUDA header shows here.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace carat {

struct GpuInfo {
  int index = 0;
  std::string name;
  int compute_capability = 0;  ///< 90 for 9.0
  int num_multiprocessors = 0;
  int64_t memory_bytes = 0;
};

/// True if this binary was compiled with CUDA code.
bool built_with_cuda();

/// The usable GPUs in the driver's order; empty where there is none. Takes no memory on any of them. Errors:
/// kUnsupported if a driver is there but too old for this binary, kUnavailable if it answers with an error.
Result<std::vector<GpuInfo>> list_gpus();

}  // namespace carat

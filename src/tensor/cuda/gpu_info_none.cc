#include "tensor/cuda/gpu_info.h"

namespace carat {

bool built_with_cuda() { return false; }
Result<std::vector<GpuInfo>> list_gpus() { return std::vector<GpuInfo>{}; }

}  // namespace carat

#include <cuda_runtime_api.h>

#include "base/str.h"
#include "tensor/cuda/gpu_info.h"

namespace carat {

namespace {
Error cuda_error(cudaError_t rc, const char* what) {
  return Error{Errc::kUnavailable, str_cat("The GPU driver fails: ", what, ": ", cudaGetErrorString(rc), ".")};
}
}  // namespace

bool built_with_cuda() { return true; }

Result<std::vector<GpuInfo>> list_gpus() {
  int count = 0;
  const cudaError_t rc = cudaGetDeviceCount(&count);
  if (rc == cudaErrorNoDevice) return std::vector<GpuInfo>{};
  if (rc == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return std::vector<GpuInfo>{};  // no driver at all
    return Error{Errc::kUnsupported,
                 str_cat("The GPU driver supports CUDA ", driver / 1000, ".", driver % 1000 / 10,
                         ", this program needs ", runtime / 1000, ".", runtime % 1000 / 10, " or later.")};
  }
  if (rc != cudaSuccess) return cuda_error(rc, "counting devices");

  std::vector<GpuInfo> gpus;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp prop;
    if (const auto e = cudaGetDeviceProperties(&prop, i); e != cudaSuccess)
      return cuda_error(e, "reading a device's properties");
    gpus.push_back(GpuInfo{i, prop.name, prop.major * 10 + prop.minor, prop.multiProcessorCount,
                           static_cast<int64_t>(prop.totalGlobalMem)});
  }
  return gpus;
}

}  // namespace carat

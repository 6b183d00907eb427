#pragma once
// For files in */cuda only.

#include <cuda_runtime_api.h>

#include "base/result.h"
#include "base/str.h"
#include "tensor/cuda/device.h"

namespace carat::cuda {

inline Error cuda_error(cudaError_t rc, std::string_view what) {
  return Error{rc == cudaErrorMemoryAllocation ? Errc::kOverloaded : Errc::kUnavailable,
               str_cat("CUDA: ", what, ": ", cudaGetErrorString(rc))};
}

/// `call` as the macro below sees it; its name is kept.
inline void report_failure(cudaError_t rc, std::string_view call) {
  report_failure(Error{Errc::kUnavailable, str_cat("The GPU has failed: ", cudaGetErrorString(rc), " (",
                                                   call.substr(0, call.find('(')), ").")});
}

}  // namespace carat::cuda

/// Where there is no Result to return, once serving: an error becomes the thread's device_failure().
#define CARAT_CUDA_CHECK(call)                                                  \
  do {                                                                          \
    if (const cudaError_t carat_cuda_rc = (call); carat_cuda_rc != cudaSuccess) \
      ::carat::cuda::report_failure(carat_cuda_rc, #call);                      \
  } while (false)

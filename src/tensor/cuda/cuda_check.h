#pragma once
// For files in */cuda only.

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "base/result.h"
#include "base/str.h"

namespace carat::cuda {

inline Error cuda_error(cudaError_t rc, std::string_view what) {
  return Error{rc == cudaErrorMemoryAllocation ? Errc::kOverloaded : Errc::kUnavailable,
               str_cat("CUDA: ", what, ": ", cudaGetErrorString(rc))};
}

}  // namespace carat::cuda

/// Fatal on a CUDA error: for use once serving, or where only a defect can fail.
#define CARAT_CUDA_CHECK(call)                                                             \
  do {                                                                                     \
    const cudaError_t carat_cuda_rc = (call);                                              \
    if (carat_cuda_rc != cudaSuccess)                                                      \
      ::carat::check_failed(__FILE__, __LINE__, #call, cudaGetErrorString(carat_cuda_rc)); \
  } while (false)

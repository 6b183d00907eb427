#pragma once
// How kernels are launched: on the context's stream, with or without the dependent-launch attribute.

#include <cuda_runtime.h>

#include "ops/cuda/cuda_ops.h"
#include "tensor/cuda/cuda_check.h"

namespace carat::cuda {

inline cudaStream_t stream_of(const Launch& launch) { return static_cast<cudaStream_t>(launch.stream); }

/// Launches `kernel` in clusters of `cluster` blocks along x; the kernel calls pdl_wait() before it touches anything
/// that the kernel before it writes.
template <class... Params, class... Args>
void launch_clusters(const Launch& launch, void (*kernel)(Params...), dim3 grid, dim3 block, size_t smem_bytes,
                     int cluster, Args&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = smem_bytes;
  config.stream = stream_of(launch);
  cudaLaunchAttribute attributes[2]{};
  if (launch.dependent) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  config.attrs = attributes;
  CARAT_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

template <class... Params, class... Args>
void launch_kernel(const Launch& launch, void (*kernel)(Params...), dim3 grid, dim3 block, size_t smem_bytes,
                   Args&&... args) {
  launch_clusters(launch, kernel, grid, block, smem_bytes, 1, static_cast<Args&&>(args)...);
}

/// Raises a kernel's shared-memory limit, once per kernel and process.
template <class Kernel>
void allow_smem(Kernel kernel, size_t bytes) {
  CARAT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

}  // namespace carat::cuda

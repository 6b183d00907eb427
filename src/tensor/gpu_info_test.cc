#include "tensor/cuda/gpu_info.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace carat {
namespace {

TEST(GpuInfo, ListsNothingWithoutCudaCode) {
  const auto gpus = list_gpus();
  if (!built_with_cuda()) {
    ASSERT_TRUE(gpus);
    EXPECT_TRUE(gpus->empty());
  }
}

TEST(GpuInfo, EachCardIsDescribed) {
  const auto gpus = list_gpus();
  ASSERT_TRUE(gpus) << gpus.error().message;  // a machine without a GPU or a driver is no error
  for (const GpuInfo& gpu : *gpus) {
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_GE(gpu.compute_capability, 30);
    EXPECT_GT(gpu.memory_bytes, 0);
    std::printf("GPU %d: %s, compute capability %d, %d multiprocessors\n", gpu.index, gpu.name.c_str(),
                gpu.compute_capability, gpu.num_multiprocessors);
  }
}

}  // namespace
}  // namespace carat

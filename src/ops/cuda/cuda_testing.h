#pragma once
// For the tests of kernels: a stream with its workspace, data to the device and back, and comparison with a tolerance.
// Without a GPU the tests are skipped.

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/str.h"
#include "ops/context.h"
#include "ops/cuda/cuda_ops.h"
#include "tensor/bf16.h"
#include "tensor/cuda/device.h"
#include "tensor/cuda/gpu_info.h"
#include "tensor/tensor.h"

namespace carat::cuda::testing {

using Values = std::vector<Bf16>;

class CudaOpsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto gpus = list_gpus();
    if (!gpus || gpus->empty()) GTEST_SKIP() << "no GPU on this machine";
    ASSERT_TRUE(use_device(0));
    auto stream = Stream::create();
    ASSERT_TRUE(stream);
    stream_ = std::move(*stream);
    launch_.stream = stream_.handle();
    launch_.num_sms = device_limits()->num_sms;
    workspace_ = allocate(workspace_bytes(launch_.num_sms));
    stream_.fill(workspace_.data(), 0, workspace_.size());
    launch_.workspace = workspace_.data();
  }
  void TearDown() override {
    const Error* failure = device_failure();
    EXPECT_FALSE(failure) << failure->message;
  }
  static DeviceBuffer allocate(int64_t bytes) {
    auto b = DeviceBuffer::allocate(bytes);
    CARAT_CHECK(b.has_value(), "no GPU memory");
    return std::move(*b);
  }
  template <class T>
  DeviceBuffer upload(const std::vector<T>& v) {
    DeviceBuffer b = allocate(static_cast<int64_t>(v.size() * sizeof(T)) + 16);
    stream_.copy_to_device(b.data(), v.data(), static_cast<int64_t>(v.size() * sizeof(T)));
    stream_.synchronize();
    return b;
  }
  /// Device memory full of NaNs, so that what a kernel does not write shows.
  DeviceBuffer poisoned(int64_t bytes) {
    DeviceBuffer b = allocate(bytes);
    stream_.fill(b.data(), 0xff, bytes);
    return b;
  }
  template <class T>
  std::vector<T> download(const DeviceBuffer& b, size_t count) {
    std::vector<T> v(count);
    stream_.copy_to_host(v.data(), b.data(), static_cast<int64_t>(count * sizeof(T)));
    stream_.synchronize();
    return v;
  }
  Values random(size_t n, float scale = 1.0f, float mean = 0.0f) {
    std::normal_distribution<float> normal(mean, scale);
    Values v(n);
    for (auto& x : v) x = Bf16(normal(rng_));
    return v;
  }

  std::mt19937 rng_{7};
  Stream stream_;
  Launch launch_;
  DeviceBuffer workspace_;
  ops::Context ctx_{ops::Backend::kRef, nullptr};
};

inline ConstTensorView view(const Values& v, int64_t rows, int64_t cols) {
  return {v.data(), DType::kBf16, {rows, cols}};
}
inline TensorView view(Values& v, int64_t rows, int64_t cols) { return {v.data(), DType::kBf16, {rows, cols}}; }

/// Root mean square error relative to the reference's size, and no NaN.
inline void expect_close(const Values& got, const Values& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<float>(got[i]), w = static_cast<float>(want[i]);
    ASSERT_TRUE(std::isfinite(g)) << what << ": element " << i << " is " << g << ", expected " << w;
    error += (g - w) * (g - w);
    size += w * w;
  }
  EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(size) + 1e-6) << what;
}

}  // namespace carat::cuda::testing

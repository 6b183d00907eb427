#pragma once
// Weights of an encoder on a GPU: copies of host tensors as they are.

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "tensor/cuda/device.h"
#include "weights/media_weights.h"

namespace carat {

/// Pointers to host tensors that copy() makes point to the device.
class DeviceTensors {
 public:
  /// `*data` names the host's bytes until copy(), the device's afterwards.
  void add(const void** data, int64_t size_bytes) { items_.push_back({data, size_bytes}); }
  /// All tensors of an encoder's slots that are there.
  void add(const MediaSlots& slots);
  /// The memory that the tensors are in from then on. Returns when the host's data is no longer needed. Errors:
  /// kOverloaded if the memory is not there; kUnavailable, the device fails.
  Result<cuda::DeviceBuffer> copy(const cuda::Stream& stream);

  /// What copy() takes for a tensor.
  static int64_t bytes_needed(int64_t size_bytes) { return (size_bytes + 255) / 256 * 256; }

 private:
  struct Item {
    const void** data;
    int64_t size_bytes;
  };
  std::vector<Item> items_;
};

}  // namespace carat

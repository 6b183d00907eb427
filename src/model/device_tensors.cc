#include "model/device_tensors.h"

#include <variant>

namespace carat {

void DeviceTensors::add(const MediaSlots& slots) {
  for (const auto& [name, slot] : slots)
    if (auto* const* view = std::get_if<ConstTensorView*>(&slot); view && (*view)->data)
      add(&(*view)->data, (*view)->size_bytes());
}

Result<cuda::DeviceBuffer> DeviceTensors::copy(const cuda::Stream& stream) {
  int64_t size_bytes = 0;
  for (const Item& item : items_) size_bytes += bytes_needed(item.size_bytes);
  CARAT_TRY(auto memory, cuda::DeviceBuffer::allocate(size_bytes));
  auto* at = memory.as<std::byte>();
  for (const Item& item : items_) {
    stream.copy_to_device(at, *item.data, item.size_bytes);
    *item.data = at;
    at += bytes_needed(item.size_bytes);
  }
  stream.synchronize();
  if (const Error* failure = cuda::device_failure()) return *failure;
  return memory;
}

}  // namespace carat

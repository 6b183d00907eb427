#include "weights/tensor_binder.h"

#include <cstring>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "tensor/bf16.h"

namespace carat {

bool same_shape(const Shape& expected, std::span<const int64_t> found) {
  if (static_cast<size_t>(expected.rank()) != found.size()) return false;
  for (int i = 0; i < expected.rank(); ++i)
    if (expected[i] != found[static_cast<size_t>(i)]) return false;
  return true;
}

TensorBinder::TensorBinder(std::shared_ptr<const Checkpoint> checkpoint) { owner_->checkpoint = std::move(checkpoint); }

Result<void> TensorBinder::check_present(std::span<const std::string> names, std::string_view what) const {
  const std::string* first = nullptr;
  int64_t count = 0;
  for (const std::string& name : names) {
    if (checkpoint().contains(name)) continue;
    if (count++ == 0) first = &name;
  }
  if (count == 0) return {};
  return Error{Errc::kCorruptFile, str_cat(checkpoint().folder().string(), ": tensor \"", *first, "\" is missing",
                                           count > 1 ? str_cat(" (and ", count - 1, " others)") : "",
                                           "; config.json asks for ", names.size(), " ", what,
                                           " tensors, the weight files hold ", checkpoint().num_tensors(), " tensors")};
}

Result<const std::byte*> TensorBinder::bind(const std::string& name, const Shape& shape) {
  const Checkpoint::Tensor* tensor = checkpoint().find(name);
  if (!tensor) return static_cast<const std::byte*>(nullptr);
  const SafetensorsEntry& entry = *tensor->entry;
  const std::string file = tensor->file->path.string();
  if (!same_shape(shape, entry.shape))
    return Error{Errc::kCorruptFile,
                 str_cat(file, ": tensor ", Json(name).dump(), " has shape ", shape_to_string(entry.shape),
                         ", config.json asks for ", shape.to_string())};
  if (entry.dtype != "BF16")
    return Error{Errc::kUnsupported,
                 str_cat(file, ": tensor ", Json(name).dump(), " is ", entry.dtype, ", supported: BF16")};
  const std::span<const std::byte> bytes = tensor->bytes();
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(Bf16) == 0) return bytes.data();

  // Two-byte numbers at an odd address cannot be read in place.
  log_warning(file, ": tensor ", name, " begins at an odd byte and is copied (", bytes.size(),
              " bytes); write the file anew with an aligned header to avoid this");
  CARAT_TRY(Buffer copy, Buffer::allocate(static_cast<int64_t>(bytes.size())));
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  owner_->copies.push_back(std::move(copy));
  return static_cast<const std::byte*>(owner_->copies.back().data());
}

}  // namespace carat

#pragma once
// Tensors of a checkpoint by name, checked and in place. Inside this folder.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"
#include "weights/checkpoint.h"

namespace carat {

class TensorBinder {
 public:
  explicit TensorBinder(std::shared_ptr<const Checkpoint> checkpoint);
  const Checkpoint& checkpoint() const { return *owner_->checkpoint; }

  /// Errors: kCorruptFile if one of `names` is not there; the message calls them `what` tensors.
  Result<void> check_present(std::span<const std::string> names, std::string_view what) const;
  /// The tensor's data in the mapped file, or in a copy if it begins at an odd byte, which is logged; null if there is
  /// no such tensor. Errors: kCorruptFile for another shape, kUnsupported for another type than BF16, kOverloaded.
  Result<const std::byte*> bind(const std::string& name, const Shape& shape);

  /// Keeps everything bound alive.
  std::shared_ptr<const void> owner() const { return owner_; }

 private:
  struct Owner {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::vector<Buffer> copies;
  };
  std::shared_ptr<Owner> owner_ = std::make_shared<Owner>();
};

bool same_shape(const Shape& expected, std::span<const int64_t> found);

}  // namespace carat

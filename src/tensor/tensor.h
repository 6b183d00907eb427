#pragma once
// Dense tensors as views: a pointer, a type, a shape. Memory is owned by a Buffer or a mapped file elsewhere.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/result.h"

namespace carat {

enum class DType : uint8_t { kF32, kBf16, kF16, kI32, kI64, kU8, kI8, kF64, kBool, kF8E4M3 };

int64_t size_of(DType type);  // bytes of one element
std::string_view to_string(DType type);

/// Up to four dimensions, row-major, no sizes below 0. Counts are int64_t.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  void push_back(int64_t dim);
  int64_t num_elements() const;
  bool operator==(const Shape& other) const;
  std::string to_string() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

/// A row-major tensor in memory owned by somebody else. Rows (the last dimension) are contiguous; `row_stride` is the
/// distance in elements between rows of the flattened [rows, last] form, at least the last dimension.
template <class Void>
struct BasicTensorView {
  Void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t row_stride = 0;

  BasicTensorView() = default;
  BasicTensorView(Void* d, DType t, Shape s)
      : data(d), dtype(t), shape(s), row_stride(s.rank() > 0 ? s[s.rank() - 1] : 1) {}
  BasicTensorView(Void* d, DType t, Shape s, int64_t stride) : data(d), dtype(t), shape(s), row_stride(stride) {}

  int64_t dim(int i) const { return shape[i]; }
  int64_t last_dim() const { return shape.rank() > 0 ? shape[shape.rank() - 1] : 1; }
  /// Rows of the flattened [rows, last] form.
  int64_t num_rows() const {
    return shape.rank() > 0 && last_dim() > 0 ? shape.num_elements() / last_dim() : (shape.rank() == 0 ? 1 : 0);
  }
  bool contiguous() const { return row_stride == last_dim(); }
  int64_t size_bytes() const { return shape.num_elements() * size_of(dtype); }
  explicit operator bool() const { return data != nullptr; }
};

using TensorView = BasicTensorView<void>;

struct ConstTensorView : BasicTensorView<const void> {
  using BasicTensorView<const void>::BasicTensorView;
  ConstTensorView() = default;
  ConstTensorView(const TensorView& v) : BasicTensorView(v.data, v.dtype, v.shape, v.row_stride) {}  // NOLINT: implicit
};

/// Page-aligned host memory, zeroed by the kernel on first touch (so untouched parts take no memory). Move-only.
class Buffer {
 public:
  Buffer() = default;
  /// Errors: kOverloaded if the system has no such memory.
  static Result<Buffer> allocate(int64_t size_bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace carat

#include "tensor/tensor.h"

#include <sys/mman.h>

#include <utility>

#include "base/str.h"

namespace carat {

int64_t size_of(DType type) {
  switch (type) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kU8:
    case DType::kI8:
    case DType::kBool:
    case DType::kF8E4M3:
      return 1;
  }
  return 0;
}

std::string_view to_string(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kBf16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
    case DType::kI8:
      return "I8";
    case DType::kF64:
      return "F64";
    case DType::kBool:
      return "BOOL";
    case DType::kF8E4M3:
      return "F8_E4M3";
  }
  return "?";
}

Shape::Shape(std::initializer_list<int64_t> dims) {
  for (const int64_t dim : dims) push_back(dim);
}

void Shape::push_back(int64_t dim) {
  CARAT_CHECK(rank_ < kMaxRank, "a shape has at most four dimensions");
  CARAT_CHECK(dim >= 0, "dimensions are not negative");
  dims_[static_cast<size_t>(rank_++)] = dim;
}

int64_t Shape::num_elements() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

bool Shape::operator==(const Shape& other) const {
  if (rank_ != other.rank_) return false;
  for (int i = 0; i < rank_; ++i)
    if ((*this)[i] != other[i]) return false;
  return true;
}

std::string Shape::to_string() const {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) out += str_cat(i ? ", " : "", (*this)[i]);
  return out + "]";
}

Result<Buffer> Buffer::allocate(int64_t size_bytes) {
  CARAT_CHECK(size_bytes >= 0, "a buffer's size is not negative");
  Buffer buffer;
  if (size_bytes == 0) return buffer;
  void* p = mmap(nullptr, static_cast<size_t>(size_bytes), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    return Error{Errc::kOverloaded, str_cat("cannot allocate ", size_bytes, " bytes of host memory")};
  madvise(p, static_cast<size_t>(size_bytes), MADV_HUGEPAGE);
  buffer.data_ = static_cast<std::byte*>(p);
  buffer.size_ = size_bytes;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (data_) munmap(data_, static_cast<size_t>(size_));
}

}  // namespace carat

#pragma once
// How models cut their workspace.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace carat {

/// Hands out pieces of one buffer. Without a buffer it only measures.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::byte* base) : base_(base) {}

  template <class T>
  T* take(int64_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    peak_ = std::max(peak_, used_);
    return piece;
  }
  /// Pieces taken after mark() are given up by rewind(): what is taken next overlays them.
  int64_t mark() const { return used_; }
  void rewind(int64_t mark) { used_ = mark; }
  int64_t peak() const { return peak_; }

 private:
  static constexpr int64_t kAlignment = 64;
  std::byte* base_ = nullptr;
  int64_t used_ = 0, peak_ = 0;
};

}  // namespace carat

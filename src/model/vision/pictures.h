#pragma once
// Several pictures as the rows of one batch.

#include <array>
#include <cstdint>
#include <span>

#include "base/encoder_input.h"
#include "model/arena.h"
#include "ops/context.h"
#include "tensor/bf16.h"
#include "tensor/tensor.h"

namespace carat {

/// How bytes of pixels become what an encoder reads: one table for images, one for video frames, whose reference
/// implementations scale in different ways. Source: vision.md sections 1, 3, 7.
class PixelTables {
 public:
  /// `centred`: p -> 2 (p - 1/2), as the towers do.
  explicit PixelTables(bool centred);
  ConstTensorView table(EncoderInput::Kind kind) const;  // [256]

 private:
  std::array<std::array<Bf16, 256>, 2> values_;
};

/// Pictures side by side, without padding. Patches are rows; `columns` and `rows` tell where in its picture each is.
class PackedPictures {
 public:
  /// Room for that many patches (and pictures).
  PackedPictures(Arena& arena, int64_t max_patches)
      : columns_(arena.take<int32_t>(max_patches)),
        rows_(arena.take<int32_t>(max_patches)),
        indptr_(arena.take<int32_t>(max_patches + 1)),
        max_patches_(max_patches) {}

  /// Lays out `inputs`, which have at most max_patches patches and no side longer than `max_side`.
  void pack(std::span<const EncoderInput* const> inputs, int patch_size, int max_side);
  /// x[t] = the pixels of patch t through their table. x [num_patches, patch_size^2 * 3].
  void read_pixels(ops::Context& ctx, std::span<const EncoderInput* const> inputs, const PixelTables& tables,
                   TensorView x) const;

  int64_t num_patches() const { return num_patches_; }
  std::span<const int32_t> columns() const { return {columns_, static_cast<size_t>(num_patches_)}; }
  std::span<const int32_t> rows() const { return {rows_, static_cast<size_t>(num_patches_)}; }
  std::span<const int32_t> indptr() const { return {indptr_, static_cast<size_t>(num_pictures_ + 1)}; }

 private:
  int32_t *columns_, *rows_, *indptr_;
  int64_t max_patches_, num_patches_ = 0, num_pictures_ = 0;
};

}  // namespace carat

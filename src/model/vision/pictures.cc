#include "model/vision/pictures.h"

#include "base/check.h"
#include "ops/ops.h"

namespace carat {

PixelTables::PixelTables(bool centred) {
  constexpr float kScale = static_cast<float>(1.0 / 255);
  for (int byte = 0; byte < 256; ++byte) {
    const float value = static_cast<float>(byte), image = value * kScale, frame = value / 255.0f;
    const auto prepare = [&](float p) { return Bf16(centred ? 2 * (p - 0.5f) : p); };
    values_[0][static_cast<size_t>(byte)] = prepare(image);
    values_[1][static_cast<size_t>(byte)] = prepare(frame);
  }
}

ConstTensorView PixelTables::table(EncoderInput::Kind kind) const {
  CARAT_CHECK(kind != EncoderInput::Kind::kAudio, "sound has no pixels");
  return {values_[kind == EncoderInput::Kind::kVideoFrame].data(), DType::kBf16, {256}};
}

void PackedPictures::pack(std::span<const EncoderInput* const> inputs, int patch_size, int max_side) {
  num_patches_ = num_pictures_ = 0;
  indptr_[0] = 0;
  for (const EncoderInput* input : inputs) {
    const int64_t count = int64_t{input->grid_width} * input->grid_height;
    CARAT_CHECK(input->grid_width > 0 && input->grid_width <= max_side && input->grid_height > 0 &&
                    input->grid_height <= max_side && num_patches_ + count <= max_patches_,
                "a picture is larger than the encoder was made for");
    CARAT_CHECK_EQ(std::ssize(input->pixels), count * patch_size * patch_size * 3);
    for (int32_t y = 0; y < input->grid_height; ++y)
      for (int32_t x = 0; x < input->grid_width; ++x, ++num_patches_) {
        columns_[num_patches_] = x;
        rows_[num_patches_] = y;
      }
    indptr_[++num_pictures_] = static_cast<int32_t>(num_patches_);
  }
}

void PackedPictures::read_pixels(ops::Context& ctx, std::span<const EncoderInput* const> inputs,
                                 const PixelTables& tables, TensorView x) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t first = indptr_[i], count = indptr_[i + 1] - first, width = x.dim(1);
    const TensorView rows(static_cast<Bf16*>(x.data) + first * x.row_stride, DType::kBf16, {count, width},
                          x.row_stride);
    ops::lookup_bytes(ctx, rows, {inputs[i]->pixels.data(), DType::kU8, {count, width}}, tables.table(inputs[i]->kind));
  }
}

}  // namespace carat

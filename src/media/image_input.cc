#include "media/image_input.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace carat {
namespace {

constexpr int64_t kChannels = 3;

/// [height, width, 3] -> [patches, patch_size, patch_size, 3]; whole patches.
std::vector<uint8_t> cut_into_patches(const std::vector<uint8_t>& pixels, const PictureSize& size, int patch_size) {
  std::vector<uint8_t> patches(pixels.size());
  const size_t piece = static_cast<size_t>(patch_size * kChannels);
  const uint8_t* in = pixels.data();
  for (int64_t y = 0; y < size.height; ++y) {
    const int64_t first = y / patch_size * (size.width / patch_size);
    for (int64_t x = 0; x < size.width / patch_size; ++x, in += piece)
      std::memcpy(patches.data() + ((first + x) * patch_size + y % patch_size) * static_cast<int64_t>(piece), in,
                  piece);
  }
  return patches;
}

}  // namespace

PictureSize target_size(int width, int height, const PictureForm& form) {
  CARAT_CHECK(width > 0 && height > 0 && form.token_size > 0 && form.max_soft_tokens > 0, "a picture has a pixel");
  const int side = form.token_size;
  const double pixels = static_cast<double>(form.max_soft_tokens) * side * side;
  const double factor = std::sqrt(pixels / (static_cast<double>(height) * width));
  const int columns = static_cast<int>(std::floor(factor * width / side));
  const int rows = static_cast<int>(std::floor(factor * height / side));
  // At most one of them is 0, since their product without the rounding is the budget.
  if (rows == 0) return {std::min(width / height, form.max_soft_tokens) * side, side};
  if (columns == 0) return {side, std::min(height / width, form.max_soft_tokens) * side};
  return {columns * side, rows * side};
}

std::shared_ptr<const EncoderInput> make_image_input(const PictureView& picture, const PictureForm& form,
                                                     EncoderInput::Kind kind) {
  CARAT_CHECK(kind != EncoderInput::Kind::kAudio && form.token_size % form.patch_size == 0, "an image or a frame");
  const PictureSize size = target_size(picture.width, picture.height, form);
  std::vector<uint8_t> pixels(static_cast<size_t>(size.width * kChannels * size.height));
  resize_bicubic(picture, size.width, size.height, pixels);

  auto input = std::make_shared<EncoderInput>();
  input->kind = kind;
  input->num_tokens = (size.width / form.token_size) * (size.height / form.token_size);
  input->grid_width = size.width / form.patch_size;
  input->grid_height = size.height / form.patch_size;
  input->pixels = cut_into_patches(pixels, size, form.patch_size);
  input->hash = content_hash(*input);
  return input;
}

}  // namespace carat

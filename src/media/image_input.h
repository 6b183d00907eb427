#pragma once
// Pictures to what the vision encoders read.

#include <memory>

#include "base/encoder_input.h"
#include "media/resize.h"

namespace carat {

/// How a model takes pictures: squares of patch_size pixels are one row of its input, squares of token_size pixels one
/// soft token, and a picture has at most max_soft_tokens.
struct PictureForm {
  int patch_size = 16;  ///< 16 before a tower, 48 without one
  int token_size = 48;  ///< a multiple of patch_size
  int max_soft_tokens = 280;
};

struct PictureSize {
  int width = 0, height = 0;
  bool operator==(const PictureSize&) const = default;
};

/// The size to which a picture is brought: about its shape, whole tokens, filling the budget; also small pictures grow.
/// Sizes >= 1. Source: vision.md section 1.
PictureSize target_size(int width, int height, const PictureForm& form);

/// Resized, cut into patches, hashed. `kind` is kImage or kVideoFrame: they are scaled to floats in different ways, so
/// that the same pixels are different contents. Any thread; a few milliseconds.
std::shared_ptr<const EncoderInput> make_image_input(const PictureView& picture, const PictureForm& form,
                                                     EncoderInput::Kind kind);

}  // namespace carat

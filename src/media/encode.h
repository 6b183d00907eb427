#pragma once
// Pixels -> files, for the load generator. Any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "media/resize.h"

namespace carat {

/// Baseline JPEG with halved chroma, as Pillow's default; `quality` 1 to 100.
std::string encode_jpeg(const PictureView& picture, int quality);
/// PNG of 8 bits RGB.
std::string encode_png(const PictureView& picture);

/// The standard alphabet, padded.
std::string encode_base64(std::string_view bytes);

}  // namespace carat

#pragma once
// Bytes of an image file -> pixels.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "media/limits.h"

namespace carat {

struct Image {
  int width = 0, height = 0;    ///< >= 1 once decoded
  std::vector<uint8_t> pixels;  ///< [height, width, 3], RGB
};

enum class ImageFormat : uint8_t { kJpeg, kPng, kWebp, kGif, kBmp };
std::string_view to_string(ImageFormat format);

/// Format and size as the header says, before the image is turned upright.
struct ImageHeader {
  ImageFormat format = ImageFormat::kJpeg;
  int width = 0, height = 0;
};

/// Reads the header alone: no pixels are decoded and no memory is taken. Errors: as decode_image.
Result<ImageHeader> read_image_header(std::span<const uint8_t> file);

/// JPEG (grey, YCbCr, RGB, CMYK and YCCK; baseline, progressive, arithmetic), PNG, WebP, GIF, BMP, told apart by their
/// first bytes. Turned upright by the EXIF or XMP orientation; alpha dropped with the colours kept; of an animation the
/// first frame; of 16 bits the upper 8; colour profiles and gamma are not applied. These are the bytes that
/// Transformers' load_image gives (Pillow's convert("RGB") after exif_transpose), but for 16-bit grey, which it
/// saturates. Any thread; blocks.
/// Errors: kUnsupported (another format, or a rare kind of these), kInvalidArgument (broken, or ends too early),
/// kTooLarge, kUnavailable once the deadline is over.
Result<Image> decode_image(std::span<const uint8_t> file, const MediaLimits& limits = {});

}  // namespace carat

#pragma once
// Pictures of another size, byte for byte as the reference's image processor makes them.

#include <cstdint>
#include <span>

namespace carat {

/// A picture in memory owned by somebody else.
struct PictureView {
  int width = 0, height = 0;
  std::span<const uint8_t> pixels;  ///< [height, width, 3], RGB
};

/// Bicubic resampling with antialiasing from bytes to bytes: columns first, then rows, both rounded to bytes, with
/// weights in 16-bit integers. Equals torchvision's resize of an uint8 tensor on the CPU in every byte. `out`
/// [out_height, out_width, 3]; all sizes >= 1. Takes memory for a strip of 16 rows and for one picture of out_width by
/// the source's height; any thread. Source: vision.md section 2.
void resize_bicubic(const PictureView& source, int out_width, int out_height, std::span<uint8_t> out);

}  // namespace carat

#pragma once
// The decoders behind decode_image. Private to media/: the types of their libraries stay in their .cc files.

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "media/bytes.h"
#include "media/image.h"
#include "media/limits.h"

namespace carat::image_codecs {

/// Size from the header; nothing else is read. Errors: kInvalidArgument, kUnsupported.
Result<ImageHeader> read_jpeg_header(Bytes file);
Result<ImageHeader> read_png_header(Bytes file);
Result<ImageHeader> read_webp_header(Bytes file);
Result<ImageHeader> read_gif_header(Bytes file);
Result<ImageHeader> read_bmp_header(Bytes file);

/// Pixels as they lie in the file. The size in the header has been checked.
Result<Image> decode_jpeg(Bytes file, const MediaLimits& limits);
Result<Image> decode_png(Bytes file, const MediaLimits& limits);
Result<Image> decode_webp(Bytes file, const MediaLimits& limits);
Result<Image> decode_gif(Bytes file, const MediaLimits& limits);
Result<Image> decode_bmp(Bytes file, const MediaLimits& limits);

/// EXIF orientation 1 .. 8; 1 where there is none or it cannot be read.
int jpeg_orientation(Bytes file);
int png_orientation(Bytes file);
int webp_orientation(Bytes file);
/// From a TIFF structure, with or without "Exif\0\0" before it; from the text of an XMP packet. 0: it says nothing.
int exif_orientation(Bytes exif);
int xmp_orientation(std::string_view xmp);

/// Upright, from an image that has this EXIF orientation; others than 2 .. 8 leave it as it is.
Image turn(Image image, int orientation);
/// A black image. `width`, `height` >= 1.
Image make_image(int width, int height);
Error broken(ImageFormat format, std::string_view what);
Error unsupported(ImageFormat format, std::string_view what);

}  // namespace carat::image_codecs

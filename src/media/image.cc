#include "media/image.h"

#include <algorithm>
#include <cstring>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat {
namespace {

using namespace image_codecs;

struct Codec {
  std::string_view magic;
  size_t magic_at;
  Result<ImageHeader> (*read_header)(Bytes);
  Result<Image> (*decode)(Bytes, const MediaLimits&);
  int (*orientation)(Bytes);
};

int upright(Bytes) { return 1; }

// In the order of ImageFormat.
constexpr Codec kCodecs[] = {
    {"\xff\xd8\xff", 0, read_jpeg_header, decode_jpeg, jpeg_orientation},
    {"\x89PNG\r\n\x1a\n", 0, read_png_header, decode_png, png_orientation},
    {"WEBP", 8, read_webp_header, decode_webp, webp_orientation},
    {"GIF8", 0, read_gif_header, decode_gif, upright},
    {"BM", 0, read_bmp_header, decode_bmp, upright},
};

Result<ImageFormat> sniff(Bytes file) {
  for (size_t i = 0; i < std::size(kCodecs); ++i)
    if (has_at(file, kCodecs[i].magic_at, kCodecs[i].magic)) return static_cast<ImageFormat>(i);
  if (file.empty()) return Error{Errc::kInvalidArgument, "the image is empty (0 bytes)"};
  return Error{Errc::kUnsupported, "the image is in no known format; allowed are JPEG, PNG, WebP, GIF and BMP"};
}

const Codec& codec(ImageFormat format) { return kCodecs[static_cast<size_t>(format)]; }

}  // namespace

std::string_view to_string(ImageFormat format) {
  constexpr std::string_view kNames[] = {"JPEG", "PNG", "WebP", "GIF", "BMP"};
  return kNames[static_cast<size_t>(format)];
}

Result<ImageHeader> read_image_header(std::span<const uint8_t> file) {
  CARAT_TRY(const auto format, sniff(file));
  CARAT_TRY(const auto header, codec(format).read_header(file));
  if (header.width < 1 || header.height < 1)
    return broken(format, str_cat("its size is ", header.width, " x ", header.height));
  return header;
}

Result<Image> decode_image(std::span<const uint8_t> file, const MediaLimits& limits) {
  CARAT_TRY_VOID(check_encoded_size(limits, file.size(), "image"));
  CARAT_TRY(const auto header, read_image_header(file));
  CARAT_TRY_VOID(check_picture_size(limits, limits.max_image_pixels, header.width, header.height, "the image has"));
  CARAT_TRY_VOID(check_deadline(limits, "image"));
  CARAT_TRY(auto image, codec(header.format).decode(file, limits));
  return turn(std::move(image), codec(header.format).orientation(file));
}

namespace image_codecs {

Image make_image(int width, int height) {
  return {.width = width, .height = height, .pixels = std::vector<uint8_t>(int64_t{width} * height * 3)};
}

// Where pixel (x, y) of the upright image lies in the stored one: orientations 5 to 8 swap the axes.
Image turn(Image in, int orientation) {
  if (orientation < 2 || orientation > 8) return in;
  const bool swap = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out = make_image(swap ? in.height : in.width, swap ? in.width : in.height);
  // Tiles, so that a swap reads whole cache lines.
  constexpr int kTile = 32;
  const int64_t stride = int64_t{in.width} * 3;
  for (int y0 = 0; y0 < out.height; y0 += kTile)
    for (int x0 = 0; x0 < out.width; x0 += kTile)
      for (int y = y0; y < std::min(y0 + kTile, out.height); ++y)
        for (int x = x0; x < std::min(x0 + kTile, out.width); ++x) {
          const int u = swap ? y : x, v = swap ? x : y;
          const int in_x = flip_x ? in.width - 1 - u : u, in_y = flip_y ? in.height - 1 - v : v;
          std::memcpy(&out.pixels[(int64_t{y} * out.width + x) * 3], &in.pixels[in_y * stride + int64_t{in_x} * 3], 3);
        }
  return out;
}

Error broken(ImageFormat format, std::string_view what) {
  return {Errc::kInvalidArgument, str_cat("the ", to_string(format), " image is broken: ", what)};
}

Error unsupported(ImageFormat format, std::string_view what) {
  return {Errc::kUnsupported, str_cat("the ", to_string(format), " image cannot be read: ", what)};
}

}  // namespace image_codecs
}  // namespace carat

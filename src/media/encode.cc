#include "media/encode.h"

#include <png.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "base/check.h"

namespace carat {

std::string encode_jpeg(const PictureView& picture, int quality) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;  // its default ends the process: pixels in memory give no error but want of memory
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* file = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &file, &size);
  info.image_width = static_cast<JDIMENSION>(picture.width);
  info.image_height = static_cast<JDIMENSION>(picture.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  const size_t row_bytes = 3 * static_cast<size_t>(picture.width);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(picture.pixels.data() + info.next_scanline * row_bytes);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  const std::unique_ptr<unsigned char, decltype(&std::free)> owned(file, &std::free);
  std::string out(reinterpret_cast<const char*>(file), size);
  jpeg_destroy_compress(&info);
  return out;
}

std::string encode_png(const PictureView& picture) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_RGB;
  std::string out(PNG_IMAGE_PNG_SIZE_MAX(image), '\0');
  png_alloc_size_t size = out.size();
  const int written = png_image_write_to_memory(&image, out.data(), &size, 0, picture.pixels.data(), 0, nullptr);
  CARAT_CHECK(written != 0, "a PNG of pixels in memory can be written");
  out.resize(size);
  return out;
}

std::string encode_base64(std::string_view bytes) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t at) { return at < bytes.size() ? static_cast<uint8_t>(bytes[at]) : uint8_t{0}; };
    const uint32_t bits = uint32_t{byte(i)} << 16 | uint32_t{byte(i + 1)} << 8 | byte(i + 2);
    for (const int shift : {18, 12, 6, 0}) out += kAlphabet[bits >> shift & 63];
  }
  if (const size_t rest = bytes.size() % 3; rest > 0) out.replace(out.size() - (3 - rest), 3 - rest, 3 - rest, '=');
  return out;
}

}  // namespace carat

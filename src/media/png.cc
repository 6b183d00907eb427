#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

struct Reader {
  Bytes rest;
  char message[128];
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto& reader = *static_cast<Reader*>(png_get_error_ptr(png));
  std::snprintf(reader.message, sizeof reader.message, "%s", message);
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

void read(png_structp png, png_bytep out, size_t size) {
  auto& reader = *static_cast<Reader*>(png_get_io_ptr(png));
  if (size > reader.rest.size()) png_error(png, "it ends too early");
  std::memcpy(out, reader.rest.data(), size);
  reader.rest = reader.rest.subspan(size);
}

struct Decoder {
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

// Functions with setjmp hold nothing with a destructor.

// Sets the conversions: one byte per pixel for palettes, RGB otherwise. `channels` of a row then: 1 or 3.
bool start(const Decoder& d, int& channels, int& passes) {
  if (setjmp(png_jmpbuf(d.png))) return false;
  png_set_keep_unknown_chunks(d.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // colour and text: nothing is unpacked
  // The size has been checked; libpng's own limit of 1,000,000 a side is only less.
  png_set_user_limits(d.png, 0x7fffffff, 0x7fffffff);
  png_read_info(d.png, d.info);
  const int type = png_get_color_type(d.png, d.info);
  if (png_get_bit_depth(d.png, d.info) == 16) png_set_strip_16(d.png);
  if (type == PNG_COLOR_TYPE_PALETTE) {
    png_set_packing(d.png);
  } else {
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(d.png);
    if ((type & PNG_COLOR_MASK_ALPHA) != 0) png_set_strip_alpha(d.png);
    if ((type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(d.png);
  }
  passes = png_set_interlace_handling(d.png);
  png_read_update_info(d.png, d.info);
  channels = png_get_channels(d.png, d.info);
  return true;
}

// Rows [begin, end) of a pass.
bool read_rows(const Decoder& d, uint8_t* rows, int64_t stride, int begin, int end) {
  if (setjmp(png_jmpbuf(d.png))) return false;
  for (int y = begin; y < end; ++y) png_read_row(d.png, rows + y * stride, nullptr);
  return true;
}

void palette_to_rgb(const Decoder& d, const std::vector<uint8_t>& indices, std::vector<uint8_t>& rgb) {
  png_colorp colors = nullptr;
  int count = 0;
  png_get_PLTE(d.png, d.info, &colors, &count);
  uint8_t table[256][3];
  for (int i = 0; i < 256; ++i) {
    const png_color color = i < count ? colors[i] : png_color{};  // past the end of the palette: black
    table[i][0] = color.red, table[i][1] = color.green, table[i][2] = color.blue;
  }
  for (size_t i = 0; i < indices.size(); ++i) std::memcpy(&rgb[3 * i], table[indices[i]], 3);
}

}  // namespace

Result<ImageHeader> read_png_header(Bytes file) {
  if (file.size() < 33 || !has_at(file, 12, "IHDR")) return broken(ImageFormat::kPng, "its header is missing");
  const uint32_t width = u32be(file, 16), height = u32be(file, 20);
  if (width > 0x7fffffff || height > 0x7fffffff) return broken(ImageFormat::kPng, "its size is over 2^31");
  return ImageHeader{.format = ImageFormat::kPng, .width = static_cast<int>(width), .height = static_cast<int>(height)};
}

Result<Image> decode_png(Bytes file, const MediaLimits& limits) {
  CARAT_TRY(const auto header, read_png_header(file));
  Reader reader{.rest = file, .message = {}};
  Decoder d;
  d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  if (d.png != nullptr) d.info = png_create_info_struct(d.png);
  if (d.info == nullptr) return Error{Errc::kInternal, "libpng could not be started"};
  png_set_read_fn(d.png, &reader, read);
  int channels = 0, passes = 0;
  if (!start(d, channels, passes)) return broken(ImageFormat::kPng, reader.message);
  Image image = make_image(header.width, header.height);
  std::vector<uint8_t> indices(channels == 1 ? int64_t{image.width} * image.height : 0);
  uint8_t* const rows = channels == 1 ? indices.data() : image.pixels.data();
  constexpr int kRowsPerLook = 64;  // at the clock
  for (int pass = 0; pass < passes; ++pass)
    for (int y = 0; y < image.height; y += kRowsPerLook) {
      CARAT_TRY_VOID(check_deadline(limits, "image"));
      if (!read_rows(d, rows, int64_t{image.width} * channels, y, std::min(y + kRowsPerLook, image.height)))
        return broken(ImageFormat::kPng, reader.message);
    }
  if (channels == 1) palette_to_rgb(d, indices, image.pixels);
  return image;
}

}  // namespace carat::image_codecs

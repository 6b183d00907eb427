// Windows bitmaps: 1, 4, 8, 16, 24 and 32 bits, runs of 4 and 8 bits, masks.
#include <bit>
#include <cstring>
#include <vector>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

enum Compression : uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kMasks = 3 };

struct Header {
  int64_t width = 0, height = 0;
  bool top_down = false;
  uint32_t bits = 0, compression = kRaw;
  size_t palette_at = 0, palette_entry = 4, palette_size = 0;
  size_t pixels_at = 0;
  uint32_t masks[3] = {};
};

Result<Header> read_header(Bytes file) {
  const auto short_file = [] { return broken(ImageFormat::kBmp, "its header ends too early"); };
  if (file.size() < 26) return short_file();
  Header h;
  h.pixels_at = u32le(file, 10);
  const size_t size = u32le(file, 14);
  if (file.size() < 14 + size) return short_file();
  uint32_t colors = 0;
  if (size == 12) {
    h.width = u16le(file, 18), h.height = u16le(file, 20), h.bits = u16le(file, 24);
    h.palette_entry = 3;
  } else if (size == 40 || size == 52 || size == 56 || size == 64 || size == 108 || size == 124) {
    h.width = static_cast<int32_t>(u32le(file, 18));
    h.height = static_cast<int32_t>(u32le(file, 22));
    h.bits = u16le(file, 28), h.compression = u32le(file, 30), colors = u32le(file, 46);
    h.top_down = h.height < 0;
    if (h.top_down) h.height = -h.height;
  } else {
    return unsupported(ImageFormat::kBmp, str_cat("its header has ", size, " bytes, which no known kind has"));
  }
  if (h.width < 1 || h.height < 1 || h.height > 0x7fffffff)
    return broken(ImageFormat::kBmp, str_cat("its size is ", h.width, " x ", h.height));
  h.palette_at = 14 + size;
  if (h.compression == kMasks) {
    if (file.size() < 14 + 40 + 12) return short_file();  // after a header of 40 bytes, else inside it
    for (size_t i = 0; i < 3; ++i) h.masks[i] = u32le(file, 54 + 4 * i);
    if (size == 40) h.palette_at += 12;
  } else if (h.bits == 16) {
    h.masks[0] = 0x7c00, h.masks[1] = 0x3e0, h.masks[2] = 0x1f;
  }
  if (h.bits <= 8) {
    h.palette_size = colors == 0 ? size_t{1} << h.bits : colors;
    if (h.palette_size > 256) h.palette_size = 256;
  }
  return h;
}

struct Color {
  uint8_t bgr[3];
};

Result<std::vector<Color>> read_palette(Bytes file, const Header& h) {
  if (file.size() < h.palette_at + h.palette_size * h.palette_entry)
    return broken(ImageFormat::kBmp, "its palette ends too early");
  std::vector<Color> colors(256);  // past the end of the palette: black
  for (size_t i = 0; i < h.palette_size; ++i) std::memcpy(colors[i].bgr, &file[h.palette_at + i * h.palette_entry], 3);
  return colors;
}

void put(Image& image, const Header& h, int64_t x, int64_t stored_y, const Color& color) {
  const int64_t y = h.top_down ? stored_y : h.height - 1 - stored_y;
  uint8_t* out = &image.pixels[(y * h.width + x) * 3];
  out[0] = color.bgr[2], out[1] = color.bgr[1], out[2] = color.bgr[0];
}

// `count` indices of run-length code, in the order of the file; what no run covers is 0.
std::vector<uint8_t> expand_runs(Bytes code, const Header& h) {
  std::vector<uint8_t> out(h.width * h.height);
  int64_t x = 0, y = 0;
  size_t at = 0;
  const bool four = h.compression == kRle4;
  const auto put_index = [&](uint8_t index) {
    if (x < h.width && y < h.height) out[y * h.width + x] = index;
    ++x;
  };
  while (at + 2 <= code.size() && y < h.height) {
    const int first = code[at], second = code[at + 1];
    at += 2;
    if (first > 0) {
      for (int i = 0; i < first; ++i)
        put_index(static_cast<uint8_t>(!four ? second : i % 2 == 0 ? second >> 4 : second & 15));
    } else if (second == 0) {
      x = 0, ++y;
    } else if (second == 1) {
      break;
    } else if (second == 2) {
      if (at + 2 > code.size()) break;
      x += code[at], y += code[at + 1];
      at += 2;
    } else {
      const size_t size = four ? static_cast<size_t>(second + 1) / 2 : static_cast<size_t>(second);
      if (at + size > code.size()) break;
      for (int i = 0; i < second; ++i) {
        const int byte = code[at + (four ? static_cast<size_t>(i) / 2 : static_cast<size_t>(i))];
        put_index(static_cast<uint8_t>(!four ? byte : i % 2 == 0 ? byte >> 4 : byte & 15));
      }
      at += size + (size & 1);
    }
  }
  return out;
}

// The bits of `value` under `mask`, stretched to 8.
uint8_t channel(uint32_t value, uint32_t mask) {
  if (mask == 0) return 0;
  const uint32_t top = mask >> std::countr_zero(mask);
  return static_cast<uint8_t>(uint64_t{(value & mask) >> std::countr_zero(mask)} * 255 / top);
}

}  // namespace

Result<ImageHeader> read_bmp_header(Bytes file) {
  CARAT_TRY(const auto h, read_header(file));
  return ImageHeader{
      .format = ImageFormat::kBmp, .width = static_cast<int>(h.width), .height = static_cast<int>(h.height)};
}

Result<Image> decode_bmp(Bytes file, const MediaLimits& limits) {
  CARAT_TRY(const auto h, read_header(file));
  const bool indexed = h.bits == 1 || h.bits == 4 || h.bits == 8;
  const bool runs = h.compression == kRle8 || h.compression == kRle4;
  if (!indexed && h.bits != 16 && h.bits != 24 && h.bits != 32)
    return unsupported(ImageFormat::kBmp, str_cat("it has ", h.bits, " bits a pixel; 1, 4, 8, 16, 24, 32 are known"));
  const bool fits = h.compression == kRaw || (h.compression == kRle8 && h.bits == 8) ||
                    (h.compression == kRle4 && h.bits == 4) ||
                    (h.compression == kMasks && (h.bits == 16 || h.bits == 32));
  if (!fits)
    return unsupported(ImageFormat::kBmp, str_cat("compression ", h.compression, " with ", h.bits, " bits a pixel"));
  if (h.pixels_at > file.size()) return broken(ImageFormat::kBmp, "its pixels begin after its end");
  const auto pixels = file.subspan(h.pixels_at);
  std::vector<Color> palette;
  if (indexed) {
    CARAT_TRY(palette, read_palette(file, h));
  }
  const int64_t row_bytes = (h.width * h.bits + 31) / 32 * 4;
  // The last row need not be padded.
  if (!runs && (h.height - 1) * row_bytes + (h.width * h.bits + 7) / 8 > static_cast<int64_t>(pixels.size()))
    return broken(ImageFormat::kBmp, "it ends too early");
  Image image = make_image(static_cast<int>(h.width), static_cast<int>(h.height));
  std::vector<uint8_t> expanded;
  if (runs) expanded = expand_runs(pixels, h);
  for (int64_t y = 0; y < h.height; ++y) {
    if (y % 64 == 0) CARAT_TRY_VOID(check_deadline(limits, "image"));
    const uint8_t* row = runs ? &expanded[y * h.width] : pixels.data() + y * row_bytes;
    for (int64_t x = 0; x < h.width; ++x) {
      if (indexed) {
        const int64_t bit = x * h.bits;
        const uint32_t index =
            runs || h.bits == 8 ? row[x] : row[bit / 8] >> (8 - h.bits - bit % 8) & ((1u << h.bits) - 1);
        put(image, h, x, y, palette[index]);
      } else if (h.bits == 24 || h.masks[0] + h.masks[1] + h.masks[2] == 0) {
        const uint8_t* p = row + x * (h.bits / 8);
        put(image, h, x, y, {{p[0], p[1], p[2]}});
      } else {
        const Bytes p(row + x * (h.bits / 8), h.bits / 8);
        const uint32_t value = h.bits == 16 ? u16le(p, 0) : u32le(p, 0);
        put(image, h, x, y, {{channel(value, h.masks[2]), channel(value, h.masks[1]), channel(value, h.masks[0])}});
      }
    }
  }
  return image;
}

}  // namespace carat::image_codecs

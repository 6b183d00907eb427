#include <gif_lib.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

int read(GifFileType* gif, GifByteType* out, int size) {
  auto& rest = *static_cast<Bytes*>(gif->UserData);
  const size_t n = std::min(rest.size(), static_cast<size_t>(size));
  std::memcpy(out, rest.data(), n);
  rest = rest.subspan(n);
  return static_cast<int>(n);
}

struct Decoder {
  Bytes rest;
  GifFileType* gif = nullptr;
  ~Decoder() {
    if (gif != nullptr) DGifCloseFile(gif, nullptr);
  }
};

Error error_of(int code) {
  const char* text = GifErrorString(code);
  return broken(ImageFormat::kGif, text == nullptr ? "it ends too early" : text);
}

// The place of the first frame and the index that means transparent, or -1.
struct FirstFrame {
  int left, top, width, height;
  bool interlaced;
  int transparent;
};

// Walks to the first frame's description; the blocks before it are read over.
Result<FirstFrame> find_frame(GifFileType* gif) {
  int transparent = -1;
  for (;;) {
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif, &type) == GIF_ERROR) return error_of(gif->Error);
    if (type == TERMINATE_RECORD_TYPE) return broken(ImageFormat::kGif, "it has no frame");
    if (type == IMAGE_DESC_RECORD_TYPE) {
      if (DGifGetImageDesc(gif) == GIF_ERROR) return error_of(gif->Error);
      const auto& i = gif->Image;
      return FirstFrame{i.Left, i.Top, i.Width, i.Height, i.Interlace, transparent};
    }
    if (type != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) return error_of(gif->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1) != 0)
      transparent = block[4];
    while (block != nullptr)
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return error_of(gif->Error);
  }
}

}  // namespace

// A frame may reach over the screen that the header gives, and the image then grows: so its place counts too.
Result<ImageHeader> read_gif_header(Bytes file) {
  Decoder d{.rest = file};
  int code = 0;
  d.gif = DGifOpen(&d.rest, read, &code);
  if (d.gif == nullptr) return error_of(code);
  CARAT_TRY(const auto frame, find_frame(d.gif));
  return ImageHeader{.format = ImageFormat::kGif,
                     .width = std::max(d.gif->SWidth, frame.left + frame.width),
                     .height = std::max(d.gif->SHeight, frame.top + frame.height)};
}

Result<Image> decode_gif(Bytes file, const MediaLimits& limits) {
  CARAT_TRY(const auto header, read_gif_header(file));
  Decoder d{.rest = file};
  int code = 0;
  d.gif = DGifOpen(&d.rest, read, &code);
  if (d.gif == nullptr) return error_of(code);
  CARAT_TRY(const auto frame, find_frame(d.gif));
  // What the frame does not cover shows the transparent colour, else the first of the palette, as in Pillow.
  std::vector<uint8_t> indices(int64_t{header.width} * header.height,
                               static_cast<uint8_t>(std::max(frame.transparent, 0)));
  const auto read_row = [&](int y) {
    uint8_t* row = &indices[int64_t{frame.top + y} * header.width + frame.left];
    return DGifGetLine(d.gif, row, frame.width) != GIF_ERROR;
  };
  constexpr int kStart[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
  for (int pass = 0; pass < (frame.interlaced ? 4 : 1); ++pass)
    for (int y = frame.interlaced ? kStart[pass] : 0; y < frame.height; y += frame.interlaced ? kStep[pass] : 1) {
      if (y % 64 == 0) CARAT_TRY_VOID(check_deadline(limits, "image"));
      if (frame.width > 0 && !read_row(y)) return error_of(d.gif->Error);
    }
  const ColorMapObject* map = d.gif->Image.ColorMap != nullptr ? d.gif->Image.ColorMap : d.gif->SColorMap;
  uint8_t table[256][3];
  for (int i = 0; i < 256; ++i) {
    const auto grey = static_cast<GifByteType>(i);
    GifColorType color{};  // past the end of the palette: black
    if (map == nullptr)
      color = {grey, grey, grey};
    else if (i < map->ColorCount)
      color = map->Colors[i];
    table[i][0] = color.Red, table[i][1] = color.Green, table[i][2] = color.Blue;
  }
  Image image = make_image(header.width, header.height);
  for (size_t i = 0; i < indices.size(); ++i) std::memcpy(&image.pixels[3 * i], table[indices[i]], 3);
  return image;
}

}  // namespace carat::image_codecs

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <vector>
// After <cstdio>, which it needs.
#include <jpeglib.h>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

// Files in the wild have about ten scans; each one walks over all pixels, so a small file could ask for hours of work.
constexpr int kMaxScans = 100;

struct Decoder {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];
  const MediaLimits* limits;  // null: none
  bool timed_out;
};

Decoder& self(j_common_ptr info) { return *static_cast<Decoder*>(info->client_data); }

[[noreturn]] void give_up(j_common_ptr info, const char* message) {
  auto& d = self(info);
  std::snprintf(d.message, sizeof d.message, "%s", message);
  std::longjmp(d.on_error, 1);
}

[[noreturn]] void on_error(j_common_ptr info) {
  auto& d = self(info);
  info->err->format_message(info, d.message);
  std::longjmp(d.on_error, 1);
}

// Warnings about broken entropy data are passed over, as Pillow does.
void on_message(j_common_ptr, int) {}
void no_op(j_decompress_ptr) {}

boolean on_end_of_input(j_decompress_ptr info) { give_up(reinterpret_cast<j_common_ptr>(info), "it ends too early"); }

void skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<size_t>(count) > info->src->bytes_in_buffer) on_end_of_input(info);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= static_cast<size_t>(count);
}

void on_progress(j_common_ptr info) {
  auto& d = self(info);
  if (d.info.input_scan_number > kMaxScans) give_up(info, "it has more than 100 scans");
  if (d.limits != nullptr && !check_deadline(*d.limits, "image")) {
    d.timed_out = true;
    give_up(info, "deadline");
  }
}

void open(Decoder& d, Bytes file) {
  d.info.err = jpeg_std_error(&d.errors);
  d.errors.error_exit = on_error;
  d.errors.emit_message = on_message;
  d.info.client_data = &d;
  d.timed_out = false;
  jpeg_create_decompress(&d.info);
  d.source = {.next_input_byte = file.data(),
              .bytes_in_buffer = file.size(),
              .init_source = no_op,
              .fill_input_buffer = on_end_of_input,
              .skip_input_data = skip,
              .resync_to_restart = jpeg_resync_to_restart,
              .term_source = no_op};
  d.info.src = &d.source;
  d.progress = {};
  d.progress.progress_monitor = on_progress;
  d.info.progress = &d.progress;
}

// The three below are called between setjmp and its destruction of the frame: they hold nothing with a destructor.

bool read_header(Decoder& d, Bytes file) {
  if (setjmp(d.on_error)) return false;
  open(d, file);
  jpeg_read_header(&d.info, TRUE);
  return true;
}

// `rows` [height, width, components]; the colour space has been chosen.
bool read_pixels(Decoder& d, uint8_t* rows, int64_t stride) {
  if (setjmp(d.on_error)) return false;
  jpeg_start_decompress(&d.info);
  while (d.info.output_scanline < d.info.output_height) {
    JSAMPROW row = rows + int64_t{d.info.output_scanline} * stride;
    jpeg_read_scanlines(&d.info, &row, 1);
  }
  return true;
}

// Adobe's files hold CMYK inverted, and files without its marker are taken for such too.
void cmyk_to_rgb(const std::vector<uint8_t>& cmyk, std::vector<uint8_t>& rgb) {
  for (size_t i = 0, n = cmyk.size() / 4; i < n; ++i) {
    const int k = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * i + c]) * k + 128;
      rgb[3 * i + c] = static_cast<uint8_t>(k - ((product + (product >> 8)) >> 8));
    }
  }
}

struct Closer {
  Decoder& d;
  ~Closer() { jpeg_destroy_decompress(&d.info); }
};

Error error_of(const Decoder& d) {
  return d.timed_out ? check_deadline(*d.limits, "image").error() : broken(ImageFormat::kJpeg, d.message);
}

}  // namespace

Result<ImageHeader> read_jpeg_header(Bytes file) {
  Decoder d{};
  const Closer closer{d};
  if (!read_header(d, file)) return error_of(d);
  return ImageHeader{.format = ImageFormat::kJpeg,
                     .width = static_cast<int>(d.info.image_width),
                     .height = static_cast<int>(d.info.image_height)};
}

Result<Image> decode_jpeg(Bytes file, const MediaLimits& limits) {
  Decoder d{};
  const Closer closer{d};
  d.limits = &limits;
  if (!read_header(d, file)) return error_of(d);
  const bool cmyk = d.info.num_components == 4;
  if (!cmyk && d.info.num_components != 1 && d.info.num_components != 3)
    return unsupported(ImageFormat::kJpeg,
                       str_cat("it has ", d.info.num_components, " colour components; 1, 3 and 4 are known"));
  d.info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  Image image = make_image(static_cast<int>(d.info.image_width), static_cast<int>(d.info.image_height));
  if (!cmyk) {
    if (!read_pixels(d, image.pixels.data(), int64_t{image.width} * 3)) return error_of(d);
    return image;
  }
  std::vector<uint8_t> pixels(int64_t{image.width} * image.height * 4);
  if (!read_pixels(d, pixels.data(), int64_t{image.width} * 4)) return error_of(d);
  cmyk_to_rgb(pixels, image.pixels);
  return image;
}

}  // namespace carat::image_codecs

// Orientation of images: EXIF (a TIFF structure in JPEG's APP1, PNG's eXIf, WebP's EXIF chunk), else XMP.

#include <algorithm>
#include <vector>

#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

constexpr std::string_view kExif{"Exif\0\0", 6};
constexpr std::string_view kXmp{"http://ns.adobe.com/xap/1.0/\0", 29};

int combine(Bytes exif, std::string_view xmp) {
  int found = exif_orientation(exif);
  if (found == 0) found = xmp_orientation(xmp);
  return found == 0 ? 1 : found;
}

std::vector<uint8_t> from_hex(std::string_view hex) {
  std::vector<uint8_t> out;
  int high = -1;
  for (const char c : hex) {
    int digit = 0;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if ((c | 32) >= 'a' && (c | 32) <= 'f')
      digit = (c | 32) - 'a' + 10;
    else
      continue;
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<uint8_t>(high << 4 | digit));
      high = -1;
    }
  }
  return out;
}

}  // namespace

int exif_orientation(Bytes exif) {
  while (has_at(exif, 0, kExif)) exif = exif.subspan(kExif.size());
  const bool big = has_at(exif, 0, "MM");
  if (exif.size() < 8 || (!big && !has_at(exif, 0, "II"))) return 0;
  const auto u16 = [&](size_t at) { return big ? u16be(exif, at) : u16le(exif, at); };
  const auto u32 = [&](size_t at) { return big ? u32be(exif, at) : u32le(exif, at); };
  if (u16(2) != 42) return 0;
  const size_t ifd = u32(4);
  if (ifd > exif.size() || exif.size() - ifd < 2) return 0;
  const uint32_t count = u16(ifd);
  for (uint32_t i = 0; i < count; ++i) {
    const size_t entry = ifd + 2 + size_t{12} * i;
    if (entry + 12 > exif.size()) return 0;
    if (u16(entry) != 0x0112) continue;
    const uint32_t type = u16(entry + 2);
    const uint32_t value = type == 1 ? exif[entry + 8] : type == 3 ? u16(entry + 8) : type == 4 ? u32(entry + 8) : 0;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 0;
}

int xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kKey = "tiff:Orientation";
  for (size_t at = 0; (at = xmp.find(kKey, at)) != std::string_view::npos;) {
    at += kKey.size();
    const auto rest = xmp.substr(at);
    const size_t skip = rest.starts_with("=\"") ? 2 : rest.starts_with(">") ? 1 : 0;
    if (skip == 0 || rest.size() <= skip || rest[skip] < '0' || rest[skip] > '9') continue;
    const int value = rest[skip] - '0';
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 0;
}

int jpeg_orientation(Bytes file) {
  std::vector<uint8_t> exif;  // may be spread over several segments
  std::string_view xmp;
  for (size_t at = 2; at + 4 <= file.size();) {
    if (file[at] != 0xff) {
      ++at;
      continue;
    }
    const uint8_t marker = file[at + 1];
    if (marker == 0xff) {
      ++at;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) break;  // pixels begin, or the end
    if (marker <= 1 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    const size_t length = u16be(file, at + 2);
    if (length < 2 || at + 2 + length > file.size()) break;
    const auto body = file.subspan(at + 4, length - 2);
    if (marker == 0xe1 && has_at(body, 0, kExif)) exif.insert(exif.end(), body.begin() + kExif.size(), body.end());
    if (marker == 0xe1 && has_at(body, 0, kXmp)) xmp = as_text(body.subspan(kXmp.size()));
    at += 2 + length;
  }
  return combine(exif, xmp);
}

int png_orientation(Bytes file) {
  Bytes exif;
  std::vector<uint8_t> raw_profile;
  std::string_view xmp;
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t length = u32be(file, at);
    if (length > file.size() - at - 12) break;
    const auto body = file.subspan(at + 8, length);
    constexpr std::string_view kXmpKey{"XML:com.adobe.xmp\0\0", 19};  // the second 0: not compressed
    constexpr std::string_view kRawKey{"Raw profile type exif\0", 22};
    if (has_at(file, at + 4, "eXIf")) exif = body;
    if (has_at(file, at + 4, "iTXt") && has_at(body, 0, kXmpKey)) xmp = as_text(body.subspan(kXmpKey.size()));
    if (has_at(file, at + 4, "tEXt") && has_at(body, 0, kRawKey)) {
      // "\nexif\n", the length, a line break, hexadecimal digits.
      auto digits = as_text(body.subspan(kRawKey.size()));
      for (int line = 0; line < 3 && !digits.empty(); ++line)
        digits.remove_prefix(std::min(digits.find('\n'), digits.size() - 1) + 1);
      raw_profile = from_hex(digits);
    }
    at += 12 + length;
  }
  return combine(exif.empty() ? Bytes(raw_profile) : exif, xmp);
}

int webp_orientation(Bytes file) {
  Bytes exif;
  std::string_view xmp;
  for (size_t at = 12; at + 8 <= file.size();) {
    const size_t length = u32le(file, at + 4);
    if (length > file.size() - at - 8) break;
    const auto body = file.subspan(at + 8, length);
    if (has_at(file, at, "EXIF")) exif = body;
    if (has_at(file, at, "XMP ")) xmp = as_text(body);
    at += 8 + length + (length & 1);
  }
  return combine(exif, xmp);
}

}  // namespace carat::image_codecs

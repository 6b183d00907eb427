#include <vorbis/vorbisfile.h>

#include <algorithm>
#include <cstring>

#include "base/str.h"
#include "media/audio_readers.h"

namespace carat {
namespace {

class VorbisReader : public AudioReader {
 public:
  explicit VorbisReader(std::span<const uint8_t> file) : rest_(file) {}
  ~VorbisReader() override {
    if (open_) ov_clear(&file_);
  }

  Result<void> open() {
    // Without seeking: the file is read once, and no index of chained streams is built.
    const ov_callbacks callbacks{
        .read_func = read_bytes, .seek_func = nullptr, .close_func = nullptr, .tell_func = nullptr};
    if (const int rc = ov_open_callbacks(this, &file_, nullptr, 0, callbacks); rc < 0)
      return broken_audio(str_cat("it cannot be read as Ogg Vorbis (", rc, ")"));
    open_ = true;
    const auto* info = ov_info(&file_, -1);
    rate_ = static_cast<int>(info->rate);
    channels_ = info->channels;
    return {};
  }

  Result<int64_t> read(std::span<float> out) override {
    const auto wanted = out.size() / static_cast<size_t>(channels_);
    for (;;) {
      float** planes = nullptr;
      int stream = 0;
      const long got = ov_read_float(&file_, &planes, static_cast<int>(wanted), &stream);
      if (got == OV_HOLE) continue;  // lost pages are passed over
      if (got < 0) return broken_audio(str_cat("its Vorbis stream cannot be decoded (", got, ")"));
      const auto* info = ov_info(&file_, -1);
      if (info->channels != channels_ || info->rate != rate_)
        return broken_audio("its Vorbis streams have several rates or numbers of channels");
      for (long i = 0; i < got; ++i)
        for (int c = 0; c < channels_; ++c) out[static_cast<size_t>(i * channels_ + c)] = planes[c][i];
      return int64_t{got};
    }
  }

 private:
  static size_t read_bytes(void* out, size_t size, size_t count, void* self) {
    auto& rest = static_cast<VorbisReader*>(self)->rest_;
    const size_t bytes = std::min(size * count, rest.size());
    std::memcpy(out, rest.data(), bytes);
    rest = rest.subspan(bytes);
    return size == 0 ? 0 : bytes / size;
  }

  std::span<const uint8_t> rest_;
  OggVorbis_File file_{};
  bool open_ = false;
};

}  // namespace

AudioReaderResult open_vorbis(std::span<const uint8_t> file) {
  auto reader = std::make_unique<VorbisReader>(file);
  CARAT_TRY_VOID(reader->open());
  return std::unique_ptr<AudioReader>(std::move(reader));
}

}  // namespace carat

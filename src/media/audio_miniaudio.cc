#include <miniaudio.h>

#include <array>
#include <cstring>
#include <vector>

#include "base/str.h"
#include "media/audio_readers.h"

namespace carat {
namespace {

// In the file's own format, so that the conversion to floats is ours: exact, and libsndfile's for 8 bits.
class MiniaudioReader : public AudioReader {
 public:
  ~MiniaudioReader() override {
    if (open_) ma_decoder_uninit(&decoder_);
  }

  Result<void> open(std::span<const uint8_t> file, ma_encoding_format encoding, std::string_view name) {
    auto config = ma_decoder_config_init(ma_format_unknown, 0, 0);
    config.encodingFormat = encoding;
    if (const auto rc = ma_decoder_init_memory(file.data(), file.size(), &config, &decoder_); rc != MA_SUCCESS)
      return broken_audio(str_cat("it cannot be read as ", name, " (", ma_result_description(rc), ")"));
    open_ = true;
    rate_ = static_cast<int>(decoder_.outputSampleRate);
    channels_ = static_cast<int>(decoder_.outputChannels);
    return {};
  }

  Result<int64_t> read(std::span<float> out) override {
    const size_t num_channels = decoder_.outputChannels;
    const ma_uint64 wanted = out.size() / num_channels;
    const size_t sample_bytes = ma_get_bytes_per_sample(decoder_.outputFormat);
    bytes_.resize(wanted * num_channels * sample_bytes);
    ma_uint64 got = 0;
    const auto rc = ma_decoder_read_pcm_frames(&decoder_, bytes_.data(), wanted, &got);
    if (rc != MA_SUCCESS && rc != MA_AT_END)
      return broken_audio(str_cat("its samples cannot be read (", ma_result_description(rc), ")"));
    convert(out.first(got * num_channels));
    return static_cast<int64_t>(got);
  }

 private:
  void convert(std::span<float> out) const {
    const uint8_t* in = bytes_.data();
    switch (decoder_.outputFormat) {
      case ma_format_u8:
        for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(in[i] - 128) / 128;
        return;
      case ma_format_s16:
        for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(load<int16_t>(in + 2 * i)) / 32768;
        return;
      case ma_format_s24:
        for (size_t i = 0; i < out.size(); ++i) {
          const uint32_t upper =
              uint32_t{in[3 * i]} << 8 | uint32_t{in[3 * i + 1]} << 16 | uint32_t{in[3 * i + 2]} << 24;
          out[i] = static_cast<float>(static_cast<int32_t>(upper) >> 8) / 8388608;
        }
        return;
      case ma_format_s32:
        for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(load<int32_t>(in + 4 * i)) / 2147483648.f;
        return;
      default:
        std::memcpy(out.data(), in, out.size_bytes());
    }
  }
  template <class T>
  static T load(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }

  ma_decoder decoder_;
  bool open_ = false;
  std::vector<uint8_t> bytes_;
};

AudioReaderResult open(std::span<const uint8_t> file, ma_encoding_format encoding, std::string_view name) {
  auto reader = std::make_unique<MiniaudioReader>();
  CARAT_TRY_VOID(reader->open(file, encoding, name));
  return std::unique_ptr<AudioReader>(std::move(reader));
}

}  // namespace

AudioReaderResult open_wav(std::span<const uint8_t> file) { return open(file, ma_encoding_format_wav, "WAV"); }
AudioReaderResult open_flac(std::span<const uint8_t> file) { return open(file, ma_encoding_format_flac, "FLAC"); }
AudioReaderResult open_mp3(std::span<const uint8_t> file) { return open(file, ma_encoding_format_mp3, "MP3"); }

}  // namespace carat

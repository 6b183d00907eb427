#pragma once
// FFmpeg's libraries, opened at run time, and one file being read with them. Private to media/. Nothing of FFmpeg is
// needed to build: its functions are looked up by name, and of its structures only the members below are touched, whose
// places are fixed within a major version of a library.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "media/bytes.h"
#include "media/limits.h"

namespace carat {
namespace ffmpeg {

struct Rational {
  int num, den;
};

// ---- members that lie at the same place in all versions ----

struct CodecParameters;
struct Stream;
struct CodecContext;
struct Codec;
struct Dictionary;
struct Scaler;

struct FormatContext {
  const void* av_class;
  const void* iformat;
  const void* oformat;
  void* priv_data;
  void* pb;
  int ctx_flags;
  unsigned nb_streams;
  Stream** streams;
};

struct IoContext {
  const void* av_class;
  unsigned char* buffer;
};

struct Packet {
  void* buf;
  int64_t pts, dts;
  uint8_t* data;
  int size, stream_index, flags;
  void* side_data;
  int side_data_elems;
  int64_t duration;
};

struct Frame {
  uint8_t* data[8];
  int linesize[8];
  uint8_t** extended_data;
  int width, height, nb_samples, format;
  int unused[4];  // differ between versions
  int64_t pts, pkt_dts;
};

struct ChannelLayout {
  int order, nb_channels;
  uint64_t mask;
  void* opaque;
};

struct SideData {  // of a packet
  uint8_t* data;
  size_t size;
  int type;
};

constexpr int64_t kNoPts = INT64_MIN;
constexpr int kMediaVideo = 0, kMediaAudio = 1;
constexpr int kFlagKey = 1, kFlagDiscard = 4;
constexpr int kSideDataDisplayMatrix = 5;
constexpr int kSeekBackward = 1;
constexpr int kPixelFormatRgb24 = 2;
constexpr int kScaleBilinear = 2;
constexpr int error_tag(unsigned a, unsigned b, unsigned c, unsigned d) {
  return -static_cast<int>(a | b << 8 | c << 16 | d << 24);
}
constexpr int kErrorEof = error_tag('E', 'O', 'F', ' ');
constexpr int kErrorExit = error_tag('E', 'X', 'I', 'T');
constexpr int kErrorNoStream = error_tag(0xf8, 'S', 'T', 'R');
constexpr int kErrorNoDecoder = error_tag(0xf8, 'D', 'E', 'C');

// ---- functions: name, result, parameters ----

#define CARAT_FFMPEG_AVUTIL(F)                                       \
  F(av_log_set_level, void, (int))                                   \
  F(av_malloc, void*, (size_t))                                      \
  F(av_freep, void, (void*))                                         \
  F(av_strerror, int, (int, char*, size_t))                          \
  F(av_opt_set, int, (void*, const char*, const char*, int))         \
  F(av_opt_set_int, int, (void*, const char*, int64_t, int))         \
  F(av_opt_get_int, int, (void*, const char*, int, int64_t*))        \
  F(av_dict_set, int, (Dictionary**, const char*, const char*, int)) \
  F(av_dict_free, void, (Dictionary**))                              \
  F(av_frame_alloc, Frame*, ())                                      \
  F(av_frame_free, void, (Frame**))                                  \
  F(av_get_bytes_per_sample, int, (int))                             \
  F(av_sample_fmt_is_planar, int, (int))
#define CARAT_FFMPEG_AVCODEC(F)                                                  \
  F(avcodec_alloc_context3, CodecContext*, (const Codec*))                       \
  F(avcodec_free_context, void, (CodecContext**))                                \
  F(avcodec_parameters_to_context, int, (CodecContext*, const CodecParameters*)) \
  F(avcodec_open2, int, (CodecContext*, const Codec*, Dictionary**))             \
  F(avcodec_send_packet, int, (CodecContext*, const Packet*))                    \
  F(avcodec_receive_frame, int, (CodecContext*, Frame*))                         \
  F(avcodec_flush_buffers, void, (CodecContext*))                                \
  F(av_packet_alloc, Packet*, ())                                                \
  F(av_packet_free, void, (Packet**))                                            \
  F(av_packet_unref, void, (Packet*))
#define CARAT_FFMPEG_AVFORMAT(F)                                                                    \
  F(avformat_version, unsigned, ())                                                                 \
  F(avformat_alloc_context, FormatContext*, ())                                                     \
  F(avformat_open_input, int, (FormatContext**, const char*, const void*, Dictionary**))            \
  F(avformat_close_input, void, (FormatContext**))                                                  \
  F(avformat_find_stream_info, int, (FormatContext*, Dictionary**))                                 \
  F(av_find_best_stream, int, (FormatContext*, int, int, int, const Codec**, int))                  \
  F(av_read_frame, int, (FormatContext*, Packet*))                                                  \
  F(av_seek_frame, int, (FormatContext*, int, int64_t, int))                                        \
  F(av_guess_frame_rate, Rational, (FormatContext*, Stream*, Frame*))                               \
  F(avio_alloc_context, IoContext*,                                                                 \
    (unsigned char*, int, int, void*, int (*)(void*, uint8_t*, int), int (*)(void*, uint8_t*, int), \
     int64_t (*)(void*, int64_t, int)))                                                             \
  F(avio_context_free, void, (IoContext**))
#define CARAT_FFMPEG_SWSCALE(F)                                                                \
  F(sws_getContext, Scaler*, (int, int, int, int, int, int, int, void*, void*, const double*)) \
  F(sws_freeContext, void, (Scaler*))                                                          \
  F(sws_getCoefficients, const int*, (int))                                                    \
  F(sws_getColorspaceDetails, int, (Scaler*, int**, int*, int**, int*, int*, int*, int*))      \
  F(sws_setColorspaceDetails, int, (Scaler*, const int*, int, const int*, int, int, int, int)) \
  F(sws_scale, int, (Scaler*, const uint8_t* const*, const int*, int, int, uint8_t* const*, const int*))

/// The functions, and where members lie that moved between versions. One for the process, never closed.
class Library {
 public:
  /// Opens the libraries at the first call; what went wrong then is said at each call. Any thread.
  /// Errors: kUnsupported, with advice on what to install.
  static Result<const Library*> get();
  /// Of the major versions 58 to 62 of libavformat, from `folder` or, if that is empty, from where the system keeps
  /// libraries. For tests; others want get().
  static Result<Library> open(const std::string& folder);

#define CARAT_FFMPEG_DECLARE(name, result, parameters) result(*name) parameters = nullptr;
  CARAT_FFMPEG_AVUTIL(CARAT_FFMPEG_DECLARE)
  CARAT_FFMPEG_AVCODEC(CARAT_FFMPEG_DECLARE)
  CARAT_FFMPEG_AVFORMAT(CARAT_FFMPEG_DECLARE)
  CARAT_FFMPEG_SWSCALE(CARAT_FFMPEG_DECLARE)
#undef CARAT_FFMPEG_DECLARE
  // Not in all versions: null then.
  int (*av_opt_get_chlayout)(void*, const char*, int, ChannelLayout*) = nullptr;
  void (*av_channel_layout_uninit)(ChannelLayout*) = nullptr;
  uint8_t* (*av_stream_get_side_data)(const Stream*, int, void*) = nullptr;

  Rational time_base(const Stream* stream) const { return at<Rational>(stream, layout_.stream_time_base); }
  const CodecParameters* parameters(const Stream* stream) const {
    return at<const CodecParameters*>(stream, layout_.stream_codecpar);
  }
  int width(const CodecParameters* p) const { return at<int>(p, layout_.par_width); }
  int height(const CodecParameters* p) const { return at<int>(p, layout_.par_width + 4); }
  /// Nine numbers, or null: how the file wants its pictures shown.
  const int32_t* display_matrix(const Stream* stream) const;
  /// The whole number in an option of a context; 0 if there is none of that name.
  int64_t option(CodecContext* context, const char* name) const;
  int channels(CodecContext* context) const;
  std::string error_text(int code) const;

 private:
  struct Layout {
    int major;  // of libavformat
    int avcodec, avutil, swscale;
    size_t stream_time_base, stream_codecpar, par_width;
    size_t par_side_data;  // 0: av_stream_get_side_data has it
  };
  static const std::array<Layout, 5> kLayouts;
  template <class T>
  static T at(const void* object, size_t offset) {
    T value;
    __builtin_memcpy(&value, static_cast<const char*>(object) + offset, sizeof value);
    return value;
  }
  Result<void> load(const Layout& layout, const std::string& folder);

  Layout layout_{};
};

}  // namespace ffmpeg

/// A file and its best stream of one kind, read from memory by FFmpeg: only containers and decoders that we name, no
/// other file or address that it may point to. One thread at a time. `file` and `limits` outlive it.
class FfmpegInput {
 public:
  /// `media` is ffmpeg::kMediaVideo or kMediaAudio; `kind` ("video", "sound") is for messages.
  /// Errors: kUnsupported (no FFmpeg, unknown container or codec), kInvalidArgument (broken, no such stream in it),
  /// kTooLarge (streams, pixels), kUnavailable once the deadline is over.
  static Result<std::unique_ptr<FfmpegInput>> open(Bytes file, int media, std::string_view kind,
                                                   const MediaLimits& limits);
  ~FfmpegInput();

  const ffmpeg::Library& library() const { return av_; }
  ffmpeg::FormatContext* format() const { return format_; }
  ffmpeg::Stream* stream() const { return format_->streams[stream_index_]; }
  ffmpeg::CodecContext* decoder() const { return decoder_; }

  /// The stream's next packet, or null at the end; it is gone at the next call.
  Result<const ffmpeg::Packet*> read_packet();
  /// Gives `packet` (null: the end of all) to the decoder. A broken packet is passed over, as players do.
  void send(const ffmpeg::Packet* packet);
  /// The decoder's next frame, or null if it wants packets first; it is gone at the next call.
  const ffmpeg::Frame* receive();
  /// To the last key frame at or before `pts`. False: this file cannot do that.
  bool seek(int64_t pts);

 private:
  FfmpegInput(const ffmpeg::Library& av, Bytes file, std::string_view kind, const MediaLimits& limits)
      : av_(av), file_(file), kind_(kind), limits_(limits) {}
  Result<void> open_container();
  Result<void> open_decoder(int media);
  Error error_of(int code, std::string_view what) const;
  static int read_bytes(void* self, uint8_t* out, int size);
  static int64_t seek_bytes(void* self, int64_t offset, int whence);

  const ffmpeg::Library& av_;
  const Bytes file_;
  const std::string kind_;
  const MediaLimits& limits_;
  size_t position_ = 0;
  ffmpeg::IoContext* io_ = nullptr;
  ffmpeg::FormatContext* format_ = nullptr;
  ffmpeg::CodecContext* decoder_ = nullptr;
  ffmpeg::Packet* packet_ = nullptr;
  ffmpeg::Frame* frame_ = nullptr;
  int stream_index_ = 0;
};

}  // namespace carat

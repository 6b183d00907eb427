#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/str.h"
#include "media/ffmpeg.h"

namespace carat {
namespace {

using namespace ffmpeg;

// What the web and phones make. The rest of FFmpeg's readers, among them those that open other files and addresses, and
// its hundreds of rare decoders stay shut.
constexpr const char* kContainers = "mov,matroska,webm,gif,ogg,avi,aac,mpegts,flv";
constexpr const char* kDecoders =
    "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,av1,libdav1d,libaom-av1,mpeg4,mpeg2video,mjpeg,png,gif,theora,prores,"
    "aac,opus,libopus,vorbis,libvorbis,mp3,mp3float,flac,alac,ac3,eac3,"
    "pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_alaw,pcm_mulaw";
constexpr int kIoBufferBytes = 64 << 10;

}  // namespace

Result<std::unique_ptr<FfmpegInput>> FfmpegInput::open(Bytes file, int media, std::string_view kind,
                                                       const MediaLimits& limits) {
  const auto library = Library::get();
  if (!library) return Error{library.error().code, str_cat("the ", kind, " cannot be read: ", library.error().message)};
  std::unique_ptr<FfmpegInput> input(new FfmpegInput(**library, file, kind, limits));
  CARAT_TRY_VOID(input->open_container());
  CARAT_TRY_VOID(input->open_decoder(media));
  return input;
}

FfmpegInput::~FfmpegInput() {
  if (frame_ != nullptr) av_.av_frame_free(&frame_);
  if (packet_ != nullptr) av_.av_packet_free(&packet_);
  if (decoder_ != nullptr) av_.avcodec_free_context(&decoder_);
  if (format_ != nullptr) av_.avformat_close_input(&format_);
  if (io_ != nullptr) {
    av_.av_freep(&io_->buffer);
    av_.avio_context_free(&io_);
  }
}

Error FfmpegInput::error_of(int code, std::string_view what) const {
  if (code == kErrorExit)
    if (auto late = check_deadline(limits_, kind_); !late) return std::move(late).error();
  if (code == -ENOMEM)  // also FFmpeg's answer to the stream that is one too many
    return {Errc::kTooLarge, str_cat("the ", kind_, " has more than ", limits_.max_streams,
                                     " streams, the most that are allowed, or needs too much memory")};
  return {Errc::kInvalidArgument, str_cat("the ", kind_, " is broken: ", what, " (", av_.error_text(code), ")")};
}

Result<void> FfmpegInput::open_container() {
  packet_ = av_.av_packet_alloc();
  frame_ = av_.av_frame_alloc();
  format_ = av_.avformat_alloc_context();
  auto* const buffer = static_cast<unsigned char*>(av_.av_malloc(kIoBufferBytes));
  if (buffer != nullptr) io_ = av_.avio_alloc_context(buffer, kIoBufferBytes, 0, this, read_bytes, nullptr, seek_bytes);
  if (packet_ == nullptr || frame_ == nullptr || format_ == nullptr || io_ == nullptr)
    return Error{Errc::kInternal, "FFmpeg has no memory"};
  format_->pb = io_;
  av_.av_opt_set(format_, "format_whitelist", kContainers, 0);
  av_.av_opt_set(format_, "codec_whitelist", kDecoders, 0);
  av_.av_opt_set(format_, "protocol_whitelist", "", 0);
  av_.av_opt_set_int(format_, "max_streams", limits_.max_streams, 0);
  if (const int rc = av_.avformat_open_input(&format_, "", nullptr, nullptr); rc < 0) {
    if (rc == kErrorExit || rc == -ENOMEM) return error_of(rc, "");
    return Error{Errc::kUnsupported,
                 str_cat("the ", kind_, " is in no known container, or broken (", av_.error_text(rc),
                         "); allowed are MP4, MOV, WebM, Matroska, AVI, GIF, Ogg, AAC, MPEG-TS and FLV")};
  }
  // It decodes some frames to find out what they are, under the limits of the real decoder.
  std::vector<Dictionary*> options(format_->nb_streams + 1, nullptr);
  for (auto& option : options) {
    av_.av_dict_set(&option, "max_pixels", str_cat(limits_.max_video_pixels).c_str(), 0);
    av_.av_dict_set(&option, "threads", "1", 0);
  }
  const size_t num_options = options.size();
  const int rc = av_.avformat_find_stream_info(format_, options.data());
  for (size_t i = 0; i < num_options; ++i) av_.av_dict_free(&options[i]);
  if (rc < 0) return error_of(rc, "its streams cannot be read");
  return {};
}

Result<void> FfmpegInput::open_decoder(int media) {
  const Codec* codec = nullptr;
  stream_index_ = av_.av_find_best_stream(format_, media, -1, -1, &codec, 0);
  if (stream_index_ == kErrorNoDecoder || (stream_index_ >= 0 && codec == nullptr))
    return Error{Errc::kUnsupported, str_cat("the ", kind_, " has a codec that the installed FFmpeg cannot decode")};
  if (stream_index_ < 0) return Error{Errc::kInvalidArgument, str_cat("the file has no ", kind_, " in it")};
  const auto* const parameters = av_.parameters(stream());
  if (media == kMediaVideo) {
    CARAT_TRY_VOID(check_picture_size(limits_, limits_.max_video_pixels, av_.width(parameters), av_.height(parameters),
                                      str_cat("the ", kind_, " has frames of")));
  }
  decoder_ = av_.avcodec_alloc_context3(codec);
  if (decoder_ == nullptr) return Error{Errc::kInternal, "FFmpeg has no memory"};
  if (const int rc = av_.avcodec_parameters_to_context(decoder_, parameters); rc < 0)
    return error_of(rc, "its codec's parameters cannot be read");
  av_.av_opt_set(decoder_, "codec_whitelist", kDecoders, 0);
  av_.av_opt_set_int(decoder_, "max_pixels", limits_.max_video_pixels, 0);
  av_.av_opt_set_int(decoder_, "threads", 1, 0);  // many requests at once are our parallelism
  if (const int rc = av_.avcodec_open2(decoder_, codec, nullptr); rc < 0)
    return Error{Errc::kUnsupported,
                 str_cat("the ", kind_, " has a codec that is not allowed or cannot be opened (", av_.error_text(rc),
                         "); usual ones like H.264, HEVC, VP8, VP9, AV1, AAC and Opus are")};
  return {};
}

Result<const Packet*> FfmpegInput::read_packet() {
  for (;;) {
    CARAT_TRY_VOID(check_deadline(limits_, kind_));
    av_.av_packet_unref(packet_);
    const int rc = av_.av_read_frame(format_, packet_);
    if (rc == -EAGAIN) continue;
    if (rc == kErrorExit) return error_of(rc, "");
    if (rc < 0) return nullptr;  // what a damaged end still holds is as good as its end
    if (packet_->stream_index == stream_index_) return packet_;
  }
}

void FfmpegInput::send(const Packet* packet) { av_.avcodec_send_packet(decoder_, packet); }

const Frame* FfmpegInput::receive() { return av_.avcodec_receive_frame(decoder_, frame_) < 0 ? nullptr : frame_; }

bool FfmpegInput::seek(int64_t pts) {
  if (av_.av_seek_frame(format_, stream_index_, pts, kSeekBackward) < 0) return false;
  av_.avcodec_flush_buffers(decoder_);
  return true;
}

int FfmpegInput::read_bytes(void* self, uint8_t* out, int size) {
  auto& input = *static_cast<FfmpegInput*>(self);
  if (!check_deadline(input.limits_, input.kind_)) return kErrorExit;
  const size_t n = std::min(static_cast<size_t>(size), input.file_.size() - input.position_);
  if (n == 0) return kErrorEof;
  std::memcpy(out, input.file_.data() + input.position_, n);
  input.position_ += n;
  return static_cast<int>(n);
}

int64_t FfmpegInput::seek_bytes(void* self, int64_t offset, int whence) {
  auto& input = *static_cast<FfmpegInput*>(self);
  const auto size = static_cast<int64_t>(input.file_.size());
  constexpr int kAskSize = 0x10000, kForce = 0x20000;
  whence &= ~kForce;
  if (whence == kAskSize) return size;
  const int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? static_cast<int64_t>(input.position_) : size;
  if (whence > SEEK_END || offset < -from || offset > size - from) return -EINVAL;
  input.position_ = static_cast<size_t>(from + offset);
  return from + offset;
}

}  // namespace carat

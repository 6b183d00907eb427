#include "media/video.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/str.h"
#include "media/ffmpeg.h"
#include "media/image_codecs.h"

namespace carat {
namespace {

using namespace ffmpeg;

// The frames of a file by time, found by reading its packets without decoding them.
struct Timeline {
  std::vector<int64_t> pts;   // ascending
  std::vector<int64_t> keys;  // of key frames, ascending
  bool timed = true;          // false: packets have no time stamps, and frames are told by counting
  double fps = 0;
};

int64_t time_of(const Packet& packet) { return packet.pts != kNoPts ? packet.pts : packet.dts; }
int64_t time_of(const Frame& frame) { return frame.pts != kNoPts ? frame.pts : frame.pkt_dts; }

double frame_rate(FfmpegInput& input, const Timeline& timeline, int64_t end) {
  const auto base = input.library().time_base(input.stream());
  if (timeline.timed && base.num > 0 && base.den > 0) {
    const double seconds = static_cast<double>(end - timeline.pts[0]) * base.num / base.den;
    if (seconds > 0) return static_cast<double>(timeline.pts.size()) / seconds;
  }
  const auto guess = input.library().av_guess_frame_rate(input.format(), input.stream(), nullptr);
  constexpr double kUnknown = 24;
  return guess.num > 0 && guess.den > 0 ? static_cast<double>(guess.num) / guess.den : kUnknown;
}

Result<Timeline> scan(Bytes file, const MediaLimits& limits) {
  CARAT_TRY(const auto input, FfmpegInput::open(file, kMediaVideo, "video", limits));
  Timeline out;
  int64_t end = INT64_MIN;
  for (;;) {
    CARAT_TRY(const auto* const packet, input->read_packet());
    if (packet == nullptr) break;
    if ((packet->flags & kFlagDiscard) != 0) continue;
    if (static_cast<int64_t>(out.pts.size()) == limits.max_video_frames)
      return Error{Errc::kTooLarge,
                   str_cat("the video has more than ", limits.max_video_frames, " frames, the most that are allowed")};
    const int64_t pts = time_of(*packet);
    if (pts == kNoPts) out.timed = false;
    out.pts.push_back(pts);
    if ((packet->flags & kFlagKey) != 0) out.keys.push_back(pts);
    // Times from outside: the sum may not overflow.
    end = std::max(end, packet->duration > 0 && pts < INT64_MAX - packet->duration ? pts + packet->duration : pts);
  }
  if (out.pts.empty()) return Error{Errc::kInvalidArgument, "the video is broken: it has no frames"};
  std::sort(out.pts.begin(), out.pts.end());
  std::sort(out.keys.begin(), out.keys.end());
  out.timed = out.timed && out.pts.back() < INT64_MAX / 2 && out.pts.front() > INT64_MIN / 2;
  out.fps = frame_rate(*input, out, end);
  return out;
}

// The EXIF orientation that turns a picture like the matrix, to the next quarter. Source: the layout of the matrix in
// FFmpeg's libavutil/display.h; mirrored ones are turned only, as by the reference.
int orientation_of(const int32_t* matrix) {
  if (matrix == nullptr) return 1;
  const double a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
  const double scale_0 = std::hypot(a, c), scale_1 = std::hypot(b, d);
  if (scale_0 == 0 || scale_1 == 0) return 1;
  const double angle = -std::atan2(b / scale_1, a / scale_0) * 180 / M_PI;
  constexpr int kOrientations[4] = {1, 8, 3, 6};  // by quarters to the left
  return kOrientations[(std::lround(angle / 90) % 4 + 4) % 4];
}

/// Frames of one size to upright RGB.
class Converter {
 public:
  explicit Converter(FfmpegInput& input)
      : av_(input.library()), input_(input), orientation_(orientation_of(av_.display_matrix(input.stream()))) {}
  ~Converter() {
    if (scaler_ != nullptr) av_.sws_freeContext(scaler_);
  }
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;

  Result<Image> convert(const Frame& frame) {
    CARAT_TRY_VOID(prepare(frame));
    uint8_t* const planes[4] = {padded_.data(), nullptr, nullptr, nullptr};
    const int strides[4] = {stride_, 0, 0, 0};
    if (av_.sws_scale(scaler_, frame.data, frame.linesize, 0, height_, planes, strides) != height_)
      return Error{Errc::kInvalidArgument, "the video is broken: a frame cannot be converted to RGB"};
    Image image{.width = width_, .height = height_, .pixels = {}};
    image.pixels.resize(static_cast<size_t>(width_) * static_cast<size_t>(height_) * 3);
    for (int y = 0; y < height_; ++y)
      std::memcpy(&image.pixels[int64_t{y} * width_ * 3], &padded_[int64_t{y} * stride_],
                  static_cast<size_t>(width_) * 3);
    return image_codecs::turn(std::move(image), orientation_);
  }

 private:
  Result<void> prepare(const Frame& frame) {
    if (scaler_ != nullptr) {
      if (frame.width == width_ && frame.height == height_ && frame.format == format_) return {};
      return Error{Errc::kUnsupported, str_cat("the video changes its form from ", width_, " x ", height_, " to ",
                                               frame.width, " x ", frame.height, " pixels")};
    }
    width_ = frame.width, height_ = frame.height, format_ = frame.format;
    // The reference takes another way, with another filter, where swscale's fast code would write past the row.
    constexpr int kFastWidth = 32;
    const int flags = width_ % kFastWidth == 0 ? 0 : kScaleBilinear;
    scaler_ = av_.sws_getContext(width_, height_, format_, width_, height_, kPixelFormatRgb24, flags, nullptr, nullptr,
                                 nullptr);
    if (scaler_ == nullptr)
      return Error{Errc::kUnsupported, "the video's pixels are of a kind that cannot be converted"};
    set_colors();
    stride_ = (width_ * 3 + 63) / 64 * 64;
    padded_.resize(static_cast<size_t>(stride_) * static_cast<size_t>(height_) + 64);
    return {};
  }

  // The matrix and range that the stream names.
  void set_colors() {
    int *table_in = nullptr, *table_out = nullptr;
    int range_in = 0, range_out = 0, brightness = 0, contrast = 0, saturation = 0;
    if (av_.sws_getColorspaceDetails(scaler_, &table_in, &range_in, &table_out, &range_out, &brightness, &contrast,
                                     &saturation) < 0)
      return;
    constexpr int64_t kFull = 2;
    if (const auto range = av_.option(input_.decoder(), "color_range"); range != 0) range_in = range == kFull;
    const int* const table = av_.sws_getCoefficients(static_cast<int>(av_.option(input_.decoder(), "colorspace")));
    av_.sws_setColorspaceDetails(scaler_, table, range_in, table, range_out, brightness, contrast, saturation);
  }

  const Library& av_;
  FfmpegInput& input_;
  const int orientation_;
  Scaler* scaler_ = nullptr;
  int width_ = 0, height_ = 0, format_ = 0, stride_ = 0;
  std::vector<uint8_t> padded_;  // rows may be written beyond their end
};

/// Decodes forward, jumping over what nobody wants.
class FrameReader {
 public:
  FrameReader(FfmpegInput& input, const Timeline& timeline, const std::vector<int64_t>& wanted)
      : input_(input), timeline_(timeline), wanted_(wanted), position_(timeline.pts.front()) {}

  /// The frame with this index; indices ascend from call to call. Valid until the next call.
  Result<const Frame*> read(int64_t index) {
    if (timeline_.timed) jump_towards(timeline_.pts[static_cast<size_t>(index)]);
    for (;;) {
      while (const auto* const frame = input_.receive()) {
        const int64_t at = timeline_.timed ? time_of(*frame) : count_++;
        position_ = at;
        if (at >= (timeline_.timed ? timeline_.pts[static_cast<size_t>(index)] : index)) return frame;
      }
      if (ended_)
        return Error{Errc::kInvalidArgument, str_cat("the video is broken: frame ", index, " cannot be decoded")};
      CARAT_TRY(const auto* const packet, input_.read_packet());
      ended_ = packet == nullptr;
      if (packet != nullptr) skip_or_decode(time_of(*packet));
      input_.send(packet);
    }
  }

 private:
  void jump_towards(int64_t pts) {
    const auto after = std::upper_bound(timeline_.keys.begin(), timeline_.keys.end(), pts);
    if (after == timeline_.keys.begin()) return;
    const int64_t key = *(after - 1);
    if (key > position_ && !ended_ && can_seek_) can_seek_ = input_.seek(key);
  }

  // Frames that no other depends on need not be decoded unless they are wanted.
  void skip_or_decode(int64_t pts) {
    if (!timeline_.timed) return;
    constexpr int64_t kDefault = 0, kNonReference = 8;
    const int64_t skip = std::binary_search(wanted_.begin(), wanted_.end(), pts) ? kDefault : kNonReference;
    if (skip == std::exchange(skip_, skip)) return;
    input_.library().av_opt_set_int(input_.decoder(), "skip_frame", skip, 0);
  }

  FfmpegInput& input_;
  const Timeline& timeline_;
  const std::vector<int64_t>& wanted_;  // time stamps, ascending
  int64_t position_;                    // time stamp of the last frame that came out
  int64_t count_ = 0, skip_ = 0;
  bool ended_ = false, can_seek_ = true;
};

}  // namespace

Result<VideoInfo> decode_video(std::span<const uint8_t> file, int num_frames, const MediaLimits& limits,
                               const FrameSink& on_frame) {
  CARAT_CHECK(num_frames >= 1, "at least one frame is asked for");
  CARAT_TRY_VOID(check_encoded_size(limits, file.size(), "video"));
  CARAT_TRY_VOID(check_deadline(limits, "video"));
  CARAT_TRY(const auto timeline, scan(file, limits));
  CARAT_TRY(const auto input, FfmpegInput::open(file, kMediaVideo, "video", limits));
  const auto total = static_cast<int64_t>(timeline.pts.size());
  const int64_t count = std::min<int64_t>(num_frames, total);
  std::vector<int64_t> wanted;
  for (int64_t i = 0; i < count; ++i) wanted.push_back(timeline.pts[static_cast<size_t>(i * total / count)]);
  Converter converter(*input);
  FrameReader reader(*input, timeline, wanted);
  for (int64_t i = 0; i < count; ++i) {
    VideoFrame out{
        .index = i * total / count, .seconds = static_cast<double>(i * total / count) / timeline.fps, .image = {}};
    CARAT_TRY(const auto* const frame, reader.read(out.index));
    CARAT_TRY(out.image, converter.convert(*frame));
    CARAT_TRY_VOID(on_frame(std::move(out)));
  }
  return VideoInfo{.num_frames = total, .fps = timeline.fps};
}

}  // namespace carat

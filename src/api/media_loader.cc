#include "api/media_loader.h"

#include <algorithm>

#include "base/str.h"
#include "media/audio.h"
#include "media/image.h"
#include "media/video.h"

namespace carat {
namespace {

bool has_all(const MediaTokenIds& tokens, MediaKind kind) {
  if (kind == MediaKind::kAudio) return tokens.audio && tokens.boa && tokens.eoa;
  return (kind == MediaKind::kImage ? tokens.image : tokens.video) && tokens.boi && tokens.eoi;
}

/// "Image", to begin a message with.
std::string_view capital_name(MediaKind kind) {
  return kind == MediaKind::kImage ? "Image" : kind == MediaKind::kAudio ? "Audio" : "Video";
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

PictureView view_of(const Image& image) { return {image.width, image.height, image.pixels}; }

}  // namespace

MediaLoader::MediaLoader(const ModelConfig& config, const MediaOptions& options, const MediaMetrics& metrics)
    : options_(options), metrics_(metrics) {
  if (config.vision) {
    const auto form = [&](int budget) {
      return PictureForm{config.vision->patch_size(), VisionConfig::kTokenSize, budget};
    };
    if (has_all(config.media, MediaKind::kImage)) image_ = form(config.vision->image_soft_tokens);
    if (has_all(config.media, MediaKind::kVideo)) frame_ = form(config.vision->frame_soft_tokens);
    video_frames_ = config.vision->video_frames;
  }
  if (config.audio && has_all(config.media, MediaKind::kAudio))
    audio_ = std::holds_alternative<RawAudioConfig>(*config.audio) ? AudioForm::kRawFrames : AudioForm::kLogMel;
}

Result<void> MediaLoader::check(std::span<const PlacedMedium> media) const {
  struct Rule {
    MediaKind kind;
    bool taken;
    std::optional<int> most;
  };
  for (const Rule& rule :
       {Rule{MediaKind::kImage, sees(), options_.max_images}, Rule{MediaKind::kAudio, hears(), options_.max_audios},
        Rule{MediaKind::kVideo, frame_.has_value(), options_.max_videos}}) {
    const auto count = static_cast<int>(std::count_if(
        media.begin(), media.end(), [&](const PlacedMedium& medium) { return medium.part.kind == rule.kind; }));
    if (count == 0) continue;
    if (!rule.taken)
      return Error{Errc::kInvalidArgument, str_cat("This model takes no ", to_string(rule.kind), " input here.")};
    if (rule.most && count > *rule.most)
      return Error{Errc::kInvalidArgument,
                   str_cat(capital_name(rule.kind), " count ", count, " exceeds limit ", *rule.most, " per request.")};
  }
  if (media.size() > static_cast<size_t>(kMaxMediaPerPrompt))
    return Error{Errc::kInvalidArgument,
                 str_cat("The prompt has ", media.size(), " media, over the limit of ", kMaxMediaPerPrompt, ".")};
  return {};
}

bool MediaLoader::is_remote(const MediaPart& part) {
  const std::string_view head = std::string_view(*part.source).substr(0, 64);
  if (equals_ignore_case_ascii(trim(head).substr(0, 5), "data:")) return false;
  // Base64 has no colon. A path may be taken for base64, but then it is read here or refused at once.
  return head.find("://") != std::string_view::npos;
}

Result<LoadedMedium> MediaLoader::load(const MediaPart& part, const std::function<bool()>& stopped) const {
  const MediaMetrics::Kind& metrics = metrics_.kinds[static_cast<size_t>(part.kind)];
  const auto begin = std::chrono::steady_clock::now();
  auto loaded = load_uncounted(part, stopped);
  if (loaded && metrics.load_seconds) metrics.load_seconds->observe(seconds_since(begin));
  if (!loaded && loaded.error().code != Errc::kCancelled && metrics.failed) metrics.failed->add();
  return loaded;
}

Result<LoadedMedium> MediaLoader::load_uncounted(const MediaPart& part, const std::function<bool()>& stopped) const {
  const auto begin = std::chrono::steady_clock::now();
  const auto deadline = begin + options_.timeout;
  FetchOptions fetch = options_.fetch;
  fetch.deadline = deadline;
  fetch.stopped = stopped;
  MediaLimits limits = options_.limits;
  limits.deadline = deadline;
  limits.stopped = stopped;
  auto fetched = fetch_media(*part.source, fetch);
  Histogram* const fetch_seconds = metrics_.kinds[static_cast<size_t>(part.kind)].fetch_seconds;
  if (fetch_seconds && is_remote(part)) fetch_seconds->observe(seconds_since(begin));
  CARAT_TRY(const auto file, std::move(fetched));
  switch (part.kind) {
    case MediaKind::kImage:
      return load_image(file, limits);
    case MediaKind::kAudio:
      return load_audio(file, limits);
    case MediaKind::kVideo:
      break;
  }
  return load_video(file, limits);
}

Result<LoadedMedium> MediaLoader::load_image(std::span<const uint8_t> file, const MediaLimits& limits) const {
  CARAT_TRY(const Image image, decode_image(file, limits));
  return LoadedMedium{{make_image_input(view_of(image), *image_, EncoderInput::Kind::kImage)}};
}

Result<LoadedMedium> MediaLoader::load_audio(std::span<const uint8_t> file, const MediaLimits& limits) const {
  CARAT_TRY(const auto samples, decode_audio(file, limits));
  CARAT_TRY(auto input, make_audio_input(*audio_, samples));
  LoadedMedium out{{std::move(input)}};
  if (const auto size = static_cast<int64_t>(samples.size()); *audio_ == AudioForm::kLogMel && size > kMaxLogMelSamples)
    out.unheard_s = static_cast<double>(size - kMaxLogMelSamples) / kAudioSampleRate;
  return out;
}

Result<LoadedMedium> MediaLoader::load_video(std::span<const uint8_t> file, const MediaLimits& limits) const {
  LoadedMedium out;
  CARAT_TRY_VOID(decode_video(file, video_frames_, limits, [&](VideoFrame frame) -> Result<void> {
    out.inputs.push_back(make_image_input(view_of(frame.image), *frame_, EncoderInput::Kind::kVideoFrame));
    out.seconds.push_back(frame.seconds);
    return {};
  }));
  return out;
}

}  // namespace carat

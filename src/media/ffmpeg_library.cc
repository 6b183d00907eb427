#include <dlfcn.h>

#include "base/str.h"
#include "media/ffmpeg.h"

namespace carat::ffmpeg {

// FFmpeg 4, 5, 6, 7, 8. Source: the structures AVStream and AVCodecParameters in the public headers of these releases;
// video_test runs with each version that it finds.
const std::array<Library::Layout, 5> Library::kLayouts = {{
    {.major = 62,
     .avcodec = 62,
     .avutil = 60,
     .swscale = 9,
     .stream_time_base = 32,
     .stream_codecpar = 16,
     .par_width = 72,
     .par_side_data = 32},
    {.major = 61,
     .avcodec = 61,
     .avutil = 59,
     .swscale = 8,
     .stream_time_base = 32,
     .stream_codecpar = 16,
     .par_width = 72,
     .par_side_data = 32},
    {.major = 60,
     .avcodec = 60,
     .avutil = 58,
     .swscale = 7,
     .stream_time_base = 32,
     .stream_codecpar = 16,
     .par_width = 56,
     .par_side_data = 0},
    {.major = 59,
     .avcodec = 59,
     .avutil = 57,
     .swscale = 6,
     .stream_time_base = 16,
     .stream_codecpar = 208,
     .par_width = 56,
     .par_side_data = 0},
    {.major = 58,
     .avcodec = 58,
     .avutil = 56,
     .swscale = 5,
     .stream_time_base = 24,
     .stream_codecpar = 208,
     .par_width = 56,
     .par_side_data = 0},
}};

Result<const Library*> Library::get() {
  static const Result<Library> library = open("");
  if (!library) return library.error();
  return &*library;
}

Result<Library> Library::open(const std::string& folder) {
  for (const auto& layout : kLayouts) {
    Library library;
    if (library.load(layout, folder)) return library;
  }
  return Error{Errc::kUnsupported,
               "this needs FFmpeg's libraries (libavformat 58 to 62, libavcodec, libavutil and libswscale), which were "
               "not found; on Debian and Ubuntu `apt install ffmpeg` brings them, on Fedora `dnf install ffmpeg-free`"};
}

Result<void> Library::load(const Layout& layout, const std::string& folder) {
  const auto open_one = [&](std::string_view name, int version) -> Result<void*> {
    const auto file = str_cat(folder, folder.empty() ? "" : "/", "lib", name, ".so.", version);
    void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return Error{Errc::kUnsupported, ::dlerror()};
    return handle;
  };
  CARAT_TRY(void* const avutil, open_one("avutil", layout.avutil));
  CARAT_TRY(void* const avcodec, open_one("avcodec", layout.avcodec));
  CARAT_TRY(void* const avformat, open_one("avformat", layout.major));
  CARAT_TRY(void* const swscale, open_one("swscale", layout.swscale));
#define CARAT_FFMPEG_LOAD(library, function)                                    \
  function = reinterpret_cast<decltype(function)>(::dlsym(library, #function)); \
  if (function == nullptr) return Error{Errc::kUnsupported, str_cat(#library, " has no ", #function)};
#define CARAT_FFMPEG_LOAD_AVUTIL(name, result, parameters) CARAT_FFMPEG_LOAD(avutil, name)
#define CARAT_FFMPEG_LOAD_AVCODEC(name, result, parameters) CARAT_FFMPEG_LOAD(avcodec, name)
#define CARAT_FFMPEG_LOAD_AVFORMAT(name, result, parameters) CARAT_FFMPEG_LOAD(avformat, name)
#define CARAT_FFMPEG_LOAD_SWSCALE(name, result, parameters) CARAT_FFMPEG_LOAD(swscale, name)
  CARAT_FFMPEG_AVUTIL(CARAT_FFMPEG_LOAD_AVUTIL)
  CARAT_FFMPEG_AVCODEC(CARAT_FFMPEG_LOAD_AVCODEC)
  CARAT_FFMPEG_AVFORMAT(CARAT_FFMPEG_LOAD_AVFORMAT)
  CARAT_FFMPEG_SWSCALE(CARAT_FFMPEG_LOAD_SWSCALE)
  av_opt_get_chlayout = reinterpret_cast<decltype(av_opt_get_chlayout)>(::dlsym(avutil, "av_opt_get_chlayout"));
  av_channel_layout_uninit =
      reinterpret_cast<decltype(av_channel_layout_uninit)>(::dlsym(avutil, "av_channel_layout_uninit"));
  av_stream_get_side_data =
      reinterpret_cast<decltype(av_stream_get_side_data)>(::dlsym(avformat, "av_stream_get_side_data"));
  if (static_cast<int>(avformat_version() >> 16) != layout.major)
    return Error{Errc::kUnsupported, "libavformat is not the version that its name says"};
  layout_ = layout;
  constexpr int kQuiet = -8;
  av_log_set_level(kQuiet);
  return {};
}

const int32_t* Library::display_matrix(const Stream* stream) const {
  constexpr size_t kMatrixBytes = 9 * sizeof(int32_t);
  if (layout_.par_side_data != 0) {
    const auto* const par = parameters(stream);
    const auto* const all = at<const SideData*>(par, layout_.par_side_data);
    const int count = at<int>(par, layout_.par_side_data + 8);
    for (int i = 0; i < count; ++i)
      if (all[i].type == kSideDataDisplayMatrix && all[i].size >= kMatrixBytes)
        return reinterpret_cast<const int32_t*>(all[i].data);
    return nullptr;
  }
  if (av_stream_get_side_data == nullptr) return nullptr;
  size_t size = 0;  // an int in version 58: its lower half, and the upper stays 0
  const auto* const data = av_stream_get_side_data(stream, kSideDataDisplayMatrix, &size);
  return size >= kMatrixBytes ? reinterpret_cast<const int32_t*>(data) : nullptr;
}

int64_t Library::option(CodecContext* context, const char* name) const {
  int64_t value = 0;
  return av_opt_get_int(context, name, 0, &value) < 0 ? 0 : value;
}

int Library::channels(CodecContext* context) const {
  ChannelLayout layout{};
  // Before 5.1 there were only counts, which 7.0 took away.
  if (av_opt_get_chlayout != nullptr && av_opt_get_chlayout(context, "ch_layout", 0, &layout) >= 0) {
    const int count = layout.nb_channels;
    if (av_channel_layout_uninit != nullptr) av_channel_layout_uninit(&layout);
    if (count > 0) return count;
  }
  return static_cast<int>(option(context, "ac"));
}

std::string Library::error_text(int code) const {
  std::array<char, 128> text{};
  av_strerror(code, text.data(), text.size());
  return text.data();
}

}  // namespace carat::ffmpeg

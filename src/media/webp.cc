#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "base/str.h"
#include "media/image_codecs.h"

namespace carat::image_codecs {
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

struct Frame {
  WebPIterator it{};
  ~Frame() { WebPDemuxReleaseIterator(&it); }
};

}  // namespace

Result<ImageHeader> read_webp_header(Bytes file) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(file.data(), file.size(), &features) != VP8_STATUS_OK)
    return broken(ImageFormat::kWebp, "its header cannot be read");
  return ImageHeader{.format = ImageFormat::kWebp, .width = features.width, .height = features.height};
}

Result<Image> decode_webp(Bytes file, const MediaLimits&) {
  const WebPData data{file.data(), file.size()};
  const std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer(WebPDemux(&data));
  Frame first;
  if (!demuxer || !WebPDemuxGetFrame(demuxer.get(), 1, &first.it) || !first.it.complete)
    return broken(ImageFormat::kWebp, "it ends too early, or its chunks are out of order");
  const auto& it = first.it;
  CARAT_TRY(const auto header, read_webp_header(file));
  Image image = make_image(header.width, header.height);  // around a smaller first frame it stays black
  if (it.x_offset < 0 || it.y_offset < 0 || it.width > image.width - it.x_offset ||
      it.height > image.height - it.y_offset)
    return broken(ImageFormat::kWebp, "its first frame does not lie inside the image");
  const int64_t offset = (int64_t{it.y_offset} * image.width + it.x_offset) * 3;
  if (WebPDecodeRGBInto(it.fragment.bytes, it.fragment.size, image.pixels.data() + offset,
                        image.pixels.size() - static_cast<size_t>(offset), image.width * 3) == nullptr)
    return broken(ImageFormat::kWebp, "its pixels cannot be decoded");
  return image;
}

}  // namespace carat::image_codecs

// The data set "image" of sglang.bench_serving.

#include <algorithm>
#include <string_view>
#include <thread>

#include "base/str.h"
#include "base/task_pool.h"
#include "chat/render.h"
#include "client/bench_data.h"
#include "media/encode.h"
#include "media/image_input.h"
#include "tokenizer/tokenizer.h"

namespace carat {
namespace {

constexpr int kMaxSide = 16384;
constexpr int kJpegQuality = 85;
constexpr int kMarkers = 2;  // around an image's soft tokens

Result<PictureSize> parse_size(std::string_view text) {
  static constexpr std::pair<std::string_view, PictureSize> kNamed[] = {
      {"4k", {3840, 2160}}, {"1080p", {1920, 1080}}, {"720p", {1280, 720}}, {"360p", {640, 360}}};
  for (const auto& [name, size] : kNamed)
    if (text == name) return size;
  int64_t width = 0, height = 0;
  const size_t x = text.find('x');
  if (x != std::string_view::npos && parse_int(text.substr(0, x), height) && parse_int(text.substr(x + 1), width) &&
      std::min(width, height) >= 1 && std::max(width, height) <= kMaxSide)
    return PictureSize{static_cast<int>(width), static_cast<int>(height)};
  return Error{Errc::kInvalidArgument, str_cat("--image-resolution must be 4k, 1080p, 720p, 360p, HEIGHTxWIDTH up to ",
                                               kMaxSide, ", or random:HxW-HxW, got '", text, "'")};
}

std::vector<TokenId> ordinary_tokens(const Tokenizer& tokenizer) {
  std::vector<TokenId> out;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    if (!tokenizer.is_special(id)) out.push_back(id);
  return out;
}

struct Noise {
  int width, height;
  std::vector<uint8_t> pixels;
};

Noise draw_picture(const ImageBounds& bounds, ImageContent content, NumpyRandom& numpy) {
  Noise out{bounds.min_width, bounds.min_height, {}};
  if (bounds.max_width > bounds.min_width || bounds.max_height > bounds.min_height) {
    out.width = static_cast<int>(numpy.randint(bounds.min_width, bounds.max_width + 1));
    out.height = static_cast<int>(numpy.randint(bounds.min_height, bounds.max_height + 1));
  }
  out.pixels.assign(3 * static_cast<size_t>(out.width) * static_cast<size_t>(out.height), 255);
  if (content == ImageContent::kRandom)
    for (uint8_t& value : out.pixels) value = static_cast<uint8_t>(numpy.rand() * 255);
  return out;
}

std::string data_uri(const Noise& picture, const std::string& format) {
  const PictureView view{picture.width, picture.height, picture.pixels};
  return str_cat("data:image/", format, ";base64,",
                 encode_base64(format == "png" ? encode_png(view) : encode_jpeg(view, kJpegQuality)));
}

int num_image_tokens(const Noise& picture) {
  const PictureForm form;
  const PictureSize size = target_size(picture.width, picture.height, form);
  return size.width / form.token_size * (size.height / form.token_size) + kMarkers;
}

/// The prompt as the chat template writes it: pictures, then text.
Result<std::string> templated(const BenchDataOptions& options, std::string text, int num_images) {
  ContentParts parts;
  for (int i = 0; i < num_images; ++i) parts.emplace_back(MediaPart{MediaKind::kImage, nullptr});
  parts.emplace_back(TextPart{std::move(text)});
  ChatInput input;
  input.messages.push_back({ChatRole::kUser, std::move(parts), {}, {}, {}, {}});
  CARAT_TRY(auto rendered, render_chat(input, options.family));
  return std::move(rendered.text);
}

}  // namespace

Result<ImageBounds> parse_image_resolution(std::string_view text) {
  constexpr std::string_view kRandom = "random:";
  if (!text.starts_with(kRandom)) {
    CARAT_TRY(const auto size, parse_size(text));
    return ImageBounds{size.width, size.height, size.width, size.height};
  }
  const auto bounds = text.substr(kRandom.size());
  const size_t dash = bounds.find('-');
  CARAT_TRY(const auto least, parse_size(bounds.substr(0, dash)));
  CARAT_TRY(const auto most, parse_size(dash == std::string_view::npos ? "" : bounds.substr(dash + 1)));
  if (least.width > most.width || least.height > most.height)
    return Error{Errc::kInvalidArgument,
                 str_cat("--image-resolution: the smallest size of '", text, "' is larger than the largest")};
  return ImageBounds{least.width, least.height, most.width, most.height};
}

Result<std::vector<BenchRequest>> make_image_requests(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                                      NumpyRandom& numpy) {
  CARAT_TRY(const auto bounds, parse_image_resolution(options.image.resolution));
  const int num = options.num_prompts;
  std::vector<int64_t> counts(static_cast<size_t>(num), options.image.count);
  if (options.image.random_count) counts = numpy.randint(1, options.image.count + 1, num);
  const auto input = random_lengths(numpy, options.random_input_len, options.random_range_ratio, num);
  const auto output = random_lengths(numpy, options.random_output_len, options.random_range_ratio, num);
  PythonRandom python(static_cast<uint64_t>(options.seed));
  const auto vocabulary = ordinary_tokens(tokenizer);
  std::vector<BenchRequest> out(static_cast<size_t>(num));
  {
    // Drawing has one order, encoding has none. The queue bounds the pictures in memory.
    const int num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    TaskPool encoders(num_threads, static_cast<size_t>(4 * num_threads), "encode");
    for (size_t i = 0; i < out.size(); ++i) {
      std::vector<TokenId> ids;
      for (const size_t index : python.choices(vocabulary.size(), static_cast<int>(input[i])))
        ids.push_back(vocabulary[index]);
      BenchRequest& request = out[i];
      request.output_len = static_cast<int>(output[i]);
      request.prompt = tokenizer.decode(ids, false);
      request.images.resize(static_cast<size_t>(counts[i]));
      for (std::string& image : request.images) {
        auto picture = std::make_shared<const Noise>(draw_picture(bounds, options.image.content, numpy));
        request.vision_len += num_image_tokens(*picture);
        const auto encode = [&image, &options, picture] { image = data_uri(*picture, options.image.format); };
        if (!encoders.submit(encode)) encode();  // the threads have enough to do
      }
      CARAT_TRY(const auto text, templated(options, request.prompt, 0));
      request.prompt_len = static_cast<int>(tokenizer.encode(text, false).size()) + request.vision_len;
      if (!options.apply_template) continue;
      CARAT_TRY(request.prompt, templated(options, std::move(request.prompt), static_cast<int>(counts[i])));
    }
  }
  return out;
}

}  // namespace carat

// Files to pixels and samples, per core and on two: what a picture or a clip costs before the encoders.

#include <benchmark/benchmark.h>
#include <jpeglib.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "media/audio.h"
#include "media/fetch.h"
#include "media/image.h"

namespace carat {
namespace {

using File = std::vector<uint8_t>;

// A picture about as hard to code as a photo: soft shapes, some texture.
File make_jpeg(int width, int height) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(width), info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = 3, info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 85, TRUE);
  jpeg_start_compress(&info, TRUE);
  File row(static_cast<size_t>(width) * 3);
  uint32_t state = 1;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        state = state * 1664525 + 1013904223;
        const double soft = 128 + 70 * std::sin(x * 0.013 + c) * std::cos(y * 0.017) + 30 * std::sin(x * y * 1e-4);
        row[static_cast<size_t>(x * 3 + c)] = static_cast<uint8_t>(soft + static_cast<double>(state >> 28));
      }
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&info, &rows, 1);
  }
  jpeg_finish_compress(&info);
  const File file(out, out + size);
  jpeg_destroy_compress(&info);
  std::free(out);
  return file;
}

File make_wav(int rate, int seconds) {
  const auto num_samples = static_cast<uint32_t>(rate * seconds);
  File file(44 + size_t{num_samples} * 4);
  const auto put = [&](size_t at, uint32_t value, size_t bytes) { std::memcpy(&file[at], &value, bytes); };
  std::memcpy(file.data(), "RIFF", 4), std::memcpy(&file[8], "WAVEfmt ", 8), std::memcpy(&file[36], "data", 4);
  put(4, static_cast<uint32_t>(file.size() - 8), 4), put(16, 16, 4), put(20, 1, 2), put(22, 2, 2);
  put(24, static_cast<uint32_t>(rate), 4), put(28, static_cast<uint32_t>(rate) * 4, 4), put(32, 4, 2), put(34, 16, 2);
  put(40, num_samples * 4, 4);
  for (size_t i = 44; i < file.size(); i += 2)
    put(i, static_cast<uint32_t>(8000 * std::sin(static_cast<double>(i) * 0.01)), 2);
  return file;
}

void jpeg(benchmark::State& state) {
  const int width = static_cast<int>(state.range(0)), height = static_cast<int>(state.range(1));
  const auto file = make_jpeg(width, height);
  for (auto _ : state) benchmark::DoNotOptimize(decode_image(file));
  state.counters["images"] = benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["file_kb"] =
      benchmark::Counter(static_cast<double>(file.size()) / 1e3, benchmark::Counter::kAvgThreads);
}
void base64(benchmark::State& state) {
  const std::string text(400'000, 'Q');
  for (auto _ : state) benchmark::DoNotOptimize(decode_base64(text, 1 << 20));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
void wav_30s(benchmark::State& state) {
  const auto file = make_wav(static_cast<int>(state.range(0)), 30);
  for (auto _ : state) benchmark::DoNotOptimize(decode_audio(file));
}

BENCHMARK(jpeg)
    ->Args({1280, 720})
    ->Args({1920, 1080})
    ->Args({4000, 3000})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(jpeg)->Args({1280, 720})->Threads(2)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(base64)->Unit(benchmark::kMillisecond);
BENCHMARK(wav_30s)->Arg(16'000)->Arg(44'100)->Arg(48'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();

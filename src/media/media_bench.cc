// From decoded pixels to what an encoder reads: all of it, the resize alone, and a copy of the source as the yardstick.

#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "base/keyed_hash.h"
#include "media/image_input.h"

namespace carat {
namespace {

constexpr PictureForm kForm{16, 48, 280};

std::vector<uint8_t> noise(int width, int height) {
  std::vector<uint8_t> out(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  uint32_t state = 1;
  for (uint8_t& byte : out) byte = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  return out;
}

template <class Fn>
void run(benchmark::State& state, Fn&& fn) {
  const int width = static_cast<int>(state.range(0)), height = static_cast<int>(state.range(1));
  const auto pixels = noise(width, height);
  for (auto _ : state) fn(PictureView{width, height, pixels});
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(pixels.size()));
}

void image_input(benchmark::State& state) {
  run(state,
      [](const PictureView& p) { benchmark::DoNotOptimize(make_image_input(p, kForm, EncoderInput::Kind::kImage)); });
}
void resize(benchmark::State& state) {
  std::vector<uint8_t> out;
  run(state, [&](const PictureView& p) {
    const PictureSize size = target_size(p.width, p.height, kForm);
    out.resize(static_cast<size_t>(size.width) * static_cast<size_t>(size.height) * 3);
    resize_bicubic(p, size.width, size.height, out);
    benchmark::ClobberMemory();
  });
}
void hash(benchmark::State& state) {
  run(state, [](const PictureView& p) { benchmark::DoNotOptimize(keyed_hash(std::as_bytes(p.pixels))); });
}
void copy(benchmark::State& state) {
  std::vector<uint8_t> out;
  run(state, [&](const PictureView& p) {
    out.resize(p.pixels.size());
    std::memcpy(out.data(), p.pixels.data(), out.size());
    benchmark::ClobberMemory();
  });
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Args({320, 240})->Args({1280, 720})->Args({1920, 1080})->Args({4000, 3000})->Unit(benchmark::kMillisecond);
}
BENCHMARK(image_input)->Apply(sizes);
BENCHMARK(resize)->Apply(sizes);
BENCHMARK(hash)->Apply(sizes);
BENCHMARK(copy)->Apply(sizes);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();

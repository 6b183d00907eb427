// Speed of the audio tower on the CPU at real shapes with seeded weights, beside a yardstick measured in the same run:
// its matrix products alone.
//
//   carat_audio_encoder_bench [--seconds N] [--threads N] [--repeats N]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

#include "base/str.h"
#include "base/worker_pool.h"
#include "config/members.h"
#include "model/audio/audio_encoder.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

template <class Fn>
double best_seconds(int repeats, Fn&& fn) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    fn();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// All linears of the layers on rows of leftovers; returns their floating-point operations.
double run_products(ops::Context& ctx, const AudioWeights& weights, int64_t rows, std::vector<Bf16>& memory) {
  double flops = 0;
  for (const ConformerLayerWeights& l : weights.layers)
    for (const ClippedLinear* linear :
         {&l.feed_forward1.ffw_layer_1, &l.feed_forward1.ffw_layer_2, &l.q_proj, &l.k_proj, &l.v_proj, &l.post,
          &l.linear_start, &l.linear_end, &l.feed_forward2.ffw_layer_1, &l.feed_forward2.ffw_layer_2}) {
      const int64_t n = linear->weight.dim(0), k = linear->weight.dim(1);
      ops::linear(ctx, {memory.data(), DType::kBf16, {rows, n}},
                  {memory.data() + memory.size() / 2, DType::kBf16, {rows, k}}, linear->weight);
      flops += 2.0 * static_cast<double>(rows * n * k);
    }
  return flops;
}

int run(int seconds, int threads, int repeats) {
  const ModelConfig config = make_model_config(published_member("E2B"));
  const auto weights = make_dummy_audio_weights(config, 1);
  if (!weights) return std::fprintf(stderr, "%s\n", weights.error().message.c_str()), 1;
  const auto encoder = create_audio_encoder(config, *weights);
  if (!encoder) return std::fprintf(stderr, "%s\n", encoder.error().message.c_str()), 1;
  WorkerPool pool(threads);
  ops::Context ctx{ops::Backend::kCpu, &pool};

  EncoderInput clip;
  clip.kind = EncoderInput::Kind::kAudio;
  clip.num_frames = 100 * seconds - 1;
  clip.num_tokens = (clip.num_frames + 3) / 4;
  std::mt19937 random(1);
  std::normal_distribution<float> values(-3.0f, 2.0f);
  for (int i = 0; i < clip.num_frames * ConformerConfig::kMelBins; ++i) clip.features.push_back(values(random));
  std::vector<Bf16> soft(static_cast<size_t>(clip.num_tokens) * static_cast<size_t>(config.text.hidden_size));
  std::vector<Bf16> memory(size_t{2} * 4096 * static_cast<size_t>(clip.num_tokens), Bf16(0.5f));

  double flops = 0;
  const double products = best_seconds(repeats, [&] { flops = run_products(ctx, **weights, clip.num_tokens, memory); });
  const double all = best_seconds(repeats, [&] {
    (*encoder)->encode(ctx, clip, {soft.data(), DType::kBf16, {clip.num_tokens, config.text.hidden_size}});
  });
  std::printf(
      "%d s of sound, %d soft tokens, %d threads: %.3f s, of which the layers' products take %.3f s (%.0f GFLOP/s)\n",
      seconds, clip.num_tokens, threads, all, products, flops / products / 1e9);
  return 0;
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  int64_t seconds = 30, threads = 2, repeats = 3;
  for (int i = 1; i + 1 < argc; i += 2)
    for (const auto& [key, value] :
         {std::pair("--seconds", &seconds), {"--threads", &threads}, {"--repeats", &repeats}})
      if (std::string_view(argv[i]) == key) carat::parse_int(argv[i + 1], *value);
  if (seconds < 1 || seconds > 30 || threads < 1 || repeats < 1)
    return std::fprintf(stderr, "seconds from 1 to 30, threads and repeats from 1\n"), 2;
  return carat::run(static_cast<int>(seconds), static_cast<int>(threads), static_cast<int>(repeats));
}

// Speed of the whole decoder on the CPU at real shapes with seeded weights: prompts in one chunk and decoding at batch
// 1 and more, beside a yardstick measured in the same run, a plain read of the bytes that one decoded token needs.
//
//   carat_model_bench [--model NAME] [--layers N] [--threads N] [--prompt N] [--steps N] [--batch N]
//
// --layers cuts the depth, for members that do not fit into memory (a multiple of the layer pattern). Steps alternate
// with reads of the yardstick; best and median are printed, since a busy machine only makes either slower.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/str.h"
#include "config/model_size.h"
#include "model/text/text_model_testing.h"

namespace carat {
namespace {

struct Options {
  std::string model = "google/gemma-4-E2B-it";
  int layers = 0, threads = 2, prompt = 512, steps = 12, batch = 1;
};

double seconds(const std::function<void()>& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Series {
  std::vector<double> values;
  double best() const { return *std::ranges::min_element(values); }
  double median() const {
    std::vector<double> sorted = values;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

/// Reads all weight matrices of the layers and the head once, as far as one decoded token does; returns the bytes.
class Reader {
 public:
  Reader(const TextWeights& weights, WorkerPool& pool) : pool_(pool) {
    for (const LayerWeights& w : weights.layers)
      for (const ConstTensorView& m : {w.q_proj, w.k_proj, w.v_proj, w.o_proj, w.gate_proj, w.up_proj, w.down_proj})
        add(m);
    add(weights.embed_tokens);
  }
  int64_t bytes() const { return bytes_; }
  void read() {
    for (const auto& [data, size] : parts_) {
      const auto* words = static_cast<const uint64_t*>(data);
      pool_.parallel_for(size / 8, 1 << 17, [&](int64_t begin, int64_t end, int) {
        uint64_t sums[16] = {};
        for (int64_t i = begin; i + 16 <= end; i += 16)
          for (int j = 0; j < 16; ++j) sums[j] += words[i + j];
        uint64_t sum = 0;
        for (const uint64_t s : sums) sum += s;
        if (sum == 42) std::puts("");  // so that the reads are not left out
      });
    }
  }

 private:
  void add(const ConstTensorView& m) {
    if (!m) return;
    parts_.emplace_back(m.data, m.size_bytes());
    bytes_ += m.size_bytes();
  }
  WorkerPool& pool_;
  std::vector<std::pair<const void*, int64_t>> parts_;
  int64_t bytes_ = 0;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    int64_t number = 0;
    parse_int(argv[i + 1], number);
    const int value = static_cast<int>(number);
    if (key == "--model") o.model = argv[i + 1];
    if (key == "--layers") o.layers = value;
    if (key == "--threads") o.threads = value;
    if (key == "--prompt") o.prompt = value;
    if (key == "--steps") o.steps = value;
    if (key == "--batch") o.batch = value;
  }
  return o;
}

std::vector<TokenId> random_tokens(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> out;
  for (int i = 0; i < count; ++i) out.push_back(static_cast<TokenId>(1000 + random() % 200000));
  return out;
}

int run(const Options& o) {
  auto config = builtin_model_config(o.model);
  if (!config) return std::fprintf(stderr, "%s is not a published name\n", o.model.c_str()), 2;
  if (o.layers > 0) {
    config->text.num_layers = o.layers;
    config->text.layers.resize(static_cast<size_t>(o.layers));
    config->text.first_shared_layer = std::min(config->text.first_shared_layer, o.layers);
  }
  auto weights = make_dummy_text_weights(*config, 1);
  if (!weights) return std::fprintf(stderr, "%s\n", weights.error().message.c_str()), 1;
  testing::TextModelDriver driver(*config, *weights,
                                  {.num_sequences = o.batch,
                                   .max_length = o.prompt + 64,
                                   .max_tokens = o.prompt,
                                   .max_logit_rows = o.batch,
                                   .num_threads = o.threads});
  WorkerPool pool(o.threads);
  Reader reader(**weights, pool);
  const int64_t token_bytes = bytes_per_decoded_token(config->text), kv_bytes = kv_read_bytes(config->text, o.prompt);
  std::printf("%s, %d of its layers, %d threads; a decoded token reads %.2f GB of weights and %.3f GB of K/V at %d\n",
              o.model.c_str(), config->text.num_layers, o.threads, static_cast<double>(token_bytes) / 1e9,
              static_cast<double>(kv_bytes) / 1e9, o.prompt);

  Series prefill;
  for (int repeat = 0; repeat < 3; ++repeat) {
    driver.clear(0);
    prefill.values.push_back(seconds([&] { driver.step({{0, random_tokens(o.prompt, 1)}}); }));
  }
  std::printf("prefill %d: best %.3f s, %.1f tokens/s (median %.3f s)\n", o.prompt, prefill.best(),
              o.prompt / prefill.best(), prefill.median());

  for (int s = 1; s < o.batch; ++s) driver.step({{s, random_tokens(o.prompt, static_cast<uint32_t>(s))}});
  Series decode, yardstick;
  std::vector<testing::Piece> pieces;
  for (int s = 0; s < o.batch; ++s) pieces.push_back({s, {1234 + s}});
  for (int step = 0; step < o.steps; ++step) {
    pieces[0].tokens = {2000 + 37 * step};  // other experts each time
    decode.values.push_back(seconds([&] { driver.step(pieces); }));
    yardstick.values.push_back(seconds([&] { reader.read(); }));
  }
  const double read_rate = static_cast<double>(reader.bytes()) / 1e9 / yardstick.best();
  const double rate = static_cast<double>(token_bytes + kv_bytes) / 1e9 / decode.best();
  std::printf("decode batch %d: best %.1f ms, median %.1f ms, %.2f tokens/s\n", o.batch, 1e3 * decode.best(),
              1e3 * decode.median(), o.batch / decode.best());
  std::printf("plain read of %.2f GB: %.1f GB/s best", static_cast<double>(reader.bytes()) / 1e9, read_rate);
  if (o.batch == 1) std::printf("; decode reads at %.1f GB/s, %.0f %% of it", rate, 100 * rate / read_rate);
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) { return carat::run(carat::parse(argc, argv)); }

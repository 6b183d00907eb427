// Tokens per second through TextStream, one token a call as a stream brings them. Yardstick: Tokenizer::decode of all
// tokens at once. Argument: number of stop strings, each of which begins now and then and never completes.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "output/text_stream.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

const Tokenizer& tokenizer() {
  static const auto built = [] {
    std::vector<std::string> pieces;
    for (const char* word : {"▁the", "▁of", "ing", "▁a", "er", "▁quick", "▁brown", "s", ".", "▁fox"})
      pieces.emplace_back(word);
    return std::move(*Tokenizer::parse(carat::testing::make_tokenizer_json(pieces, {}).dump(), ""));
  }();
  return *built;
}

std::vector<TokenId> tokens(size_t count) {
  std::vector<TokenId> out(count);
  uint32_t state = 1;
  for (TokenId& id : out) {
    state = state * 1664525 + 1013904223;
    id = static_cast<TokenId>(260 + (state >> 16) % 10);
  }
  return out;
}

void decode_at_once(benchmark::State& state) {
  const auto ids = tokens(4096);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer().decode(ids, true));
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(decode_at_once);

void stream(benchmark::State& state) {
  const auto ids = tokens(4096);
  TextOptions options;
  for (int64_t i = 0; i < state.range(0); ++i) options.stop.push_back(" quick fox the" + std::to_string(i));
  for (auto _ : state) {
    TextStream stream(tokenizer(), options);
    for (const TokenId id : ids) benchmark::DoNotOptimize(stream.push({&id, 1}));
    benchmark::DoNotOptimize(stream.finish());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(stream)->Arg(0)->Arg(1)->Arg(4)->Arg(32);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();

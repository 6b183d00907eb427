// Loading, encoding and decoding with a given tokenizer over given texts, one thread:
//   carat_tokenizer_bench TOKENIZER_FOLDER TEXT_FOLDER [--benchmark_...]
// scripts/bench_tokenizer makes the texts, runs this, and runs Hugging Face's `tokenizers` on the same ones.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "tokenizer/tokenizer.h"

namespace {

void encode(benchmark::State& state, const carat::Tokenizer& tokenizer, const std::string& text) {
  size_t num_ids = 0;
  for (auto _ : state) num_ids = tokenizer.encode(text).size();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["bytes_per_id"] = static_cast<double>(text.size()) / static_cast<double>(num_ids);
}

void decode(benchmark::State& state, const carat::Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(ids, true));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s TOKENIZER_FOLDER TEXT_FOLDER [--benchmark_...]\n", argv[0]);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  const auto tokenizer = carat::Tokenizer::load(folder);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[2])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  benchmark::RegisterBenchmark("load", [&](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(carat::Tokenizer::load(folder).has_value());
  })->Unit(benchmark::kMillisecond);
  for (const auto& path : paths) {
    const auto text = carat::read_text_file(path, 1 << 30);
    if (!text) return 1;
    const std::string name = path.stem().native();
    for (const auto& [what, run] :
         {std::pair(std::string("encode/"), &encode), std::pair(std::string("decode/"), &decode)})
      benchmark::RegisterBenchmark((what + name).c_str(), [run = run, &tokenizer,
                                                           text = *text](benchmark::State& state) {
        run(state, **tokenizer, text);
      })->Unit(benchmark::kMillisecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

// What the engine thread pays for the prefix cache per request; the yardstick is a plain comparison of the same tokens.
#include <benchmark/benchmark.h>

#include <random>

#include "kv/prefix_cache.h"

namespace carat {
namespace {

constexpr int kPage = 64, kWindow = 512;

std::vector<TokenId> random_tokens(int64_t count) {
  std::mt19937 rng(1);
  std::vector<TokenId> out(count);
  for (TokenId& t : out) t = static_cast<TokenId>(rng() % 262144);
  return out;
}

void append_pages(PageTable& table, PagePool& pool, int num_tokens) {
  for (int i = table.missing(num_tokens); i > 0; --i) table.append(std::move(*pool.allocate()));
}

void BM_YardstickCompare(benchmark::State& state) {
  const auto a = random_tokens(state.range(0));
  const auto b = a;
  for (auto _ : state) benchmark::DoNotOptimize(std::equal(a.begin(), a.end(), b.begin()));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_YardstickCompare)->Arg(1024)->Arg(131072);

void BM_Hit(benchmark::State& state) {
  const int n = static_cast<int>(state.range(0));
  PagePool full(n / kPage + 1), sliding(n / kPage + 1);
  PrefixCache cache(full, sliding, kPage, kWindow);
  const auto tokens = random_tokens(n);
  {
    PageTable f(kPage), s(kPage);
    append_pages(f, full, n);
    append_pages(s, sliding, n);
    cache.insert(tokens, 0, n, f, s);
  }
  for (auto _ : state) benchmark::DoNotOptimize(cache.match(tokens, 0, n).length);
  state.SetItemsProcessed(state.iterations() * n);
}
BENCHMARK(BM_Hit)->Arg(1024)->Arg(131072);

void BM_InsertNew(benchmark::State& state) {
  const int n = static_cast<int>(state.range(0));
  PagePool full(n / kPage + 1), sliding(n / kPage + 1);
  const auto tokens = random_tokens(n);
  PageTable f(kPage), s(kPage);
  append_pages(f, full, n);
  append_pages(s, sliding, n);
  for (auto _ : state) {
    PrefixCache cache(full, sliding, kPage, kWindow);
    cache.insert(tokens, 0, n, f, s);
    benchmark::DoNotOptimize(cache.num_blocks());
  }
  state.SetItemsProcessed(state.iterations() * n);
}
BENCHMARK(BM_InsertNew)->Arg(1024)->Arg(131072);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();

// Speed of the CPU ops on the shapes of E2B and 26B-A4B, each beside a yardstick measured in the same run: a plain read
// of as many bytes for what is bound by memory, oneDNN's bf16 matrix product for what is bound by arithmetic.
//
//   carat_ops_bench [--threads N] [--level NAME] [--reps N] [--pool_mib N] [--only decode|prefill|attention|rest]
//
// Weights come from a pool larger than the caches, a different part at each call. Each figure is the best of many short
// repetitions that alternate with those of the yardstick, so that a busy machine disturbs it little; a whole token is
// the sum of its parts.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "base/worker_pool.h"
#include "ops/cpu/level.h"
#include "ops/ops.h"
#include "tensor/bf16.h"
#include "tensor/tensor.h"

#ifdef CARAT_HAS_DNNL
#include <dnnl.hpp>
#endif

namespace carat::ops {
namespace {

struct Options {
  int threads = 2, reps = 20;
  int64_t pool_mib = 2048;
  std::string only;
};

double seconds(const std::function<void()>& fn) {
  const auto start = std::chrono::steady_clock::now();
  fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Large memory of random bf16 numbers, handed out in turn.
class Pool {
 public:
  explicit Pool(int64_t size_bytes) : buffer_(std::move(Buffer::allocate(size_bytes).value())) {
    constexpr int64_t kPattern = 1 << 20;
    std::mt19937 engine(1);
    std::normal_distribution<float> normal(0, 0.05f);
    auto* const bits = reinterpret_cast<uint16_t*>(buffer_.data());
    for (int64_t i = 0; i < kPattern; ++i) bits[i] = Bf16(normal(engine)).bits;
    for (int64_t at = 2 * kPattern; at < buffer_.size(); at += 2 * kPattern)
      std::memcpy(buffer_.data() + at, buffer_.data(),
                  static_cast<size_t>(std::min(2 * kPattern, buffer_.size() - at)));
  }
  ConstTensorView take(Shape shape) {
    const int64_t bytes = shape.num_elements() * 2;
    CARAT_CHECK(bytes <= buffer_.size(), "the pool is too small for this shape");
    if (next_ + bytes > buffer_.size()) next_ = 0;
    ConstTensorView view(buffer_.data() + next_, DType::kBf16, shape);
    next_ += (bytes + 63) / 64 * 64;
    return view;
  }
  const std::byte* data() const { return buffer_.data(); }

 private:
  Buffer buffer_;
  int64_t next_ = 0;
};

/// Bytes of one repetition: long against the start of the threads, short against a time slice.
constexpr int64_t kSliceBytes = 48 << 20;

/// Reads all bytes with all threads; returns GB/s.
double read_rate(WorkerPool& workers, const ConstTensorView& weights) {
  using Line = uint64_t __attribute__((vector_size(64)));
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(weights.data),
                                         static_cast<size_t>(weights.size_bytes()));
  std::vector<uint64_t> sums(static_cast<size_t>(workers.num_threads()) * 8);
  const auto* const lines = reinterpret_cast<const Line*>(bytes.data());
  const double time = seconds([&] {
    workers.parallel_for(static_cast<int64_t>(bytes.size() / sizeof(Line)), 4,
                         [&](int64_t begin, int64_t end, int worker) {
                           Line a{}, b{}, c{}, d{};
                           for (int64_t i = begin; i + 4 <= end; i += 4) {
                             a ^= lines[i];
                             b ^= lines[i + 1];
                             c ^= lines[i + 2];
                             d ^= lines[i + 3];
                           }
                           sums[static_cast<size_t>(worker) * 8] += ((a ^ b) ^ (c ^ d))[0];
                         });
  });
  volatile uint64_t sink = sums[0];
  static_cast<void>(sink);
  return static_cast<double>(bytes.size()) / time / 1e9;
}

struct Bench {
  Options options;
  WorkerPool workers;
  Context ctx;
  Pool pool;

  explicit Bench(const Options& o)
      : options(o), workers(o.threads), ctx{Backend::kCpu, &workers}, pool(o.pool_mib << 20) {}

  std::vector<uint16_t> random_rows(int64_t n, float deviation = 1.0f) {
    std::mt19937 engine(2);
    std::normal_distribution<float> normal(0, deviation);
    std::vector<uint16_t> bits(static_cast<size_t>(n));
    for (uint16_t& b : bits) b = Bf16(normal(engine)).bits;
    return bits;
  }

  /// Best time of fn and best rate of reading, in turns.
  struct Measured {
    double time, read_gbps;
  };
  Measured beside_read(const std::function<void()>& fn) {
    Measured best{1e30, 0};
    fn();
    for (int i = 0; i < options.reps; ++i) {
      best.read_gbps = std::max(best.read_gbps, read_rate(workers, pool.take({kSliceBytes / 2})));
      best.time = std::min(best.time, seconds(fn));
    }
    return best;
  }
  double best_of(const std::function<void()>& fn) {
    double best = 1e30;
    fn();
    for (int i = 0; i < options.reps; ++i) best = std::min(best, seconds(fn));
    return best;
  }

  void print_read_bound(const std::string& name, double bytes, const Measured& m) {
    const double gbps = bytes / m.time / 1e9;
    std::printf("%-44s %10.3f ms %8.1f GB/s  read %6.1f GB/s  share %5.1f %%\n", name.c_str(), m.time * 1e3, gbps,
                m.read_gbps, 100 * gbps / m.read_gbps);
    std::fflush(stdout);
  }
};

struct LinearShape {
  int64_t n, k;
  int count;  // in one token
};

struct Model {
  const char* name;
  std::vector<LinearShape> linears;
  int64_t hidden;
  int expert_layers = 0;
  int64_t num_experts = 0, expert_width = 0;
  int experts_per_token = 0;
};

const Model kModels[] = {
    {"E2B",
     {{8960, 1536, 1},
      {2048, 1536, 28},
      {256, 1536, 24},
      {1536, 2048, 28},
      {4096, 1536, 7},
      {512, 1536, 6},
      {1536, 4096, 7},
      {6144, 1536, 30},
      {1536, 6144, 15},
      {12288, 1536, 40},
      {1536, 12288, 20},
      {256, 1536, 35},
      {1536, 256, 35},
      {262144, 1536, 1}},
     1536},
    {"26B-A4B",
     {{4096, 2816, 25},
      {2048, 2816, 50},
      {2816, 4096, 25},
      {8192, 2816, 5},
      {1024, 2816, 5},
      {2816, 8192, 5},
      {2112, 2816, 60},
      {2816, 2112, 30},
      {128, 2816, 30},
      {262144, 2816, 1}},
     2816,
     30,
     128,
     704,
     8},
};

/// Expert ids as a router that prefers nobody would pick them.
std::vector<int32_t> pick_experts(int64_t tokens, int64_t num_experts, int k) {
  std::mt19937 engine(3);
  std::vector<int32_t> ids, all(static_cast<size_t>(num_experts));
  for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
  for (int64_t t = 0; t < tokens; ++t) {
    std::shuffle(all.begin(), all.end(), engine);
    ids.insert(ids.end(), all.begin(), all.begin() + k);
  }
  return ids;
}

void bench_decode(Bench& b, const Model& model) {
  int64_t widest = 0;
  for (const LinearShape& s : model.linears) widest = std::max({widest, s.n, s.k});
  for (const int64_t tokens : {1, 8}) {
    const auto x = b.random_rows(tokens * widest);
    std::vector<uint16_t> y(static_cast<size_t>(tokens * widest));
    const auto run = [&](int64_t n, int64_t k) {
      linear(b.ctx, {y.data(), DType::kBf16, {tokens, n}}, {x.data(), DType::kBf16, {tokens, k}}, b.pool.take({n, k}));
    };
    const auto ids = pick_experts(tokens, std::max<int64_t>(1, model.num_experts), model.experts_per_token);
    const std::vector<float> weights(ids.size(), 0.125f);
    const auto run_experts = [&] {
      experts(b.ctx, {y.data(), DType::kBf16, {tokens, model.hidden}}, {x.data(), DType::kBf16, {tokens, model.hidden}},
              b.pool.take({model.num_experts, 2 * model.expert_width, model.hidden}),
              b.pool.take({model.num_experts, model.hidden, model.expert_width}), ids, weights,
              model.experts_per_token);
    };
    std::vector<int32_t> distinct = ids;
    std::ranges::sort(distinct);
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    const double expert_bytes =
        static_cast<double>(distinct.size()) * 6 * static_cast<double>(model.expert_width * model.hidden);

    Bench::Measured total{0, 0};
    double total_bytes = 0, read_time = 0;
    const auto report = [&](const std::string& name, double bytes, int calls, int count,
                            const std::function<void()>& fn) {
      auto m = b.beside_read([&] {
        for (int i = 0; i < calls; ++i) fn();
      });
      m.time /= calls;
      b.print_read_bound(name, bytes, m);
      total_bytes += count * bytes;
      total.time += count * m.time;
      read_time += count * bytes / (m.read_gbps * 1e9);
    };
    for (const LinearShape& s : model.linears) {
      // The head is longer than a repetition should be: its rows in equal parts.
      const int64_t parts = (2 * s.n * s.k + kSliceBytes - 1) / kSliceBytes, n = s.n / parts;
      report(str_cat("  linear T ", tokens, " N ", n, " K ", s.k), static_cast<double>(2 * n * s.k),
             static_cast<int>(std::max<int64_t>(1, kSliceBytes / (2 * n * s.k))), s.count * static_cast<int>(parts),
             [&] { run(n, s.k); });
    }
    if (model.expert_layers > 0)
      report(str_cat("  experts T ", tokens, " (", distinct.size(), " of ", model.num_experts, ")"), expert_bytes, 1,
             model.expert_layers, run_experts);
    // Each part beside the reads that alternated with it: on a busy machine both see the same cores.
    total.read_gbps = total_bytes / read_time / 1e9;
    b.print_read_bound(str_cat(model.name, " decode, all linears, batch ", tokens), total_bytes, total);
  }
}

#ifdef CARAT_HAS_DNNL
/// oneDNN's product of the same size, weights in the layout that it likes best; seconds.
double dnnl_time(Bench& b, int64_t m, int64_t n, int64_t k) {
  using dnnl::memory;
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  const auto desc = [](int64_t rows, int64_t cols) {
    return memory::desc({rows, cols}, memory::data_type::bf16, memory::format_tag::any);
  };
  const dnnl::matmul::primitive_desc prim({desc(m, k), desc(k, n), desc(m, n)}, engine);
  const dnnl::matmul matmul(prim);
  memory x(prim.src_desc(), engine), w(prim.weights_desc(), engine), y(prim.dst_desc(), engine);
  for (memory* mem : {&x, &w}) std::memcpy(mem->get_data_handle(), b.pool.data(), mem->get_desc().get_size());
  return b.best_of([&] {
    matmul.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
    stream.wait();
  });
}
#endif

void bench_prefill(Bench& b, const Model& model) {
  for (const int64_t tokens : {64, 512}) {
    double total_time = 0, total_flop = 0;
    double dnnl_here = 0;
    for (const LinearShape& s : model.linears) {
      if (s.n > 100000) continue;  // the head: for a few rows only
      // About a millisecond per repetition: the first rows of a large matrix stand for the rest.
      const int64_t most = std::max<int64_t>(512, 1'250'000'000 / (tokens * s.k) / 256 * 256), n = std::min(s.n, most);
      const auto x = b.random_rows(tokens * s.k);
      std::vector<uint16_t> y(static_cast<size_t>(tokens * n));
      const double flop = 2 * static_cast<double>(tokens * n) * static_cast<double>(s.k);
      const double time = b.best_of([&] {
        linear(b.ctx, {y.data(), DType::kBf16, {tokens, n}}, {x.data(), DType::kBf16, {tokens, s.k}},
               b.pool.take({n, s.k}));
      });
      const double scale = s.count * static_cast<double>(s.n) / static_cast<double>(n);
      total_time += scale * time;
      total_flop += scale * flop;
      std::printf("  linear T %4ld N %6ld K %6ld %27.1f GFLOP/s", static_cast<long>(tokens), static_cast<long>(n),
                  static_cast<long>(s.k), flop / time / 1e9);
#ifdef CARAT_HAS_DNNL
      const double other = flop / dnnl_time(b, tokens, n, s.k) / 1e9;
      dnnl_here = std::max(dnnl_here, other);
      std::printf("  oneDNN %8.1f  ratio %5.2f", other, flop / time / 1e9 / other);
#endif
      std::printf("\n");
      std::fflush(stdout);
    }
    if (model.expert_layers > 0) {
      const auto x = b.random_rows(tokens * model.hidden);
      std::vector<uint16_t> y(x.size());
      const auto ids = pick_experts(tokens, model.num_experts, model.experts_per_token);
      const std::vector<float> weights(ids.size(), 0.125f);
      const double flop = 6 * static_cast<double>(tokens * model.experts_per_token) *
                          static_cast<double>(model.expert_width * model.hidden);
      const double time = b.best_of([&] {
        experts(
            b.ctx, {y.data(), DType::kBf16, {tokens, model.hidden}}, {x.data(), DType::kBf16, {tokens, model.hidden}},
            b.pool.take({model.num_experts, 2 * model.expert_width, model.hidden}),
            b.pool.take({model.num_experts, model.hidden, model.expert_width}), ids, weights, model.experts_per_token);
      });
      std::printf("  experts T %4ld %45.1f GFLOP/s\n", static_cast<long>(tokens), flop / time / 1e9);
    }
    std::printf("%s prefill, linears of the layers, %ld tokens: %.1f GFLOP/s", model.name, static_cast<long>(tokens),
                total_flop / total_time / 1e9);
    if (dnnl_here > 0)
      std::printf(", oneDNN's best %.1f: %.0f %% of it", dnnl_here, 100 * total_flop / total_time / 1e9 / dnnl_here);
    std::printf("\n");
  }
}

void bench_attention(Bench& b) {
  struct Shape {
    const char* name;
    int heads, kv_heads, head_dim, window, context, tokens, sequences;
  };
  const Shape shapes[] = {
      {"E2B sliding", 8, 1, 256, 512, 4096, 1, 1},   {"E2B full", 8, 1, 512, 0, 1024, 1, 1},
      {"E2B full", 8, 1, 512, 0, 32768, 1, 1},       {"E2B full", 8, 1, 512, 0, 4096, 1, 16},
      {"26B sliding", 16, 8, 256, 1024, 4096, 1, 1}, {"26B full", 16, 2, 512, 0, 32768, 1, 1},
      {"E2B sliding", 8, 1, 256, 512, 512, 512, 1},  {"E2B full", 8, 1, 512, 0, 512, 512, 1},
      {"E2B full", 8, 1, 512, 0, 8192, 512, 1},      {"26B sliding", 16, 8, 256, 1024, 512, 512, 1},
      {"26B full", 16, 2, 512, 0, 512, 512, 1},
  };
  constexpr int kPage = 64;
  for (const Shape& s : shapes) {
    const int64_t half = int64_t{s.kv_heads} * kPage * s.head_dim;
    const int pages = s.context / kPage;
    std::vector<uint16_t> memory(static_cast<size_t>(2 * half * pages * s.sequences));
    const auto some = b.random_rows(1 << 16, 0.3f);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = some[i % some.size()];
    const KvStore store{memory.data(), 2 * half, half, s.kv_heads, s.head_dim};
    std::vector<std::vector<int32_t>> tables(static_cast<size_t>(s.sequences));
    std::vector<const int32_t*> pointers;
    std::vector<int32_t> indptr{0}, positions;
    for (int i = 0; i < s.sequences; ++i) {
      for (int p = 0; p < pages; ++p) tables[static_cast<size_t>(i)].push_back(i * pages + p);
      pointers.push_back(tables[static_cast<size_t>(i)].data());
      for (int t = s.context - s.tokens; t < s.context; ++t) positions.push_back(t);
      indptr.push_back(static_cast<int32_t>(positions.size()));
    }
    const int64_t rows = static_cast<int64_t>(positions.size()), width = int64_t{s.heads} * s.head_dim;
    const auto q = b.random_rows(rows * width, 0.3f);
    std::vector<uint16_t> o(q.size());
    double keys = 0;
    for (const int32_t p : positions) keys += s.window > 0 ? std::min(p + 1, s.window) : p + 1;
    const auto m = b.beside_read([&] {
      attention(b.ctx, {o.data(), DType::kBf16, {rows, width}}, {q.data(), DType::kBf16, {rows, width}}, store,
                {indptr, positions, pointers, kPage}, s.window);
    });
    const double flop = 4 * keys * static_cast<double>(width);
    const std::string name = str_cat("attention ", s.name, " context ", s.context, " T ", rows);
    if (s.tokens == 1)
      b.print_read_bound(name, 4 * keys * s.kv_heads * s.head_dim, m);
    else
      std::printf("%-44s %10.3f ms %8.1f GFLOP/s\n", name.c_str(), m.time * 1e3, flop / m.time / 1e9);
  }
}

void bench_rest(Bench& b) {
  const double empty = b.best_of([&] {
    for (int i = 0; i < 1000; ++i) b.workers.parallel_for(64, 1, [](int64_t, int64_t, int) {});
  });
  std::printf("%-44s %10.3f us\n", "parallel_for that does nothing", empty * 1e3);
  const auto report = [&](const std::string& name, double bytes, const std::function<void()>& fn) {
    b.print_read_bound(name, bytes, b.beside_read(fn));
  };
  for (const int64_t tokens : {1, 512}) {
    const int64_t width = 1536, ffn = 12288, vocabulary = 262144;
    auto x = b.random_rows(tokens * ffn, 2.0f);
    std::vector<uint16_t> y(x.size());
    const auto view = [&](std::vector<uint16_t>& m, int64_t cols) {
      return TensorView(m.data(), DType::kBf16, {tokens, cols});
    };
    const double n = static_cast<double>(tokens);
    report(str_cat("rms_norm [", tokens, ", 1536]"), 4 * n * 1536, [&] {
      rms_norm(b.ctx, view(y, width), view(x, width), TensorView(x.data(), DType::kBf16, {width}), 1e-6f);
    });
    report(str_cat("add [", tokens, ", 1536]"), 6 * n * 1536,
           [&] { add(b.ctx, view(y, width), view(x, width), view(y, width)); });
    report(str_cat("gelu_mul [", tokens, ", 12288]"), 6 * n * 12288,
           [&] { gelu_mul(b.ctx, view(y, ffn), view(x, ffn), view(x, ffn)); });
    std::vector<int32_t> positions(static_cast<size_t>(tokens), 1000);
    std::vector<float> inv_freq;
    for (int j = 0; j < 128; ++j) inv_freq.push_back(std::pow(10000.0f, -static_cast<float>(j) / 128));
    report(str_cat("rope [", tokens, ", 2048]"), 4 * n * 2048,
           [&] { rope(b.ctx, view(x, 2048), 256, positions, inv_freq); });
    if (tokens == 1) {
      auto logits = b.random_rows(vocabulary, 10.0f);
      std::vector<float> capped(static_cast<size_t>(vocabulary));
      report("softcap [1, 262144]", 6.0 * 262144, [&] {
        softcap(b.ctx, {capped.data(), DType::kF32, {1, vocabulary}}, {logits.data(), DType::kBf16, {1, vocabulary}},
                30.0f);
      });
    }
  }
}

int run(const Options& options) {
  Bench b(options);
  std::printf("level %s, %d threads, pool %ld MiB, best of %d\n",
              std::string(cpu::to_string(cpu::active_level())).c_str(), options.threads,
              static_cast<long>(options.pool_mib), options.reps);
  const auto wanted = [&](std::string_view part) { return options.only.empty() || options.only == part; };
  for (const Model& model : kModels) {
    if (wanted("decode")) bench_decode(b, model);
    if (wanted("prefill")) bench_prefill(b, model);
  }
  if (wanted("attention")) bench_attention(b);
  if (wanted("rest")) bench_rest(b);
  return 0;
}

}  // namespace
}  // namespace carat::ops

int main(int argc, char** argv) {
  carat::ops::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--threads") options.threads = std::atoi(argv[i + 1]);
    if (flag == "--reps") options.reps = std::atoi(argv[i + 1]);
    if (flag == "--pool_mib") options.pool_mib = std::atoi(argv[i + 1]);
    if (flag == "--only") options.only = argv[i + 1];
    if (flag == "--level") {
      const auto level = carat::ops::cpu::parse_level(argv[i + 1]);
      CARAT_CHECK(level.has_value(), "--level names a level of ops/cpu/level.h");
      carat::ops::cpu::set_active_level(*level);
    }
  }
  return carat::ops::run(options);
}

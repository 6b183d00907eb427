#include "ops/cpu/linear.h"

#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/slices.h"

namespace carat::ops::cpu {

namespace {

int64_t num_blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }

/// Rearranges the inputs of all jobs as the level wants them, in this thread's scratch.
void pack_inputs(Context& ctx, const Kernels& level, std::span<LinearArgs> jobs) {
  const auto size_of = [&](const LinearArgs& job) {
    return (level.linear_packed_bytes(job.num_tokens, job.depth) + 63) / 64 * 64;
  };
  int64_t total = 0;
  for (const LinearArgs& job : jobs) total += size_of(job);
  std::byte* next = thread_scratch(Scratch::kPackedInput, total);
  for (LinearArgs& job : jobs) {
    void* const packed = next;
    next += size_of(job);
    constexpr int64_t kWorthAThread = 1 << 16;
    const int64_t grain = 1 + kWorthAThread / (kPackTokens * job.depth + 1);
    parallel_for(ctx, num_blocks(job.num_tokens, kPackTokens), grain,
                 [&](int64_t begin, int64_t end) { level.linear_pack(job, packed, begin, end); });
    job.packed = packed;
  }
}

/// Blocks of rows that make a piece worth handing out: enough bytes to stream, few enough that threads end together.
int64_t blocks_per_piece(std::span<const LinearArgs> jobs) {
  constexpr int64_t kPieceBytes = 1 << 17;
  constexpr int64_t kPieceProducts = 1 << 22;
  const int64_t bytes = kLinearRows * jobs.front().depth * 2;
  const int64_t products = kLinearRows * jobs.front().depth * jobs.front().num_tokens;
  return std::max<int64_t>(1, std::min(kPieceBytes / (bytes + 1), kPieceProducts / (products + 1)));
}

}  // namespace

void run_linear(Context& ctx, std::span<LinearArgs> jobs) {
  const Kernels& level = kernels();
  if (level.linear_packed_bytes) pack_inputs(ctx, level, jobs);
  int64_t total = 0;
  for (const LinearArgs& job : jobs) total += num_blocks(job.num_outputs, kLinearRows);
  if (total == 0) return;
  parallel_for(ctx, total, blocks_per_piece(jobs), [&](int64_t begin, int64_t end) {
    void* const scratch = thread_scratch(Scratch::kLinear, level.linear_scratch_bytes);
    int64_t first = 0;  // block of the job's row 0
    for (const LinearArgs& job : jobs) {
      const int64_t last = first + num_blocks(job.num_outputs, kLinearRows);
      if (begin < last && end > first) {
        const int64_t row_begin = (std::max(begin, first) - first) * kLinearRows;
        const int64_t row_end = std::min((std::min(end, last) - first) * kLinearRows, job.num_outputs);
        level.linear_rows(job, row_begin, row_end, scratch);
      }
      first = last;
    }
  });
}

void linear(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w) {
  if (x.dim(0) == 0) return;
  LinearArgs job{.x = static_cast<const uint16_t*>(x.data),
                 .x_stride = x.row_stride,
                 .w = static_cast<const uint16_t*>(w.data),
                 .w_stride = w.row_stride,
                 .y = y.data,
                 .y_stride = y.row_stride,
                 .y_is_f32 = y.dtype == DType::kF32,
                 .num_tokens = x.dim(0),
                 .num_outputs = w.dim(0),
                 .depth = x.dim(1),
                 .packed = nullptr};
  run_linear(ctx, {&job, 1});
}

}  // namespace carat::ops::cpu

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/slices.h"

// Attention is cut twice, both times in places that depend on absolute positions alone, so that a row's result depends
// neither on the other rows of the step nor on who computes it:
//   keys   into blocks of at most kKeyBlock inside a page (one step of the online softmax each), and spans of whole
//          pages, whose states are merged in ascending order;
//   rows   (token, query head of the group) into units that share the keys they read.
// Many units: a thread takes a unit and walks through its spans. Few units (decoding): threads take single spans.

namespace carat::ops::cpu {

namespace {

constexpr int kSpanTokens = 512;
constexpr int64_t kUnitRows = 64;

struct Unit {
  int32_t sequence, kv_head;
  int32_t token_begin, token_end;  // of the step
  int32_t first_key, last_key;     // positions that any of the rows reads
};

struct Problem {
  ConstTensorView q;
  TensorView o;
  const KvStore& store;
  const AttentionBatch& batch;
  int window;
  int64_t group, head_dim;
  int32_t span_pages;

  int32_t first_key(int32_t position) const { return window > 0 ? std::max(0, position - window + 1) : 0; }
  int32_t span_of(int32_t position) const { return position / batch.page_tokens / span_pages; }
  int32_t num_spans(const Unit& unit) const { return span_of(unit.last_key) - span_of(unit.first_key) + 1; }
  int64_t num_rows(const Unit& unit) const { return (unit.token_end - unit.token_begin) * group; }
};

/// The rows of one unit, and a state for them, in one piece of memory.
struct Workspace {
  float* q;
  float* block;
  int32_t* first;
  int32_t* last;
  SoftmaxState sum, span;

  static int64_t num_bytes(int64_t head_dim) {
    return (3 * kUnitRows * head_dim + attention_scratch_floats(head_dim, kUnitRows) + 6 * kUnitRows) *
           static_cast<int64_t>(sizeof(float));
  }
  Workspace(std::byte* memory, int64_t head_dim) {
    float* next = reinterpret_cast<float*>(memory);
    const auto take = [&next](int64_t n) { return std::exchange(next, next + n); };
    q = take(kUnitRows * head_dim);
    sum.values = take(kUnitRows * head_dim);
    span.values = take(kUnitRows * head_dim);
    block = take(attention_scratch_floats(head_dim, kUnitRows));
    for (float** const part : {&sum.highest, &sum.total, &span.highest, &span.total}) *part = take(kUnitRows);
    first = reinterpret_cast<int32_t*>(take(kUnitRows));
    last = reinterpret_cast<int32_t*>(take(kUnitRows));
  }
};

int64_t round_up(int64_t rows) { return (rows + kRowTile - 1) / kRowTile * kRowTile; }

void clear(const SoftmaxState& state, int64_t num_rows, int64_t head_dim) {
  num_rows = round_up(num_rows);
  std::fill(state.highest, state.highest + num_rows, -std::numeric_limits<float>::infinity());
  std::fill(state.total, state.total + num_rows, 0.0f);
  std::fill(state.values, state.values + num_rows * head_dim, 0.0f);
}

/// Query rows of the unit, and the keys that count for each.
void load_rows(const Problem& p, const Kernels& level, const Unit& unit, Workspace& ws) {
  int64_t row = 0;
  for (int32_t t = unit.token_begin; t < unit.token_end; ++t) {
    const uint16_t* const q = static_cast<const uint16_t*>(p.q.data) + t * p.q.row_stride;
    level.attention_load_rows(ws.q, q + unit.kv_head * p.group * p.head_dim, row, p.group, p.head_dim);
    const int32_t position = p.batch.positions[static_cast<size_t>(t)];
    for (int64_t g = 0; g < p.group; ++g, ++row) {
      ws.first[row] = p.first_key(position);
      ws.last[row] = p.batch.last_key(t);
    }
  }
  for (const int64_t end = round_up(row); row < end; ++row) {  // padding
    ws.first[row] = 1;
    ws.last[row] = 0;
  }
}

/// Adds the unit's keys that lie in `span` to `state`.
void add_span(const Problem& p, const Kernels& level, const Unit& unit, const Workspace& ws, int32_t span,
              const SoftmaxState& state) {
  const int32_t page_tokens = p.batch.page_tokens;
  const AttentionArgs args{ws.q, ws.first, ws.last, p.num_rows(unit), p.head_dim, state};
  const int32_t span_begin = span * p.span_pages * page_tokens;
  const int32_t begin = std::max(unit.first_key, span_begin);
  const int32_t end = std::min(unit.last_key + 1, span_begin + p.span_pages * page_tokens);
  const int32_t* const table = p.batch.tables[static_cast<size_t>(unit.sequence)];
  for (int32_t position = begin; position < end;) {
    const int32_t page = position / page_tokens, token = position % page_tokens;
    const int32_t block = token / kKeyBlock * kKeyBlock, block_tokens = std::min(kKeyBlock, page_tokens - block);
    const int32_t first = token - block, last = std::min(block_tokens, first + end - position);
    const uint16_t* const keys =
        p.store.data + table[page] * p.store.page_stride + (unit.kv_head * int64_t{page_tokens} + block) * p.head_dim;
    level.attention_block(args, keys, keys + p.store.v_offset, position - first, first, last, ws.block);
    position += last - first;
  }
}

void finish(const Problem& p, const Kernels& level, const Unit& unit, const SoftmaxState& state) {
  int64_t row = 0;
  for (int32_t t = unit.token_begin; t < unit.token_end; ++t) {
    uint16_t* o = static_cast<uint16_t*>(p.o.data) + t * p.o.row_stride + unit.kv_head * p.group * p.head_dim;
    for (int64_t g = 0; g < p.group; ++g, ++row, o += p.head_dim)
      level.attention_finish(o, state.values + row * p.head_dim, state.total[row], p.head_dim);
  }
}

void run_unit(const Problem& p, const Kernels& level, const Unit& unit, Workspace& ws) {
  load_rows(p, level, unit, ws);
  const int64_t rows = p.num_rows(unit);
  const int32_t first = p.span_of(unit.first_key);
  clear(ws.sum, rows, p.head_dim);
  add_span(p, level, unit, ws, first, ws.sum);  // merging into an empty state would give the same
  for (int32_t span = first + 1; span < first + p.num_spans(unit); ++span) {
    clear(ws.span, rows, p.head_dim);
    add_span(p, level, unit, ws, span, ws.span);
    level.attention_merge(ws.sum, ws.span, rows, p.head_dim);
  }
  finish(p, level, unit, ws.sum);
}

void run_units(Context& ctx, const Problem& p, const Kernels& level, std::span<const Unit> units) {
  parallel_for(ctx, static_cast<int64_t>(units.size()), 1, [&](int64_t begin, int64_t end) {
    Workspace ws(thread_scratch(Scratch::kAttention, Workspace::num_bytes(p.head_dim)), p.head_dim);
    for (int64_t i = begin; i < end; ++i) run_unit(p, level, units[static_cast<size_t>(i)], ws);
  });
}

void run_spans(Context& ctx, const Problem& p, const Kernels& level, std::span<const Unit> units, int32_t max_spans) {
  int64_t max_rows = 0;
  for (const Unit& unit : units) max_rows = std::max(max_rows, round_up(p.num_rows(unit)));
  const int64_t state_floats = max_rows * (p.head_dim + 2), num_units = static_cast<int64_t>(units.size());
  float* const states = reinterpret_cast<float*>(thread_scratch(
      Scratch::kAttentionSpans, num_units * max_spans * state_floats * static_cast<int64_t>(sizeof(float))));
  const auto state_of = [&](int64_t unit, int64_t span) {
    float* const state = states + (unit * max_spans + span) * state_floats;
    return SoftmaxState{state, state + max_rows, state + 2 * max_rows};
  };
  parallel_for(ctx, num_units * max_spans, 1, [&](int64_t begin, int64_t end) {
    Workspace ws(thread_scratch(Scratch::kAttention, Workspace::num_bytes(p.head_dim)), p.head_dim);
    for (int64_t i = begin; i < end; ++i) {
      const Unit& unit = units[static_cast<size_t>(i / max_spans)];
      const int32_t span = static_cast<int32_t>(i % max_spans);
      if (span >= p.num_spans(unit)) continue;
      const SoftmaxState state = state_of(i / max_spans, span);
      load_rows(p, level, unit, ws);
      clear(state, p.num_rows(unit), p.head_dim);
      add_span(p, level, unit, ws, p.span_of(unit.first_key) + span, state);
    }
  });
  parallel_for(ctx, num_units, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Unit& unit = units[static_cast<size_t>(i)];
      for (int32_t span = 1; span < p.num_spans(unit); ++span)
        level.attention_merge(state_of(i, 0), state_of(i, span), p.num_rows(unit), p.head_dim);
      finish(p, level, unit, state_of(i, 0));
    }
  });
}

/// Cuts the step's rows into units, in this thread's scratch.
std::span<Unit> make_units(const Problem& p) {
  const auto& batch = p.batch;
  const int32_t unit_tokens = static_cast<int32_t>(std::max<int64_t>(1, kUnitRows / p.group));
  int64_t count = 0;
  for (size_t b = 0; b < batch.tables.size(); ++b)
    count += (batch.indptr[b + 1] - batch.indptr[b] + unit_tokens - 1) / unit_tokens * p.store.num_kv_heads;
  Unit* const units =
      reinterpret_cast<Unit*>(thread_scratch(Scratch::kJobs, count * static_cast<int64_t>(sizeof(Unit))));
  Unit* next = units;
  for (size_t b = 0; b < batch.tables.size(); ++b) {
    for (int32_t t = batch.indptr[b]; t < batch.indptr[b + 1]; t += unit_tokens) {
      const int32_t end = std::min(t + unit_tokens, batch.indptr[b + 1]);
      const auto of_unit = [&](std::span<const int32_t> values) {
        return values.subspan(static_cast<size_t>(t), static_cast<size_t>(end - t));
      };
      const int32_t lowest = std::ranges::min(of_unit(batch.positions));
      const int32_t highest = std::ranges::max(of_unit(batch.last_keys.empty() ? batch.positions : batch.last_keys));
      for (int32_t head = 0; head < p.store.num_kv_heads; ++head)
        *next++ = Unit{static_cast<int32_t>(b), head, t, end, p.first_key(lowest), highest};
    }
  }
  return {units, next};
}

}  // namespace

void kv_write(Context& ctx, const KvStore& store, ConstTensorView k, ConstTensorView v, const AttentionBatch& batch) {
  const size_t head_bytes = static_cast<size_t>(store.head_dim) * 2;
  for (size_t b = 0; b < batch.tables.size(); ++b) {
    const int32_t first = batch.indptr[b];
    parallel_rows(ctx, batch.indptr[b + 1] - first, 2 * k.last_dim(), [&](int64_t begin, int64_t end) {
      for (int64_t t = first + begin; t < first + end; ++t) {
        const int32_t position = batch.positions[static_cast<size_t>(t)];
        uint16_t* const page = store.data + batch.tables[b][position / batch.page_tokens] * store.page_stride;
        for (int head = 0; head < store.num_kv_heads; ++head) {
          uint16_t* const key =
              page + (head * int64_t{batch.page_tokens} + position % batch.page_tokens) * store.head_dim;
          std::memcpy(key, static_cast<const uint16_t*>(k.data) + t * k.row_stride + head * store.head_dim, head_bytes);
          std::memcpy(key + store.v_offset,
                      static_cast<const uint16_t*>(v.data) + t * v.row_stride + head * store.head_dim, head_bytes);
        }
      }
    });
  }
}

void attention(Context& ctx, TensorView o, ConstTensorView q, const KvStore& store, const AttentionBatch& batch,
               int window) {
  if (q.dim(0) == 0) return;
  const Problem p{.q = q,
                  .o = o,
                  .store = store,
                  .batch = batch,
                  .window = window,
                  .group = q.last_dim() / store.head_dim / store.num_kv_heads,
                  .head_dim = store.head_dim,
                  .span_pages = std::max(1, kSpanTokens / batch.page_tokens)};
  CARAT_CHECK(p.group <= kUnitRows, "attention: at most 64 query heads share a K/V head");
  const Kernels& level = kernels();
  const std::span<const Unit> units = make_units(p);
  int32_t max_spans = 0;
  for (const Unit& unit : units) max_spans = std::max(max_spans, p.num_spans(unit));
  const bool few_units = static_cast<int64_t>(units.size()) < 2 * num_threads(ctx);
  if (max_spans > 1 && few_units && num_threads(ctx) > 1)
    run_spans(ctx, p, level, units, max_spans);
  else
    run_units(ctx, p, level, units);
}

}  // namespace carat::ops::cpu

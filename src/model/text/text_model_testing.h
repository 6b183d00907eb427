#pragma once
// For tests and benchmarks: drives a TextModel over sequences with K/V pages of their own, without an engine.

#include <algorithm>
#include <utility>
#include <vector>

#include "base/worker_pool.h"
#include "model/text/kv_memory.h"
#include "model/text/text_model.h"
#include "tensor/bf16.h"

namespace carat::testing {

/// One sequence's share of a step.
struct Piece {
  int sequence = 0;
  std::vector<TokenId> tokens;
  bool all_logits = false;  ///< of every row, else of the last one only
  bool no_logits = false;
};

/// An image, frame or clip in a sequence: soft tokens for the positions from `begin` on.
struct SoftItem {
  int begin = 0;
  int num_tokens = 0;
  bool block = false;        ///< on sliding layers its rows see all of it
  std::vector<Bf16> values;  ///< [num_tokens, H]
  int end() const { return begin + num_tokens; }
};

class TextModelDriver {
 public:
  struct Options {
    int num_sequences = 1;
    int max_length = 512;
    int max_tokens = 512;
    int max_logit_rows = 16;
    ops::Backend backend = ops::Backend::kCpu;
    int num_threads = 1;
    int page_tokens = 64;
  };

  TextModelDriver(const ModelConfig& config, std::shared_ptr<const TextWeights> weights, Options options)
      : options_(options),
        vocab_(config.text.vocab_size),
        pool_(options.num_threads),
        ctx_{options.backend, &pool_},
        model_(TextModel::create(config, std::move(weights), {options.max_tokens, options.max_logit_rows}).value()),
        lengths_(static_cast<size_t>(options.num_sequences)),
        media_(static_cast<size_t>(options.num_sequences)),
        tables_(static_cast<size_t>(options.num_sequences)),
        kv_(KvMemory::create(model_->kv_layout(), {num_pages(), num_pages(), options.page_tokens}).value()),
        logits_(static_cast<size_t>(options.max_logit_rows) * static_cast<size_t>(vocab_)) {
    // Neighbouring pages belong to different sequences, so that a wrong page number shows.
    for (int p = 0; p < num_pages(); ++p) tables_[static_cast<size_t>(p % options.num_sequences)].push_back(p);
  }

  TextModel& model() { return *model_; }
  int length(int sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  /// Forgets what was computed of a sequence.
  void clear(int sequence) { lengths_[static_cast<size_t>(sequence)] = 0; }
  void cut(int sequence, int length) { lengths_[static_cast<size_t>(sequence)] = length; }
  /// What takes the place of the sequence's tokens from now on. Pieces must not end inside of blocks.
  void set_media(int sequence, std::vector<SoftItem> items) {
    media_[static_cast<size_t>(sequence)] = std::move(items);
  }

  /// Runs one step; the wanted logits, in the order of the pieces.
  std::vector<std::vector<float>> step(const std::vector<Piece>& pieces) {
    forward(pieces);
    std::vector<std::vector<float>> out;
    const int count = static_cast<int>(rows_.size());
    for (int first = 0; first < count; first += options_.max_logit_rows) {
      const int n = std::min(options_.max_logit_rows, count - first);
      model_->logits(ctx_, first, {logits_.data(), DType::kF32, {n, vocab_}});
      for (int i = 0; i < n; ++i)
        out.emplace_back(logits_.begin() + i * int64_t{vocab_}, logits_.begin() + (i + 1) * int64_t{vocab_});
    }
    return out;
  }

  void forward(const std::vector<Piece>& pieces) {
    tokens_.clear();
    positions_.clear();
    rows_.clear();
    page_tables_.clear();
    soft_.clear();
    last_keys_.clear();
    indptr_.assign(1, 0);
    for (const Piece& piece : pieces) {
      int& length = lengths_[static_cast<size_t>(piece.sequence)];
      add_media(media_[static_cast<size_t>(piece.sequence)], length, static_cast<int>(piece.tokens.size()));
      for (size_t i = 0; i < piece.tokens.size(); ++i) {
        const bool last = i + 1 == piece.tokens.size();
        if (!piece.no_logits && (piece.all_logits || last)) rows_.push_back(static_cast<int32_t>(tokens_.size()));
        tokens_.push_back(piece.tokens[i]);
        positions_.push_back(length++);
      }
      indptr_.push_back(static_cast<int32_t>(tokens_.size()));
      page_tables_.push_back(tables_[static_cast<size_t>(piece.sequence)].data());
    }
    repeat();
  }
  /// The step made last, once more: the same rows at the same positions.
  void repeat() {
    const bool blocks = last_keys_ != positions_;
    model_->forward(ctx_,
                    {tokens_, positions_, indptr_, page_tables_, page_tables_, rows_, soft_,
                     blocks ? std::span<const int32_t>(last_keys_) : std::span<const int32_t>()},
                    kv_.view());
  }
  void repeat_logits() {
    model_->logits(ctx_, 0, {logits_.data(), DType::kF32, {static_cast<int64_t>(rows_.size()), vocab_}});
  }

  /// Logits of the last token of `tokens`, given to sequence 0 in chunks.
  std::vector<float> prefill(const std::vector<TokenId>& tokens, int chunk, int sequence = 0) {
    std::vector<std::vector<float>> out;
    for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
      const size_t end = std::min(tokens.size(), at + static_cast<size_t>(chunk));
      out = step({{sequence,
                   {tokens.begin() + static_cast<int64_t>(at), tokens.begin() + static_cast<int64_t>(end)},
                   false,
                   end < tokens.size()}});
    }
    return out.at(0);
  }

 private:
  /// Soft rows and last keys of a piece at positions [begin, begin + count), which follows the rows so far.
  void add_media(const std::vector<SoftItem>& items, int begin, int count) {
    const int first_row = static_cast<int>(tokens_.size());
    for (int p = begin; p < begin + count; ++p) last_keys_.push_back(p);
    for (const SoftItem& item : items) {
      const int from = std::max(item.begin, begin), to = std::min(item.end(), begin + count);
      if (from >= to) continue;
      const int64_t width = static_cast<int64_t>(item.values.size()) / item.num_tokens;
      soft_.push_back({first_row + from - begin,
                       {item.values.data() + (from - item.begin) * width, DType::kBf16, {to - from, width}}});
      if (item.block) std::fill_n(last_keys_.begin() + first_row + from - begin, to - from, item.end() - 1);
    }
  }

  int num_pages() const {
    return options_.num_sequences * ((options_.max_length + options_.page_tokens - 1) / options_.page_tokens);
  }

  Options options_;
  int vocab_;
  WorkerPool pool_;
  ops::Context ctx_;
  std::unique_ptr<TextModel> model_;
  std::vector<int> lengths_;
  std::vector<std::vector<SoftItem>> media_;
  std::vector<std::vector<int32_t>> tables_;
  KvMemory kv_;
  std::vector<float> logits_;
  std::vector<TokenId> tokens_;
  std::vector<int32_t> positions_, indptr_, rows_;
  std::vector<const int32_t*> page_tables_;
  std::vector<SoftRows> soft_;
  std::vector<int32_t> last_keys_;
};

/// The lowest id among the largest.
inline TokenId argmax(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace carat::testing

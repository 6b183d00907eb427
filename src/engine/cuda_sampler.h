#pragma once
// Sampling of a step's rows on the GPU, as SequenceSampler does it on the host. Owns what that needs of each open slot,
// on the host and on the device. Part of the CUDA runner; same thread.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/runner.h"
#include "ops/cuda/cuda_ops.h"
#include "sampling/sampler.h"
#include "tensor/cuda/device.h"

namespace carat {

/// A step's rows that the device samples.
struct CudaSampleRows {
  std::vector<cuda::SampleRow> rows;
  bool logprobs = false;  ///< some row wants them
};

class CudaSampler {
 public:
  /// Where a slot's tokens are sampled.
  enum class Place : uint8_t {
    kArgmax,  ///< greedy without adjustments: the largest logit, which every step finds
    kDevice,  ///< by cuda::sample
    kHost,    ///< by SequenceSampler, for which steps wait: constraints, and what exceeds the device's lists
  };

  /// Results of so many steps are kept apart: those in flight and the one being launched.
  static constexpr int kSteps = 3;

  /// `banned`: what the model's logits lack already. Errors: kOverloaded.
  Result<void> init(int max_slots, int vocab_size, std::span<const TokenId> banned, const cuda::Stream& stream);
  static int64_t device_bytes(int max_slots, int vocab_size);

  /// What earlier steps sample is not touched: everything is ordered by `stream`.
  void open(const SlotOpen& open, const cuda::Stream& stream);
  void close(int slot) { slots_[static_cast<size_t>(slot)] = Slot{}; }

  Place place(int slot) const { return slots_[static_cast<size_t>(slot)].place; }
  const SamplerSpec& spec(int slot) const { return slots_[static_cast<size_t>(slot)].spec; }
  /// kHost only.
  SequenceSampler& host(int slot) { return *slots_[static_cast<size_t>(slot)].host; }

  /// Adds a kDevice slot's next token to a step: from row `logits_row` of its logits, as its sample number `sample`, at
  /// `position`.
  void add(CudaSampleRows& step, int slot, int logits_row, int sample, int position);
  /// Samples them; `rows` is the device's copy of step.rows.
  void sample(const cuda::Launch& launch, const CudaSampleRows& step, const cuda::SampleRow* rows, const void* logits,
              int32_t* last_token);
  /// [max_slots] the step's tokens by their sample numbers. Tokens that the model's step finds are put there by it.
  int32_t* tokens() const { return tokens_.as<int32_t>(); }

  /// Sends the first num_samples tokens of the step, and what else there is, to the host as results of step `which`
  /// (0 .. kSteps - 1).
  void send(const cuda::Stream& stream, const CudaSampleRows& step, int which, int num_samples);
  /// Adds a sample of a step whose results are there to its slot's result.
  void read(int which, int sample, SlotResult& result) const;

 private:
  struct Slot {
    SamplerSpec spec;
    Place place = Place::kArgmax;
    std::optional<SequenceSampler> host;
    int num_generated = 0;     ///< by all launched steps
    int num_biases = 0;        ///< on the device, in the first list
    int num_early_biases = 0;  ///< in the second: with the end tokens, which min_new_tokens bans
  };

  cuda::TokenBias* biases(int slot, bool early) const;
  uint16_t* counts(int slot) const { return counts_.as<uint16_t>() + int64_t{slot} * vocab_size_; }
  int32_t* ids(int slot) const { return ids_.as<int32_t>() + int64_t{slot} * cuda::kMaxSampleIds; }
  Place choose_place(const Slot& slot) const;

  int vocab_size_ = 0;
  std::vector<TokenId> banned_;
  std::vector<Slot> slots_;
  cuda::DeviceBuffer tokens_, results_, scratch_;
  cuda::DeviceBuffer biases_, counts_, ids_;  ///< by slot
  cuda::PinnedBuffer tokens_staging_[kSteps], results_staging_[kSteps];
};

}  // namespace carat

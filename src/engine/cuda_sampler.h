#pragma once
// Sampling of a step's rows on the GPU, as SequenceSampler does it on the host. Owns what that needs of each open slot,
// on the host and on the device. Part of the CUDA runner; same thread.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/runner.h"
#include "ops/cuda/cuda_ops.h"
#include "sampling/mask_worker.h"
#include "sampling/sampler.h"
#include "sampling/token_mask.h"
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
    kMasked,  ///< the same with a constraint's mask, which is made when the slot's token before is known
    kHost,    ///< by SequenceSampler, for which steps wait: what exceeds the device's lists
  };
  /// A slot's next token in a step: from row `logits_row` of its logits, as its sample number `sample`.
  struct Draw {
    int slot, logits_row, sample, position;
  };

  /// Results of so many steps are kept apart: those in flight and the one being launched.
  static constexpr int kSteps = 3;

  /// `banned`: what the model's logits lack already. Errors: kOverloaded.
  Result<void> init(int max_slots, int vocab_size, std::span<const TokenId> banned, const cuda::Stream& stream);
  static int64_t device_bytes(int max_slots, int vocab_size);

  /// What earlier steps sample is not touched: everything is ordered by `stream`.
  void open(const SlotOpen& open, const cuda::Stream& stream);
  void close(int slot) { at(slot) = Slot{}; }

  Place place(int slot) const { return at(slot).place; }
  const SamplerSpec& spec(int slot) const { return at(slot).spec; }
  /// kHost only.
  SequenceSampler& host(int slot) { return *at(slot).host; }

  /// Adds a kDevice slot's next token to a step.
  void add(CudaSampleRows& step, const Draw& draw);
  /// Samples them; `rows` is the device's copy of step.rows.
  void sample(const cuda::Launch& launch, const CudaSampleRows& step, const cuda::SampleRow* rows, const void* logits,
              int32_t* last_token);
  /// Makes the masks of kMasked slots, while the device computes their logits, and samples them. All tokens that the
  /// slots sampled before have been read, and so have the results of the last call. True if a slot wants
  /// log-probabilities.
  bool sample_masked(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const Draw> draws,
                     const void* logits, int32_t* last_token);
  /// [max_slots] the step's tokens by their sample numbers. Tokens that the model's step finds are put there by it.
  int32_t* tokens() const { return tokens_.as<int32_t>(); }

  /// Sends the first num_samples tokens of the step, and their log-probabilities, to the host as results of step
  /// `which` (0 .. kSteps - 1).
  void send(const cuda::Stream& stream, bool logprobs, int which, int num_samples);
  /// Adds a sample of a step whose results are there to its slot's result; a constraint takes note of it.
  void read(int which, int sample, SlotResult& result);

 private:
  struct Slot {
    SamplerSpec spec;
    Place place = Place::kArgmax;
    std::optional<SequenceSampler> host;
    std::optional<NextMask> mask;  ///< kMasked
    int num_generated = 0;         ///< by all launched steps
    int num_biases = 0;            ///< on the device, in the first list
    int num_early_biases = 0;      ///< in the second: with the end tokens, which min_new_tokens bans
  };

  const Slot& at(int slot) const { return slots_[static_cast<size_t>(slot)]; }
  Slot& at(int slot) { return slots_[static_cast<size_t>(slot)]; }
  int64_t mask_words() const { return num_mask_words(vocab_size_); }
  cuda::SampleRow row(const Draw& draw, bool masked);
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

  // Masks and rows of the step that is sampled with masks: one step at a time.
  MaskWorker mask_worker_;
  std::vector<NextMask*> next_masks_;
  cuda::PinnedBuffer host_masks_, host_rows_;  ///< [max_slots] of masks by slot, of rows
  cuda::DeviceBuffer masks_, rows_;
  cuda::Stream mask_stream_;  ///< so that the copies run beside the step
  cuda::Event masks_there_;
};

}  // namespace carat

#pragma once
// The door between the engine's bookkeeping and whatever computes: CPU, CUDA or a script. See docs/engine_contract.md.
//
// The engine sends Steps and takes StepResults in the same order. Steps are self-contained deltas: a runner keeps
// per-slot state (page tables, length, last token, sampler) and never looks back at the engine's objects. A step may be
// launched before the results of the one before are taken (as many as RunnerInfo::pipeline_depth may be in flight):
// decode slices name no tokens, the runner uses the last token it sampled for the slot itself.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/encoder_input.h"
#include "base/result.h"
#include "base/token.h"
#include "kv/page_pool.h"
#include "sampling/params.h"

namespace carat {

struct RunnerInfo {
  int vocab_size = 0;
  int max_context = 0;     ///< positions a sequence may have
  int page_tokens = 64;    ///< tokens in a page of either pool
  int window = 0;          ///< keys that a sliding layer sees, the query's own included; 0: no sliding layers
  int num_full_pages = 0;  ///< page ids 0 .. num_full_pages-1 exist
  int num_sliding_pages = 0;
  int max_slots = 0;              ///< sequences that can be open at once
  int max_step_tokens = 0;        ///< tokens a step may carry
  int pipeline_depth = 1;         ///< steps in flight at most; 1: take results before the next launch
  int max_tokens_per_decode = 1;  ///< a decode slice yields 1 .. this many tokens (scripts, drafters)
  int max_media_tokens = 0;       ///< soft tokens of one image, frame or clip at most; 0: SlotOpen::media is not taken
  /// The soft tokens of an image or frame see each other: no slice may end inside of one (it may begin there, where the
  /// cache's hit ended). Clips may be cut.
  bool whole_media_blocks = false;
};

/// A sequence takes a slot; its length there is `cached_length` until slices make it longer.
struct SlotOpen {
  int slot = 0;
  std::shared_ptr<const std::vector<TokenId>> prompt;   ///< the request's prompt (not what was generated)
  std::shared_ptr<const std::vector<MediaSpan>> media;  ///< of the prompt, ascending; null: none
  std::vector<TokenId> generated;  ///< after a preemption: what was sampled before, for penalties, min_new_tokens and
                                   ///< limits; prefill slices compute these tokens anew, after the prompt's
  int cached_length = 0;           ///< tokens whose K/V are already in the slot's pages (prefix cache)
  SamplerSpec sampler;
};

/// Entry `logical` (position / page_tokens) of a slot's page table. page -1: behind the window, no longer valid.
struct PageUpdate {
  int slot = 0;
  KvPool pool = KvPool::kFull;
  int logical = 0;
  PageId page = -1;
};

struct PageCopy {
  KvPool pool = KvPool::kFull;
  PageId from = 0, to = 0;
};

/// One sequence's share of a step.
struct Slice {
  int slot = 0;
  /// Prefill: the tokens to compute, beginning at the slot's length. Decode: empty; the slot's last sampled token is
  /// the input.
  std::vector<TokenId> tokens;
  /// Slots that get a token sampled from the last position's logits: none (a chunk that does not end the prompt), this
  /// slot, or also further slots of the same request (n > 1). Those were opened with a length of 0 in this step and
  /// from here on have this slot's length; their pages arrive with a later step, before their first decode slice.
  /// Prefill samples exactly one token per slot, decode 1 .. max_tokens_per_decode.
  std::vector<int> sample_slots;
  /// Prompt positions [begin, end) whose log-probabilities are wanted (no temperature, no penalties). Each is predicted
  /// by the row before it, and those rows lie in this slice; a runner may not skip layers for them.
  int prompt_logprob_begin = 0, prompt_logprob_end = 0;
};

/// Executed in this order: closes, opens, copies, page updates, slices; and wholly after the step before. A slot may be
/// closed and opened again by the same step. A close may come later than the sequence's end.
///
/// Limits a runner keeps to: a slot never yields more than sampler.params.max_new_tokens tokens in all (SlotOpen::
/// generated counted). A decode slice of a slot that has them already, or that has yielded an end token, may yield
/// anything up to that limit or nothing; the engine discards it. So K/V is never written at or beyond position
/// prompt.size() + max_new_tokens - 1 (the last token of all is never computed), and pages cover what may be written.
struct Step {
  int64_t id = 0;
  std::vector<int> closes;
  std::vector<SlotOpen> opens;
  std::vector<PageCopy> copies;
  std::vector<PageUpdate> pages;
  std::vector<Slice> slices;
  bool empty() const { return slices.empty() && closes.empty() && opens.empty() && copies.empty(); }
};

struct SlotResult {
  int slot = 0;
  std::vector<TokenId> tokens;                    ///< sampled, in order
  std::vector<PositionLogprobs> logprobs;         ///< per token, if the slot asked
  std::vector<PositionLogprobs> prompt_logprobs;  ///< of the slice's [prompt_logprob_begin, prompt_logprob_end)
  std::optional<Error> failure;  ///< the slot's sequence cannot go on (its form cannot be kept): it ends with this
};

struct StepResult {
  int64_t id = 0;
  /// In slice order: per slice its sample_slots in their order; a slice without any that wants prompt log-probabilities
  /// has one entry of its own slot. A slice's prompt_logprobs are in its first entry.
  std::vector<SlotResult> slots;
};

/// Engine thread only.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual const RunnerInfo& info() const = 0;
  /// Starts a step; returns at once.
  virtual void launch(Step step) = 0;
  /// Waits for the oldest launched step. Calling it with none in flight is a programmer error. Errors: kUnavailable,
  /// the device has failed: this step and all others are lost, and the runner is good for nothing but its destructor.
  virtual Result<StepResult> take() = 0;
  /// The oldest step in flight is done or lost, so that take() would not wait.
  virtual bool ready() const = 0;
};

}  // namespace carat

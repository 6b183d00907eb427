#pragma once
// What the engine knows about a request while it is being served. Engine thread only.

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "engine/request.h"
#include "kv/page_table.h"

namespace carat {

struct RequestState;

/// One sample of a request: one run through the model.
struct Sequence {
  enum class State {
    kAttached,  ///< waits for its leader's prefill, to fork from it
    kWaiting,   ///< in the queue; nothing is held
    kPrefill,   ///< has a slot and pages; part of its tokens is still to be launched
    kDecode,    ///< all known tokens are launched; goes on by what it samples
    kDraining,  ///< finished, but steps in flight still name its slot and pages
    kDone,
  };

  Sequence(RequestState* owner, int sample_index, int page_tokens)
      : request(owner), sample(sample_index), full(page_tokens), sliding(page_tokens) {}

  RequestState* request;
  int sample;
  State state = State::kAttached;
  bool resumed = false;     ///< was preempted
  uint64_t policy_key = 0;  ///< its place in the queue, smaller first, where the policy is not arrival

  /// Prompt and what was generated, from the first admission on.
  std::vector<TokenId> tokens;
  int slot = -1;
  bool opened = false;  ///< the runner knows the slot: from the first slice on
  int cached_length = 0;
  PageTable full, sliding;
  /// What the runner has been told of the tables.
  int full_sent = 0, sliding_sent = 0, sliding_dropped = 0;

  int known = 0;              ///< positions whose K/V was computed by steps that are done
  int launched = 0;           ///< kPrefill: the same with steps in flight
  int steps_in_flight = 0;    ///< that name this sequence
  int pending_prefill = 0;    ///< of those: sampling prefills (one token to come) ...
  int pending_decodes = 0;    ///< ... and decodes (one token or more to come)
  int branch_point = 0;       ///< the cache knows the tokens up to here but not their window: worth a checkpoint
  bool long_prefill = false;  ///< holds one of the chunk slots
  bool first_event = true;

  int num_generated() const;
  /// prompt and generated tokens, also before the first admission.
  std::span<const TokenId> content() const;
  bool running() const { return state == State::kPrefill || state == State::kDecode; }
};

using RequestList = std::list<std::unique_ptr<RequestState>>;

struct RequestState {
  RequestList::iterator self;
  Request request;
  uint64_t order = 0;  ///< of arrival
  uint64_t seed = 0;
  int limit = 0;  ///< new tokens per sample at most: the request's, the context's and the pools' together
  std::shared_ptr<const std::vector<TokenId>> prompt;
  std::shared_ptr<const std::vector<MediaSpan>> media;  ///< null: none
  std::vector<TokenId> cache_ids;                       ///< the prompt as the prefix cache knows it, if it has media
  std::vector<std::unique_ptr<Sequence>> samples;
  int num_unfinished = 0;
  int num_released = 0;  ///< samples that are kDone
  RequestStats stats;
  bool admitted = false;  ///< some sample has been
  bool has_news = false;  ///< its reader is to be woken at the end of the turn

  std::vector<PositionLogprobs> prompt_logprobs;
  int prompt_logprobs_launched = 0;  ///< prompt positions below this one are done, in flight or not wanted

  int prompt_size() const { return static_cast<int>(prompt->size()); }
  bool prompt_logprobs_missing() const { return prompt_logprobs_launched < prompt_size(); }
};

inline int Sequence::num_generated() const {
  return tokens.empty() ? 0 : static_cast<int>(tokens.size()) - request->prompt_size();
}
inline std::span<const TokenId> Sequence::content() const {
  return tokens.empty() ? std::span<const TokenId>(*request->prompt) : std::span<const TokenId>(tokens);
}

/// Whom to serve first when pages or slots are short: higher priority, then earlier arrival. The last in this order is
/// the first to be preempted.
inline bool more_important(const Sequence& a, const Sequence& b, bool by_priority) {
  const int pa = by_priority ? a.request->request.priority : 0, pb = by_priority ? b.request->request.priority : 0;
  if (pa != pb) return pa > pb;
  if (a.request->order != b.request->order) return a.request->order < b.request->order;
  return a.sample < b.sample;
}

}  // namespace carat

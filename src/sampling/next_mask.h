#pragma once
// A constrained sequence's mask of its next position: made ahead, while the logits that it restricts are computed.

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "sampling/constraint.h"

namespace carat {

/// A constraint and the memory of its mask. Movable. One thread at a time.
class NextMask {
 public:
  /// `memory` [ceil(V / 32)] outlives this.
  NextMask(TokenConstraint constraint, std::span<uint32_t> memory)
      : constraint_(std::move(constraint)), memory_(memory) {}

  /// Computes the mask, unless that has been done since the last accept().
  void prepare() {
    if (state_ == State::kUnknown) state_ = constraint_.fill_mask(memory_) ? State::kMask : State::kFree;
  }
  /// After prepare(): what is possible next; empty if nothing is restricted.
  std::span<const uint32_t> mask() const { return state_ == State::kMask ? memory_ : std::span<uint32_t>(); }
  void accept(TokenId token) {
    constraint_.accept(token);
    state_ = State::kUnknown;
  }
  /// As TokenConstraint's.
  std::optional<Error> failure() const { return constraint_.failure(); }

 private:
  enum class State : uint8_t { kUnknown, kFree, kMask };

  TokenConstraint constraint_;
  std::span<uint32_t> memory_;
  State state_ = State::kUnknown;
};

}  // namespace carat

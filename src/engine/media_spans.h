#pragma once
// Arithmetic on the media of a prompt, for the engine and its runners. Spans ascend and do not overlap.

#include <cstdint>
#include <span>
#include <vector>

#include "base/encoder_input.h"
#include "base/token.h"

namespace carat {

/// One past the span's last position.
inline int end_of(const MediaSpan& span) { return span.begin + span.input->num_tokens; }

/// Whether the span's soft tokens see each other where a model has that: images and frames do, sound does not.
inline bool is_block(const MediaSpan& span) { return span.input->kind != EncoderInput::Kind::kAudio; }

/// Spans that have positions in [begin, end).
std::span<const MediaSpan> spans_within(std::span<const MediaSpan> media, int begin, int end);

/// The largest end, at most `end`, of a slice from `begin` that ends inside no block; `begin` if there is none.
int uncut_end(std::span<const MediaSpan> media, int begin, int end);

/// Positions that a slice from `begin` must have at least to end inside no block: the rest of a block, or 1.
int smallest_slice(std::span<const MediaSpan> media, int begin);

/// The prompt as the prefix cache is to know it: ids at media positions say which content and which place in it. They
/// are negative, and as hard to foresee as the content's hash.
std::vector<TokenId> cache_ids(std::span<const TokenId> prompt, std::span<const MediaSpan> media);

}  // namespace carat

#include "api/media_prompt.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/str.h"

namespace carat {
namespace {

constexpr std::array kKinds = {MediaKind::kImage, MediaKind::kAudio, MediaKind::kVideo};

std::optional<TokenId> soft_token(MediaKind kind, const MediaTokenIds& tokens) {
  switch (kind) {
    case MediaKind::kImage:
      return tokens.image;
    case MediaKind::kAudio:
      return tokens.audio;
    case MediaKind::kVideo:
      return tokens.video;
  }
  return std::nullopt;
}

std::vector<size_t> positions_of(std::span<const TokenId> ids, std::optional<TokenId> token) {
  std::vector<size_t> out;
  for (size_t i = 0; i < ids.size() && token; ++i)
    if (ids[i] == *token) out.push_back(i);
  return out;
}

/// `open`, `soft` some times, `close` becomes `soft` once.
void collapse_runs(std::vector<TokenId>& ids, std::optional<TokenId> open, std::optional<TokenId> soft,
                   std::optional<TokenId> close) {
  if (!open || !soft || !close) return;
  size_t out = 0;
  for (size_t i = 0; i < ids.size();) {
    size_t end = i + 1;
    if (ids[i] == *open)
      while (end < ids.size() && ids[end] == *soft) ++end;
    if (end > i + 1 && end < ids.size() && ids[end] == *close) {
      ids[out++] = *soft;
      i = end + 1;
    } else {
      ids[out++] = ids[i++];
    }
  }
  ids.resize(out);
}

/// "01:07": minutes and seconds, as many minutes as there are.
std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  char text[32];
  std::snprintf(text, sizeof text, "%02lld:%02lld", static_cast<long long>(whole / 60),
                static_cast<long long>(whole % 60));
  return text;
}

class Expander {
 public:
  Expander(const MediaTokenIds& tokens, const Tokenizer& tokenizer) : tokens_(tokens), tokenizer_(tokenizer) {}

  void add(std::span<const TokenId> ids) { out_.ids.insert(out_.ids.end(), ids.begin(), ids.end()); }

  void add(MediaKind kind, const LoadedMedium& medium) {
    switch (kind) {
      case MediaKind::kImage:
        return block(tokens_.boi, tokens_.image, tokens_.eoi, medium.inputs.front());
      case MediaKind::kAudio:
        return block(tokens_.boa, tokens_.audio, tokens_.eoa, medium.inputs.front());
      case MediaKind::kVideo:
        break;
    }
    for (size_t i = 0; i < medium.inputs.size(); ++i) {
      // Digits are pieces of their own, so that the text before does not change how these are cut.
      add(tokenizer_.encode(str_cat(i > 0 ? " " : "", clock_text(medium.seconds[i]), " "), false));
      block(tokens_.boi, tokens_.video, tokens_.eoi, medium.inputs[i]);
    }
  }

  ExpandedPrompt take() { return std::move(out_); }

 private:
  void block(std::optional<TokenId> open, std::optional<TokenId> soft, std::optional<TokenId> close,
             const std::shared_ptr<const EncoderInput>& input) {
    out_.ids.push_back(open.value());
    out_.media.push_back({static_cast<int>(out_.ids.size()), input});
    out_.ids.insert(out_.ids.end(), static_cast<size_t>(input->num_tokens), soft.value());
    out_.ids.push_back(close.value());
  }

  const MediaTokenIds& tokens_;
  const Tokenizer& tokenizer_;
  ExpandedPrompt out_;
};

}  // namespace

Result<PromptTokens> place_chat_media(std::vector<TokenId> ids, const RenderedPrompt& prompt, size_t num_media,
                                      const MediaTokenIds& tokens) {
  PromptTokens out{std::move(ids), {}};
  const size_t placed = prompt.media.size();
  if (placed < num_media)
    return Error{Errc::kInvalidArgument,
                 str_cat(num_media - placed, " of the request's ", num_media,
                         " media have no place in the prompt: system messages and results of no call show none.")};
  if (num_media == 0) return out;
  // Of each kind: how often it is spelled before the text position that was reached, and where its ids are.
  struct Spelled {
    size_t from = 0, count = 0;
    std::vector<size_t> positions;
  };
  std::array<Spelled, kKinds.size()> spelled;
  for (size_t i = 0; i < kKinds.size(); ++i)
    spelled[i].positions = positions_of(out.ids, soft_token(kKinds[i], tokens));
  for (const RenderedMedia& media : prompt.media) {
    Spelled& s = spelled[static_cast<size_t>(media.part.kind)];
    const std::string_view word = placeholder(media.part.kind);
    size_t at = prompt.text.find(word, s.from);
    for (; at < media.offset; at = prompt.text.find(word, at + word.size())) ++s.count;
    if (s.count >= s.positions.size())
      return Error{Errc::kUnsupported, str_cat("This model's tokenizer does not know ", word, ".")};
    out.media.push_back({media.part, s.positions[s.count++]});
    s.from = at + word.size();
  }
  return out;
}

Result<PromptTokens> place_media(std::vector<TokenId> ids, std::span<const MediaPart> media,
                                 const MediaTokenIds& tokens) {
  PromptTokens out{std::move(ids), {}};
  if (media.empty()) return out;
  collapse_runs(out.ids, tokens.boi, tokens.image, tokens.eoi);
  collapse_runs(out.ids, tokens.boa, tokens.audio, tokens.eoa);
  for (const MediaKind kind : kKinds) {
    const auto positions = positions_of(out.ids, soft_token(kind, tokens));
    size_t used = 0;
    for (const MediaPart& part : media) {
      if (part.kind != kind) continue;
      if (used < positions.size()) out.media.push_back({part, positions[used]});
      ++used;
    }
    if (used != positions.size())
      return Error{Errc::kInvalidArgument, str_cat("The prompt has ", positions.size(), " ", placeholder(kind),
                                                   " placeholders for ", used, " ", to_string(kind), " inputs.")};
  }
  std::sort(out.media.begin(), out.media.end(),
            [](const PlacedMedium& a, const PlacedMedium& b) { return a.position < b.position; });
  return out;
}

ExpandedPrompt expand_media(const PromptTokens& prompt, std::span<const LoadedMedium> loaded,
                            const MediaTokenIds& tokens, const Tokenizer& tokenizer) {
  Expander expander(tokens, tokenizer);
  size_t done = 0;
  const std::span ids(prompt.ids);
  for (size_t i = 0; i < prompt.media.size(); ++i) {
    const size_t position = prompt.media[i].position;
    expander.add(ids.subspan(done, position - done));
    expander.add(prompt.media[i].part.kind, loaded[i]);
    done = position + 1;
  }
  expander.add(ids.subspan(done));
  return expander.take();
}

}  // namespace carat

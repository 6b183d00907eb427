// Stop strings and tokens from bytes: what a stream tells must not depend on where it was cut.
// Bytes: flags, number of stop strings, these with their lengths, a cut, then one token each.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "output/text_stream.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

const Tokenizer& tokenizer() {
  static const auto built = [] {
    const std::vector<std::string> pieces = {"a", "b", "ab", "aba", "▁", "é", "STOP", "<|turn>", "<turn|>"};
    Json json = testing::make_tokenizer_json(pieces, {});
    for (const char* special : {"<|turn>", "<turn|>"})
      json.find("added_tokens")
          ->push_back(Json::object(
              {{"id", *json.find("model")->find("vocab")->find(special)}, {"content", special}, {"special", true}}));
    return std::move(*Tokenizer::parse(json.dump(), ""));
  }();
  return *built;
}

struct Told {
  std::string text;
  std::vector<TokenId> markers;
  std::vector<size_t> places;
  int num_tokens = 0;
  std::optional<std::string> stop;
  bool operator==(const Told&) const = default;
};

void add(Told& told, const TextStream::Delta& delta) {
  for (const auto& marker : delta.markers) {
    told.markers.push_back(marker.id);
    told.places.push_back(told.text.size() + marker.offset);
  }
  told.text += delta.text;
  told.num_tokens += delta.num_tokens;
  if (delta.matched_stop) told.stop = delta.matched_stop;
}

Told run(const TextOptions& options, std::span<const TokenId> tokens, size_t cut) {
  TextStream stream(tokenizer(), options);
  Told told;
  add(told, stream.push(tokens.first(cut)));
  if (!told.stop) add(told, stream.push(tokens.subspan(cut)));
  if (!told.stop) add(told, stream.finish());
  return told;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  size_t at = 0;
  const auto next = [&] { return at < size ? data[at++] : uint8_t{0}; };
  const uint8_t flags = next();
  TextOptions options;
  options.skip_special_tokens = flags & 1;
  options.no_stop_trim = flags & 2;
  if (flags & 4) options.markers.push_back(*tokenizer().find("<|turn>"));
  for (size_t i = 0, n = next() % 5; i < n; ++i) {
    std::string stop;
    for (size_t k = 0, length = 1 + next() % 8; k < length; ++k) stop += static_cast<char>(next());
    options.stop.push_back(to_valid_utf8(stop));
  }
  CARAT_CHECK(validate(options).has_value(), "stop strings of a few bytes are valid");
  const size_t cut = next();
  std::vector<TokenId> tokens;
  while (at < size) {
    const uint8_t byte = next();  // byte tokens, then the other pieces and a few ids beyond them
    tokens.push_back(byte < 192 ? 4 + byte : 260 + byte % 12);
  }
  const Told whole = run(options, tokens, tokens.size());
  CARAT_CHECK(whole == run(options, tokens, std::min(cut, tokens.size())), "the text depends on where it was cut");
  CARAT_CHECK(is_valid_utf8(whole.text), "half a character was told");
  return 0;
}

}  // namespace carat

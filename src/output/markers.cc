#include "output/markers.h"

#include <algorithm>

namespace carat {
namespace {

constexpr std::array<std::string_view, kNumMarkers> kSpellings = {
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"};

}  // namespace

std::string_view spelling(Marker marker) { return kSpellings[static_cast<size_t>(marker)]; }

size_t find_marker(std::string_view marked, size_t from) {
  const auto found = std::find_if(marked.begin() + static_cast<ptrdiff_t>(std::min(from, marked.size())), marked.end(),
                                  is_marker_byte);
  return found == marked.end() ? std::string_view::npos : static_cast<size_t>(found - marked.begin());
}

void append_spelled(std::string& out, std::string_view marked) {
  while (true) {
    const size_t at = find_marker(marked);
    out += marked.substr(0, at);
    if (at == std::string_view::npos) return;
    out += spelling(to_marker(marked[at]));
    marked.remove_prefix(at + 1);
  }
}

std::string spelled(std::string_view marked) {
  std::string out;
  append_spelled(out, marked);
  return out;
}

MarkerIds::MarkerIds(const Tokenizer& tokenizer) {
  for (size_t i = 0; i < kSpellings.size(); ++i) ids_[i] = tokenizer.find(kSpellings[i]);
  for (const std::string_view bound : {"<channel|>", "<|turn>", "<turn|>", "<tool_response|>"})
    if (const auto id = tokenizer.find(bound)) thought_bounds_.push_back(*id);
}

std::vector<TokenId> MarkerIds::all() const {
  std::vector<TokenId> ids;
  for (const auto& id : ids_)
    if (id) ids.push_back(*id);
  return ids;
}

void MarkerIds::append_marked(std::string& out, const TextStream::Delta& delta) const {
  size_t at = 0;
  for (const TextStream::Marker& found : delta.markers) {
    out.append(delta.text, at, found.offset - at);
    at = found.offset;
    const auto marker = std::find(ids_.begin(), ids_.end(), found.id);
    if (marker != ids_.end()) out += to_byte(static_cast<Marker>(marker - ids_.begin()));
  }
  out.append(delta.text, at);
}

bool MarkerIds::ends_in_thought(std::span<const TokenId> prompt) const {
  const auto open = id(Marker::kChannelOpen);
  if (!open) return false;
  for (auto token = prompt.rbegin(); token != prompt.rend(); ++token) {
    if (*token == *open) return true;
    if (std::find(thought_bounds_.begin(), thought_bounds_.end(), *token) != thought_bounds_.end()) return false;
  }
  return false;
}

void MarkerScanner::push(std::string_view text, std::string& marked) {
  held_ += text;
  const std::string_view all = held_;
  size_t at = 0;
  while (true) {
    const size_t open = all.find('<', at);
    marked += all.substr(at, open - at);
    if (open == std::string_view::npos) return held_.clear();
    const std::string_view rest = all.substr(open);
    at = open;
    for (size_t i = 0; i < kSpellings.size() && at == open; ++i) {
      if (rest.starts_with(kSpellings[i])) {
        marked += to_byte(static_cast<Marker>(i));
        at += kSpellings[i].size();
      } else if (kSpellings[i].starts_with(rest)) {
        held_.erase(0, open);
        return;
      }
    }
    if (at == open) marked += all[at++];
  }
}

void MarkerScanner::finish(std::string& marked) {
  marked += held_;
  held_.clear();
}

}  // namespace carat

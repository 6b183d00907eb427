#include "output/stop_regex.h"

#include <re2/re2.h>

#include <algorithm>
#include <charconv>

#include "base/str.h"

namespace carat {
namespace {

/// Of each expression, its program and RE2's caches.
constexpr int64_t kMaxMemory = 512 << 10;
/// Of an expression for beginnings; its length grows with the nesting of the original.
constexpr size_t kMaxPrefixBytes = 64 << 10;

bool inside_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

/// Reads a pattern that RE2 has accepted, and writes one for the beginnings of its matches.
class PrefixWriter {
 public:
  explicit PrefixWriter(std::string_view pattern) : rest_(pattern) {}

  std::optional<std::string> write() {
    const std::string_view flags = leading_flags();
    auto item = alternation();
    if (!item || !rest_.empty()) return std::nullopt;
    return str_cat(flags, item->prefix);
  }

 private:
  /// A part of the pattern, and what matches all beginnings of its matches.
  struct Item {
    std::string whole, prefix;
  };

  /// "(?i)" in front of everything.
  std::string_view leading_flags() {
    if (!rest_.starts_with("(?")) return {};
    const size_t end = rest_.find_first_of(":)<P", 2);
    return end != std::string_view::npos && rest_[end] == ')' ? take(end + 1) : std::string_view();
  }

  std::optional<Item> alternation() {
    Item all;
    while (true) {
      auto branch = sequence();
      if (!branch) return std::nullopt;
      all.whole += branch->whole;
      all.prefix += branch->prefix;
      if (!rest_.starts_with('|')) break;
      take(1);
      all.whole += '|';
      all.prefix += '|';
    }
    all.prefix = str_cat("(?:", all.prefix, ")");
    return all;
  }

  /// Beginnings of "abc": those of a, or a and those of "bc".
  std::optional<Item> sequence() {
    std::vector<Item> items;
    while (!rest_.empty() && rest_[0] != '|' && rest_[0] != ')') {
      auto item = repeated();
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
    }
    Item all;
    for (size_t i = items.size(); i-- > 0;) {
      all.whole = items[i].whole + all.whole;
      all.prefix = i + 1 == items.size() ? items[i].prefix
                                         : str_cat("(?:", items[i].prefix, "|", items[i].whole, all.prefix, ")");
      if (all.prefix.size() > kMaxPrefixBytes) return std::nullopt;
    }
    return all;
  }

  struct Repeat {
    std::string_view text;
    std::optional<int> most;  ///< absent: no end
  };

  std::optional<Item> repeated() {
    auto item = atom();
    if (!item) return std::nullopt;
    const auto repeat = quantifier();
    if (!repeat) return item;
    const std::string& one = item->whole;
    std::string prefix;
    if (!repeat->most)
      prefix = str_cat(one, "*", item->prefix);
    else if (*repeat->most > 1)
      prefix = str_cat(one, "{0,", *repeat->most - 1, "}", item->prefix);
    else if (*repeat->most == 1)
      prefix = item->prefix;
    return Item{str_cat(one, repeat->text), std::move(prefix)};
  }

  std::optional<Repeat> quantifier() {
    Repeat repeat;
    if (rest_.empty()) return std::nullopt;
    if (rest_[0] == '*' || rest_[0] == '+') {
      repeat.text = take(1);
    } else if (rest_[0] == '?') {
      repeat = {take(1), 1};
    } else if (rest_[0] == '{') {
      const size_t end = rest_.find('}');
      const std::string_view inside = rest_.substr(1, end == std::string_view::npos ? 0 : end - 1);
      const size_t comma = inside.find(',');
      const std::string_view last = comma == std::string_view::npos ? inside : inside.substr(comma + 1);
      if (!is_number(inside.substr(0, comma)) || !(last.empty() || is_number(last))) return std::nullopt;
      if (!last.empty()) {
        int64_t most = 0;
        parse_int(last, most);
        repeat.most = static_cast<int>(most);
      }
      repeat.text = take(end + 1);
    } else {
      return std::nullopt;
    }
    if (rest_.starts_with('?')) take(1);  // which of the matches is taken does not matter
    return repeat;
  }

  static bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  }

  std::optional<Item> atom() {
    switch (rest_[0]) {
      case '(':
        return group();
      case '[':
        return one_of(character_class());
      case '\\':
        return escape();
      case '^':
      case '$':
        return Item{std::string(take(1)), ""};
      default:
        return one_of(take(character_size()));
    }
  }

  /// Something that matches one character.
  static std::optional<Item> one_of(std::string_view text) {
    if (text.empty()) return std::nullopt;
    return Item{std::string(text), str_cat(text, "?")};
  }

  size_t character_size() const {
    size_t size = 1;
    while (size < rest_.size() && inside_character(rest_[size])) ++size;
    return size;
  }

  std::optional<Item> group() {
    std::string_view head = "(?:";
    if (rest_.starts_with("(?P<") || rest_.starts_with("(?<")) {
      take(std::min(rest_.find('>') + 1, rest_.size()));
    } else if (rest_.starts_with("(?")) {
      const size_t end = rest_.find_first_of(":)");
      if (end == std::string_view::npos || rest_[end] == ')') return std::nullopt;  // flags for what follows
      head = take(end + 1);
    } else {
      take(1);
    }
    auto inner = alternation();
    if (!inner || !rest_.starts_with(')')) return std::nullopt;
    take(1);
    return Item{str_cat(head, inner->whole, ")"), str_cat(head, inner->prefix, ")")};
  }

  std::string_view character_class() {
    size_t at = rest_.starts_with("[^") ? 2 : 1;
    if (at < rest_.size() && rest_[at] == ']') ++at;
    while (at < rest_.size() && rest_[at] != ']') {
      if (rest_[at] == '\\') {
        at += 2;
      } else if (rest_.substr(at).starts_with("[:")) {
        const size_t end = rest_.find(":]", at + 2);
        at = end == std::string_view::npos ? at + 1 : end + 2;
      } else {
        ++at;
      }
    }
    return at < rest_.size() ? take(at + 1) : std::string_view();
  }

  std::optional<Item> escape() {
    if (rest_.size() < 2) return std::nullopt;
    const char c = rest_[1];
    if (c == 'Q' || c == 'E') return std::nullopt;
    if (c == 'b' || c == 'B' || c == 'A' || c == 'z') return Item{std::string(take(2)), ""};
    size_t size = 2;
    if (c == 'p' || c == 'P' || c == 'x') {
      const bool braces = rest_.size() > 2 && rest_[2] == '{';
      size = braces ? rest_.find('}') + 1 : (c == 'x' ? 4 : 3);
    } else if (c >= '0' && c <= '7') {
      while (size < std::min<size_t>(rest_.size(), 4) && rest_[size] >= '0' && rest_[size] <= '7') ++size;
    }
    return one_of(take(std::min(size, rest_.size())));
  }

  std::string_view take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view rest_;
};

re2::RE2::Options options() {
  re2::RE2::Options out(re2::RE2::Quiet);
  out.set_max_mem(kMaxMemory);
  return out;
}

}  // namespace

std::optional<std::string> prefix_pattern(std::string_view pattern) { return PrefixWriter(pattern).write(); }

struct StopRegexes::Compiled {
  struct One {
    std::unique_ptr<re2::RE2> whole;
    std::unique_ptr<re2::RE2> prefix;  ///< anchored at the end; null: any text may become a match
  };
  std::vector<One> list;
};

StopRegexes::StopRegexes() : compiled_(std::make_unique<Compiled>()) {}
StopRegexes::~StopRegexes() = default;

Result<std::shared_ptr<const StopRegexes>> StopRegexes::compile(const std::vector<std::string>& patterns) {
  const auto bad = [](std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; };
  if (patterns.size() > kMaxCount)
    return bad(str_cat("at most ", kMaxCount, " stop_regex patterns are allowed, got ", patterns.size()));
  std::shared_ptr<StopRegexes> out(new StopRegexes);
  for (const std::string& pattern : patterns) {
    if (pattern.size() > kMaxBytes)
      return bad(str_cat("stop_regex is ", pattern.size(), " bytes, over the ", kMaxBytes, "-byte limit"));
    Compiled::One one{std::make_unique<re2::RE2>(pattern, options()), nullptr};
    if (!one.whole->ok()) return bad(str_cat("stop_regex '", pattern, "' is not supported: ", one.whole->error()));
    if (const auto prefix = prefix_pattern(pattern)) {
      one.prefix = std::make_unique<re2::RE2>(str_cat(*prefix, "\\z"), options());
      if (!one.prefix->ok()) one.prefix.reset();  // too large
    }
    out->compiled_->list.push_back(std::move(one));
  }
  out->patterns_ = patterns;
  return std::shared_ptr<const StopRegexes>(std::move(out));
}

std::optional<StopRegexes::Match> StopRegexes::find(std::string_view text, size_t from) const {
  re2::StringPiece found;
  for (size_t i = 0; i < compiled_->list.size(); ++i)
    if (compiled_->list[i].whole->Match(re2::StringPiece(text.data(), text.size()), from, text.size(),
                                        re2::RE2::UNANCHORED, &found, 1))
      return Match{i, static_cast<size_t>(found.data() - text.data())};
  return std::nullopt;
}

size_t StopRegexes::undecided(std::string_view text, size_t from) const {
  re2::StringPiece found;
  size_t first = text.size();
  for (const Compiled::One& one : compiled_->list) {
    if (!one.prefix) return from;
    if (one.prefix->Match(re2::StringPiece(text.data(), text.size()), from, text.size(), re2::RE2::UNANCHORED, &found,
                          1))
      first = std::min(first, static_cast<size_t>(found.data() - text.data()));
  }
  return first;
}

std::optional<StopRegexSearch::Match> StopRegexSearch::feed(std::string_view piece) {
  window_ += piece;
  if (const auto match = regexes_->find(window_, from_))
    return Match{regexes_->pattern(match->regex), window_.size() - match->begin};
  from_ = regexes_->undecided(window_, from_);
  if (num_held() > StopRegexes::kMaxHeld) from_ = window_.size() - StopRegexes::kMaxHeld;
  while (from_ < window_.size() && inside_character(window_[from_])) ++from_;
  size_t context = from_;
  while (context > 0 && inside_character(window_[--context])) {
  }
  window_.erase(0, context);
  from_ -= context;
  return std::nullopt;
}

}  // namespace carat

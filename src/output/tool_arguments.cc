#include "output/tool_arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "base/utf8.h"
#include "output/markers.h"

namespace carat {
namespace {

constexpr char kQuoteByte = to_byte(Marker::kQuote);
constexpr size_t kNone = std::string_view::npos;
/// Integers with more digits stay text, since JSON readers refuse them (Python's, ours).
constexpr size_t kMaxIntegerDigits = 4300;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Drops digits from the front of `text`; how many.
size_t take_digits(std::string_view& text) {
  size_t n = 0;
  while (n < text.size() && is_digit(text[n])) ++n;
  text.remove_prefix(n);
  return n;
}

void take_sign(std::string_view& text) {
  if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
}

/// [+-]?digits, with single underscores between digits.
bool is_integer(std::string_view text) {
  take_sign(text);
  while (take_digits(text) > 0) {
    if (text.empty()) return true;
    if (text[0] != '_') return false;
    text.remove_prefix(1);
  }
  return false;
}

/// [+-]?(digits.digits? | .digits)(e[+-]?digits)?
bool is_number(std::string_view text) {
  take_sign(text);
  size_t num_digits = take_digits(text);
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    num_digits += take_digits(text);
  }
  if (num_digits == 0) return false;
  if (text.empty()) return true;
  if (text[0] != 'e' && text[0] != 'E') return false;
  text.remove_prefix(1);
  take_sign(text);
  return take_digits(text) > 0 && text.empty();
}

bool is_scalar(std::string_view text) {
  text = strip_unicode(text);
  return text == "true" || text == "false" || text == "null" || is_number(text);
}

Json integer_value(std::string_view text) {
  std::string digits(text.starts_with('-') ? "-" : "");
  take_sign(text);
  while (!text.empty() && (text[0] == '0' || text[0] == '_')) text.remove_prefix(1);
  std::copy_if(text.begin(), text.end(), std::back_inserter(digits), is_digit);
  if (text.empty()) return 0;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc()) return value;
  return Json::BigInt{std::move(digits)};
}

std::optional<double> finite_value(std::string_view text) {
  const double value = std::strtod(std::string(text).c_str(), nullptr);
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

bool is_text(const Json* schema) {
  const Json* type = schema ? schema->find("type") : nullptr;
  return type && type->is_string() && type->as_string() == "string";
}

/// `marked`: without surrounding space.
Json bare_value(std::string_view marked, const Json* schema) {
  if (is_text(schema)) return spelled(marked);
  if (marked == "true") return true;
  if (marked == "false") return false;
  if (marked == "null") return nullptr;
  if (is_integer(marked) && marked.size() <= kMaxIntegerDigits) return integer_value(marked);
  if (!is_integer(marked) && is_number(marked))
    if (const auto value = finite_value(marked)) return *value;
  return spelled(marked);
}

std::optional<uint32_t> read_hex4(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return std::nullopt;
  uint32_t value = 0;
  const char* const end = text.data() + at + 4;
  return std::from_chars(text.data() + at, end, value, 16).ptr == end ? std::optional(value) : std::nullopt;
}

/// The character of an escape \uXXXX whose digits begin at `at`, and of the one after it if the two are a surrogate
/// pair. Moves `at` behind.
std::optional<char32_t> read_unicode_escape(std::string_view text, size_t& at) {
  const auto high = read_hex4(text, at);
  if (!high) return std::nullopt;
  at += 4;
  if (*high < 0xD800 || *high >= 0xDC00 || text.substr(at, 2) != "\\u") return *high;
  const auto low = read_hex4(text, at + 2);
  if (!low || *low < 0xDC00 || *low >= 0xE000) return *high;
  at += 6;
  return 0x10000 + ((*high - 0xD800) << 10) + (*low - 0xDC00);
}

/// What stands between the quotes of a JSON string; control characters may be bare.
std::optional<std::string> decode_json_string(std::string_view text) {
  static constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    if (++at == text.size()) return std::nullopt;
    const char escape = text[at++];
    if (escape == 'u') {
      const auto c = read_unicode_escape(text, at);
      if (!c) return std::nullopt;
      append_utf8(out, *c);
    } else if (const size_t which = kEscapes.find(escape); which != kNone) {
      out += kMeanings[which];
    } else {
      return std::nullopt;
    }
  }
  return out;
}

/// What stands between the quotes of a Python string, as far as quotes and backslashes go.
std::string decode_python_string(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 1 < text.size() && (text[at + 1] == '\'' || text[at + 1] == '\\')) ++at;
    out += text[at];
  }
  return out;
}

/// Where `text` ends in ", key:" the place of the comma: before a quote this means that a closing one was forgotten.
std::optional<size_t> find_next_key(std::string_view text) {
  const auto is_key_char = [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '$' || c == '.' || c == '-' ||
           (static_cast<unsigned char>(c) >= 0x80 && !is_marker_byte(c));
  };
  const size_t comma = text.rfind(',');
  if (comma == kNone) return std::nullopt;
  std::string_view key = strip_unicode(text.substr(comma + 1));
  if (key.empty() || (key.back() != ':' && key.back() != '=')) return std::nullopt;
  key = rstrip_unicode(key.substr(0, key.size() - 1));
  if (key.empty() || !(is_letter(key[0]) || key[0] == '_' || key[0] == '$')) return std::nullopt;
  return std::all_of(key.begin(), key.end(), is_key_char) ? std::optional(comma) : std::nullopt;
}

}  // namespace

ToolArgumentReader::ToolArgumentReader(const Json* schema, char close) : schema_(schema), close_(close) {
  stack_.push_back({close, schema});
}

ToolArgumentReader::State ToolArgumentReader::read(std::string_view text) {
  text_ = text;
  settle_doubts();
  return run();
}

std::string ToolArgumentReader::read_leniently(std::string_view text, const Json* schema, char close) {
  text = rstrip_unicode(text);
  if (text.ends_with(close)) text.remove_suffix(1);
  ToolArgumentReader reader(schema, close);
  reader.final_ = true;
  return reader.read(text) == State::kMalformed ? "{}" : reader.take_json();
}

ToolArgumentReader::State ToolArgumentReader::run() {
  const auto read_on = [this] {
    switch (mode_) {
      case Mode::kBetween:
        return read_between();
      case Mode::kKey:
        return read_key();
      case Mode::kValue:
        return read_value();
      case Mode::kString:
        return read_string();
      case Mode::kLiteral:
        return read_literal();
      case Mode::kBare:
        return read_bare();
    }
    return false;
  };
  while (!stack_.empty() && !malformed_ && read_on()) {
  }
  if (malformed_) return State::kMalformed;
  return stack_.empty() ? State::kComplete : State::kIncomplete;
}

bool ToolArgumentReader::read_between() {
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (is_space(c) || c == ',') continue;
    if (c == stack_.back().close) {
      stack_.pop_back();
      if (!stack_.empty()) events_.push_back({Event::Kind::kEnd, Json()});
      ++at_;
      return true;
    }
    if (!in_array() && is_closer(c)) continue;  // a stray one
    mode_ = in_array() ? Mode::kValue : Mode::kKey;
    scan_ = at_;
    return true;
  }
  return false;
}

bool ToolArgumentReader::read_key() {
  const char quote = text_[at_];
  if (scan_ == at_ && (quote == kQuoteByte || quote == '"' || quote == '\'')) {
    const size_t closing = text_.find(quote, at_ + 1);
    if (closing == kNone)
      doubt(quote);
    else if (end_quoted_key(closing))
      return true;
  }
  const char close = stack_.back().close;
  while (scan_ < text_.size() && text_[scan_] != ':' && text_[scan_] != '=' && text_[scan_] != close) ++scan_;
  if (scan_ == text_.size()) return false;
  if (text_[scan_] == close) {  // no key at all
    at_ = scan_;
    mode_ = Mode::kBetween;
  } else {
    end_key(strip_unicode(text_.substr(at_, scan_ - at_)), scan_);
  }
  return true;
}

bool ToolArgumentReader::end_quoted_key(size_t closing) {
  const size_t separator = skip_space(closing + 1);
  if (separator == text_.size() || (text_[separator] != ':' && text_[separator] != '=')) return false;
  end_key(text_.substr(at_ + 1, closing - at_ - 1), separator);
  return true;
}

void ToolArgumentReader::end_key(std::string_view key, size_t separator) {
  std::string name = spelled(key);
  Container& object = stack_.back();
  const Json* properties = object.schema ? object.schema->find("properties") : nullptr;
  object.value_schema = properties ? properties->find(name) : nullptr;
  events_.push_back({Event::Kind::kKey, std::move(name)});
  at_ = separator + 1;
  mode_ = Mode::kValue;
}

bool ToolArgumentReader::read_value() {
  at_ = skip_space(at_);
  if (at_ == text_.size()) return false;
  const char c = text_[at_];
  scan_ = at_ + 1;
  if (c == '{') {
    open(Event::Kind::kObject, '}');
  } else if (c == '[') {
    open(Event::Kind::kArray, ']');
  } else if (c == kQuoteByte) {
    mode_ = Mode::kString;
    pieces_.clear();
    piece_at_ = scan_;
  } else if (c == '"' || c == '\'') {
    mode_ = Mode::kLiteral;
  } else {
    mode_ = Mode::kBare;
    scan_ = at_;
  }
  return true;
}

void ToolArgumentReader::open(Event::Kind kind, char close) {
  if (stack_.size() == kMaxDepth) {
    malformed_ = true;
    return;
  }
  const Json* schema = stack_.back().value_schema;
  stack_.push_back({close, schema});
  if (kind == Event::Kind::kArray && schema) stack_.back().value_schema = schema->find("items");
  events_.push_back({kind, Json()});
  ++at_;
  mode_ = Mode::kBetween;
}

bool ToolArgumentReader::read_string() {
  while (true) {
    const size_t quote = text_.find(kQuoteByte, scan_);
    if (quote == kNone) {
      scan_ = text_.size();
      if (final_) add_value(pieces_ + spelled(text_.substr(piece_at_)), scan_);
      return final_;
    }
    const std::string_view piece = text_.substr(piece_at_, quote - piece_at_);
    if (closes_value(quote + 1)) {
      add_value(pieces_ + spelled(piece), quote + 1);
      return true;
    }
    if (const auto comma = find_next_key(piece)) {
      add_value(pieces_ + spelled(piece.substr(0, *comma)), piece_at_ + *comma);
      return true;
    }
    append_spelled(pieces_, piece);
    pieces_ += '"';
    piece_at_ = scan_ = quote + 1;
  }
}

/// A JSON "..." or Python '...' literal, if it ends the value.
bool ToolArgumentReader::read_literal() {
  const char quote = text_[at_];
  while (scan_ < text_.size() && text_[scan_] != quote) scan_ += text_[scan_] == '\\' ? 2 : 1;
  if (scan_ >= text_.size() && !final_) return false;
  if (scan_ < text_.size() && closes_value(scan_ + 1)) {
    const std::string_view inner = text_.substr(at_ + 1, scan_ - at_ - 1);
    const auto value = quote == '"' ? decode_json_string(inner) : decode_python_string(inner);
    if (value) {
      add_value(spelled(*value), scan_ + 1);
      return true;
    }
  }
  mode_ = Mode::kBare;
  scan_ = at_;
  return true;
}

bool ToolArgumentReader::read_bare() {
  const char close = stack_.back().close;
  const auto ends_bare = [close](char c) { return c == ',' || c == '}' || c == ']' || c == close; };
  while (scan_ < text_.size() && !ends_bare(text_[scan_])) ++scan_;
  const std::string_view bare = text_.substr(at_, scan_ - at_);
  const size_t quote = find_quote_marker(at_);
  if (quote == kNone) {
    if (!is_scalar(bare)) doubt(0);
  } else if (lacks_opening_quote(at_, quote) && !is_scalar(bare)) {
    add_value(spelled(text_.substr(at_, quote - at_)), quote + 1);
    return true;
  }
  if (scan_ == text_.size() && !final_) return false;
  if (in_array() && bare.empty()) {  // a stray bracket
    at_ = scan_ + 1;
    mode_ = Mode::kBetween;
  } else {
    add_value(bare_value(strip_unicode(bare), stack_.back().value_schema), scan_);
  }
  return true;
}

void ToolArgumentReader::add_value(Json value, size_t end) {
  events_.push_back({Event::Kind::kValue, std::move(value)});
  at_ = end;
  mode_ = Mode::kBetween;
}

// ---- Doubts. Only the first doubtful bare value since the last quote marker counts, and a quoted key in doubt ends
// the search for its kind of quote: there are four doubts at most. What is done again after one was settled lies behind
// everything that was read before.

void ToolArgumentReader::doubt(char quote) {
  if (final_) return;
  const bool known = std::any_of(doubts_.begin(), doubts_.end(), [quote](const Doubt& d) { return d.quote == quote; });
  if (!known) doubts_.push_back({at_, quote, text_.size(), stack_, events_.size()});
}

void ToolArgumentReader::settle_doubts() {
  for (size_t i = 0; i < doubts_.size();) {
    Doubt& d = doubts_[i];
    const size_t quote = d.quote == 0 ? find_quote_marker(d.at) : text_.find(d.quote, d.searched);
    d.searched = text_.size();
    if (quote == kNone) {
      ++i;
      continue;
    }
    const Doubt settled = std::move(d);
    if (settled.quote == 0 && lacks_opening_quote(settled.at, quote)) {
      return_to(settled, i);
      add_value(spelled(text_.substr(at_, quote - at_)), quote + 1);
      return;
    }
    const size_t next = skip_space(quote + 1);
    if (settled.quote != 0 && next < text_.size() && (text_[next] == ':' || text_[next] == '=')) {
      return_to(settled, i);
      end_quoted_key(quote);
      return;
    }
    doubts_.erase(doubts_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void ToolArgumentReader::return_to(const Doubt& doubt, size_t num_doubts) {
  at_ = doubt.at;
  stack_ = doubt.stack;
  events_.resize(doubt.num_events);
  doubts_.resize(num_doubts);
}

// ---- Text

size_t ToolArgumentReader::skip_space(size_t at) const {
  while (at < text_.size() && is_space(text_[at])) ++at;
  return at;
}

bool ToolArgumentReader::closes_value(size_t at) const {
  at = skip_space(at);
  return at == text_.size() || is_closer(text_[at]);
}

size_t ToolArgumentReader::find_quote_marker(size_t from) {
  if (quote_at_ < quote_scanned_ && quote_at_ >= from) return quote_at_;
  quote_at_ = text_.find(kQuoteByte, std::max(from, quote_scanned_));
  quote_scanned_ = quote_at_ == kNone ? text_.size() : quote_at_ + 1;
  return quote_at_;
}

/// Whether the quote marker at `quote_at` closes what began at `at` without one.
bool ToolArgumentReader::lacks_opening_quote(size_t at, size_t quote_at) {
  if (verdict_.quote_at != quote_at)
    verdict_ = {quote_at, closes_value(quote_at + 1), rstrip_unicode(text_.substr(0, quote_at)).size()};
  return verdict_.closes && verdict_.text_end > at &&
         std::string_view(":=,[{").find(text_[verdict_.text_end - 1]) == kNone;
}

// ---- Result

std::string ToolArgumentReader::take_json() {
  struct Open {
    bool is_array = false;
    JsonArray items;
    JsonObject members;
  };
  std::vector<Open> open(1);
  const auto add = [&open](Json value) {
    if (open.back().is_array)
      open.back().items.push_back(std::move(value));
    else
      open.back().members.back().second = std::move(value);
  };
  const auto close_last = [&open] {
    Open last = std::move(open.back());
    open.pop_back();
    if (last.is_array) return Json(std::move(last.items));
    merge_duplicate_keys(last.members);
    return Json(std::move(last.members));
  };
  for (Event& event : events_) {
    switch (event.kind) {
      case Event::Kind::kObject:
      case Event::Kind::kArray:
        open.push_back({event.kind == Event::Kind::kArray, {}, {}});
        break;
      case Event::Kind::kEnd:
        add(close_last());
        break;
      case Event::Kind::kKey:
        open.back().members.emplace_back(event.value.as_string(), "");  // what a key without value gets
        break;
      case Event::Kind::kValue:
        add(std::move(event.value));
        break;
    }
  }
  while (open.size() > 1) add(close_last());
  return close_last().dump_spaced();
}

}  // namespace carat

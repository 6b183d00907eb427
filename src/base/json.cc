#include "base/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "base/str.h"
#include "base/utf8.h"

namespace carat {

// ---- Values

Json Json::array(std::initializer_list<Json> items) { return Json(JsonArray(items)); }
Json Json::object(std::initializer_list<JsonMember> members) { return Json(JsonObject(members)); }

namespace {
template <class T, class V>
T& get_kind(V& value, std::string_view wanted, std::string_view found) {
  auto* held = std::get_if<std::remove_const_t<T>>(&value);
  CARAT_CHECK(held != nullptr, str_cat("JSON: wanted ", wanted, ", found ", found));
  return *held;
}
double digits_to_double(std::string_view digits) {
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range)
    return digits.starts_with('-') ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  return value;
}
}  // namespace

bool Json::as_bool() const { return get_kind<const bool>(value_, "boolean", kind_name()); }
int64_t Json::as_int() const { return get_kind<const int64_t>(value_, "integer", kind_name()); }
double Json::as_double() const {
  if (const auto* i = std::get_if<int64_t>(&value_)) return static_cast<double>(*i);
  if (const auto* big = std::get_if<BigInt>(&value_)) return digits_to_double(big->digits);
  return get_kind<const double>(value_, "number", kind_name());
}
const std::string& Json::as_string() const { return get_kind<const std::string>(value_, "string", kind_name()); }
const JsonArray& Json::as_array() const { return get_kind<const JsonArray>(value_, "array", kind_name()); }
JsonArray& Json::as_array() { return get_kind<JsonArray>(value_, "array", kind_name()); }
const JsonObject& Json::as_object() const { return get_kind<const JsonObject>(value_, "object", kind_name()); }
JsonObject& Json::as_object() { return get_kind<JsonObject>(value_, "object", kind_name()); }

const Json* Json::find(std::string_view key) const {
  const auto* object = std::get_if<JsonObject>(&value_);
  if (object == nullptr) return nullptr;
  for (const auto& member : *object)
    if (member.first == key) return &member.second;
  return nullptr;
}
Json* Json::find(std::string_view key) { return const_cast<Json*>(std::as_const(*this).find(key)); }

Json& Json::set(std::string_view key, Json value) {
  if (Json* found = find(key)) return *found = std::move(value);
  if (is_null()) value_ = JsonObject();
  return as_object().emplace_back(key, std::move(value)).second;
}
void Json::erase(std::string_view key) {
  if (auto* object = std::get_if<JsonObject>(&value_))
    std::erase_if(*object, [&](const JsonMember& member) { return member.first == key; });
}
void Json::push_back(Json value) {
  if (is_null()) value_ = JsonArray();
  as_array().push_back(std::move(value));
}
size_t Json::size() const {
  if (const auto* array = std::get_if<JsonArray>(&value_)) return array->size();
  if (const auto* object = std::get_if<JsonObject>(&value_)) return object->size();
  return 0;
}

bool Json::truthy() const {
  switch (kind()) {
    case Kind::kNull:
      return false;
    case Kind::kBool:
      return as_bool();
    case Kind::kInt:
      return as_int() != 0;
    case Kind::kBigInt:
      return true;
    case Kind::kDouble:
      return as_double() != 0;
    case Kind::kString:
      return !as_string().empty();
    case Kind::kArray:
    case Kind::kObject:
      return size() != 0;
  }
  return false;
}

std::string_view Json::kind_name() const {
  switch (kind()) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "boolean";
    case Kind::kInt:
    case Kind::kBigInt:
      return "integer";
    case Kind::kDouble:
      return "number";
    case Kind::kString:
      return "string";
    case Kind::kArray:
      return "array";
    case Kind::kObject:
      return "object";
  }
  return "unknown";
}

// ---- Writing

std::string Json::dump() const {
  std::string out;
  append_to(out);
  return out;
}

std::string Json::dump_spaced() const {
  std::string out;
  append_to(out, true);
  return out;
}

void Json::append_to(std::string& out) const { append_to(out, false); }

void Json::append_to(std::string& out, bool spaced) const {
  switch (kind()) {
    case Kind::kNull:
      out += "null";
      return;
    case Kind::kBool:
      out += as_bool() ? "true" : "false";
      return;
    case Kind::kInt:
      str_detail::append(out, as_int());
      return;
    case Kind::kBigInt:
      out += std::get<BigInt>(value_).digits;
      return;
    case Kind::kDouble:
      append_json_double(out, std::get<double>(value_));
      return;
    case Kind::kString:
      append_json_string(out, as_string());
      return;
    case Kind::kArray: {
      std::string_view before = "[";
      for (const Json& item : as_array()) {
        out += std::exchange(before, spaced ? ", " : ",");
        item.append_to(out, spaced);
      }
      out += before == "[" ? "[]" : "]";
      return;
    }
    case Kind::kObject: {
      std::string_view before = "{";
      for (const auto& [key, value] : as_object()) {
        out += std::exchange(before, spaced ? ", " : ",");
        append_json_string(out, key);
        out += spaced ? ": " : ":";
        value.append_to(out, spaced);
      }
      out += before == "{" ? "{}" : "}";
      return;
    }
  }
}

namespace {

constexpr uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;

/// Whether one of 8 bytes must be escaped: the classic "has a byte less than" and "has a zero byte" tests on a word.
bool needs_escape(uint64_t word) {
  const auto less_than = [](uint64_t v, uint64_t bound) { return (v - kOnes * bound) & ~v; };
  return ((less_than(word, 0x20) | less_than(word ^ kOnes * '"', 1) | less_than(word ^ kOnes * '\\', 1)) & kHighs) != 0;
}
bool needs_escape(unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; }

bool is_ascii(std::string_view text) {
  uint64_t seen = 0;
  for (; text.size() >= 8; text.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    seen |= word;
  }
  for (char c : text) seen |= static_cast<unsigned char>(c);
  return (seen & kHighs) == 0;
}

void append_escape(std::string& out, unsigned char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += c < 0x10 ? "\\u000" : "\\u001";
      out += "0123456789abcdef"[c & 0xF];
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  if (!is_ascii(text) && !simdjson::validate_utf8(text)) return append_json_string(out, to_valid_utf8(text));
  out += '"';
  size_t begin = 0;  // text[begin, at) is still to be copied as it is
  for (size_t at = 0; at < text.size();) {
    if (at + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if (!needs_escape(word)) {
        at += 8;
        continue;
      }
    }
    for (const size_t end = std::min(at + 8, text.size()); at < end; ++at) {
      const auto c = static_cast<unsigned char>(text[at]);
      if (!needs_escape(c)) continue;
      out.append(text, begin, at - begin);
      append_escape(out, c);
      begin = at + 1;
    }
  }
  out.append(text, begin);
  out += '"';
}

void append_json_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  // The shortest digits that read back as `value`, laid out by the rule of Python's float.__repr__: plain while
  // 1e-4 <= |value| < 1e16, else with an exponent of at least two digits.
  char buffer[32];
  const char* const end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const char* const mark = std::find(static_cast<const char*>(buffer), end, 'e');
  int exponent = 0;
  std::from_chars(mark + (mark[1] == '+' ? 2 : 1), end, exponent);
  const char* first = buffer;
  if (*first == '-') out += *first++;
  if (exponent < -4 || exponent >= 16) {
    out.append(first, mark);
    out += exponent < 0 ? "e-" : "e+";
    if (std::abs(exponent) < 10) out += '0';
    str_detail::append(out, std::abs(exponent));
    return;
  }
  std::string_view fraction(first + 1, static_cast<size_t>(mark - first - 1));  // digits after the first one
  if (!fraction.empty()) fraction.remove_prefix(1);                             // and after the point
  if (exponent < 0) {
    out += "0.";
    out.append(static_cast<size_t>(-exponent - 1), '0');
    out += *first;
    out += fraction;
    return;
  }
  const size_t whole = std::min(static_cast<size_t>(exponent), fraction.size());
  out += *first;
  out += fraction.substr(0, whole);
  out.append(static_cast<size_t>(exponent) - whole, '0');
  out += '.';
  out += whole == fraction.size() ? "0" : fraction.substr(whole);
}

// ---- Reading

namespace {

/// By comparing each key with each: for small objects.
bool has_duplicate(const JsonObject& object) {
  for (size_t i = 1; i < object.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (object[i].first == object[j].first) return true;
  return false;
}

}  // namespace

void merge_duplicate_keys(JsonObject& object) {
  if (object.size() <= 16 && !has_duplicate(object)) return;
  std::vector<uint32_t> order(object.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const int by_key = object[a].first.compare(object[b].first);
    return by_key != 0 ? by_key < 0 : a < b;
  });
  std::vector<bool> dropped(object.size());
  bool any = false;
  for (size_t i = 0, first = 0; i < order.size(); ++i) {
    if (object[order[i]].first != object[order[first]].first) first = i;
    if (i == first) continue;
    object[order[first]].second = std::move(object[order[i]].second);
    dropped[order[i]] = any = true;
  }
  if (!any) return;
  size_t kept = 0;
  for (size_t i = 0; i < object.size(); ++i)
    if (!dropped[i]) {
      if (kept != i) object[kept] = std::move(object[i]);
      ++kept;
    }
  object.erase(object.begin() + static_cast<std::ptrdiff_t>(kept), object.end());
}

namespace {

namespace ondemand = simdjson::ondemand;

/// Python refuses integers of more digits too; conversion to anything else is quadratic.
constexpr size_t kMaxIntegerDigits = 4300;

/// "-?(0|[1-9][0-9]*)", which is what JSON calls an integer.
bool is_integer_text(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Builds a Json from simdjson's cursor. The first error stops it and is kept with its place.
class Reader {
 public:
  Reader(std::string_view text, std::span<const JsonSink> sinks, int max_depth)
      : text_(text), sinks_(sinks), max_depth_(max_depth) {}

  Result<Json> read() {
    if (!simdjson::validate_utf8(text_))
      return Error{Errc::kInvalidArgument,
                   str_cat("JSON: the text is not valid UTF-8 at ", place(valid_utf8_prefix(text_)))};
    // As the only element of an array a scalar document needs no rules of its own.
    std::string padded;
    padded.reserve(text_.size() + 2 + simdjson::SIMDJSON_PADDING);
    padded.append("[").append(text_).append("]");
    ondemand::parser parser;
    Json wrapped;
    // Two levels more than we allow, so that it is we who refuse, with a clear message.
    if (check(parser.allocate(padded.size(), static_cast<size_t>(max_depth_) + 2)) &&
        check(parser.iterate(padded).get(document_))) {
      base_ = padded.data();
      read_wrapped(wrapped);
    }
    if (error_) return std::move(*error_);
    return std::move(wrapped.as_array().front());
  }

 private:
  void read_wrapped(Json& out) {
    ondemand::array array;
    if (!check(document_.get_array().get(array)) || !convert_array(array, out, 0, nullptr)) return;
    if (out.size() == 0) {
      refuse("the document is empty", text_.size());
    } else if (out.size() > 1 || !document_.at_end()) {
      check(simdjson::TRAILING_CONTENT);
    }
  }

  bool convert(ondemand::value value, Json& out, int depth) {
    ondemand::json_type type{};
    if (!check(value.type().get(type))) return false;
    switch (type) {
      case ondemand::json_type::array: {
        ondemand::array array;
        const JsonSink* const taker = sink();
        const size_t parent = enter("[]");  // so that an array inside an array is not taken for it
        const bool good =
            check_depth(depth) && check(value.get_array().get(array)) && convert_array(array, out, depth, taker);
        leave(parent);
        return good;
      }
      case ondemand::json_type::object: {
        ondemand::object object;
        return check_depth(depth) && check(value.get_object().get(object)) &&
               convert_object(object, out, depth, sink());
      }
      case ondemand::json_type::number:
        return convert_number(value, out);
      case ondemand::json_type::string: {
        std::string_view text;
        if (!check(value.get_string().get(text))) return false;
        out = Json(text);
        return true;
      }
      case ondemand::json_type::boolean: {
        bool flag = false;
        if (!check(value.get_bool().get(flag))) return false;
        out = Json(flag);
        return true;
      }
      case ondemand::json_type::null: {
        bool null = false;
        if (!check(value.is_null().get(null))) return false;
        return null || check(simdjson::N_ATOM_ERROR);
      }
    }
    return check(simdjson::TAPE_ERROR);
  }

  bool convert_array(ondemand::array& array, Json& out, int depth, const JsonSink* sink) {
    JsonArray items;
    for (auto item : array) {
      ondemand::value value;
      Json element;
      if (!check(std::move(item).get(value)) || !convert(value, element, depth + 1)) return false;
      if (sink == nullptr)
        items.push_back(std::move(element));
      else if (!check(sink->element({}, std::move(element))))
        return false;
    }
    out = Json(std::move(items));
    return true;
  }

  bool convert_object(ondemand::object& object, Json& out, int depth, const JsonSink* sink) {
    JsonObject members;
    for (auto item : object) {
      ondemand::field field;
      std::string_view key;
      if (!check(std::move(item).get(field)) || !check(field.unescaped_key().get(key))) return false;
      Json element;
      const size_t parent = enter(sink == nullptr ? key : std::string_view());
      if (!convert(field.value(), element, depth + 1)) return false;
      leave(parent);
      if (sink == nullptr)
        members.emplace_back(key, std::move(element));
      else if (!check(sink->element(key, std::move(element))))
        return false;
    }
    merge_duplicate_keys(members);
    out = Json(std::move(members));
    return true;
  }

  // path_ is kept only where somebody asks for paths.
  size_t enter(std::string_view key) {
    const size_t parent = path_.size();
    if (!sinks_.empty()) path_.append(".").append(key);
    return parent;
  }
  void leave(size_t parent) { path_.resize(parent); }
  const JsonSink* sink() const {
    for (const JsonSink& candidate : sinks_)
      if (candidate.path == path_) return &candidate;
    return nullptr;
  }

  bool convert_number(ondemand::value value, Json& out) {
    const std::string_view digits = trim(value.raw_json_token());
    if (digits.size() > 18 && is_integer_text(digits)) {
      // May not fit. The cursor steps over a value that nobody took.
      int64_t fits = 0;
      if (digits.size() > kMaxIntegerDigits)
        return refuse(str_cat("an integer has ", digits.size(), " digits, at most ", kMaxIntegerDigits, " are allowed"),
                      offset());
      out = parse_int(digits, fits) ? Json(fits) : Json(Json::BigInt{std::string(digits)});
      return true;
    }
    ondemand::number_type type{};
    if (!check(value.get_number_type().get(type))) return false;
    if (type == ondemand::number_type::floating_point_number) {
      double number = 0;
      if (!check(value.get_double().get(number))) return false;
      out = Json(number);
    } else {
      int64_t number = 0;
      if (!check(value.get_int64().get(number))) return false;
      out = Json(number);
    }
    return true;
  }

  // What follows returns whether all is well, and remembers the first thing that is not.

  bool check(simdjson::error_code code) {
    if (code == simdjson::SUCCESS) return true;
    const size_t at =
        code == simdjson::UNCLOSED_STRING || code == simdjson::INCOMPLETE_ARRAY_OR_OBJECT ? text_.size() : offset();
    return refuse(describe(code), at);
  }
  bool check(Result<void> outcome) {
    if (!outcome && !error_) error_ = std::move(outcome).error();
    return !error_;
  }
  bool check_depth(int depth) {
    return depth <= max_depth_ || refuse(str_cat("nested deeper than ", max_depth_, " levels"), offset());
  }
  bool refuse(std::string_view what, size_t at) {
    if (!error_) error_ = Error{Errc::kInvalidArgument, str_cat("JSON: ", what, " at ", place(at))};
    return false;
  }

  static std::string_view describe(simdjson::error_code code) {
    switch (code) {
      case simdjson::TAPE_ERROR:
      case simdjson::INCORRECT_TYPE:
        return "a value, comma, colon or bracket is missing or out of place";
      case simdjson::UNCLOSED_STRING:
        return "a string is not closed";
      case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
        return "an array or object is not closed";
      case simdjson::TRAILING_CONTENT:
        return "there is more text after the document";
      case simdjson::STRING_ERROR:
        return "a string has a wrong escape";
      case simdjson::UNESCAPED_CHARS:
        return "a string has a control character that is not escaped";
      case simdjson::NUMBER_ERROR:
        return "a number is malformed or out of range";
      case simdjson::T_ATOM_ERROR:
      case simdjson::F_ATOM_ERROR:
      case simdjson::N_ATOM_ERROR:
        return "only true, false and null are words";
      default:
        return simdjson::error_message(code);
    }
  }

  /// Where the cursor is, in text_.
  size_t offset() {
    const char* at = nullptr;
    if (base_ == nullptr || document_.current_location().get(at)) return text_.size();
    return std::min(static_cast<size_t>(at - base_) - (at == base_ ? 0 : 1), text_.size());
  }
  std::string place(size_t at) const {
    const std::string_view before = text_.substr(0, at);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t newline = before.rfind('\n');
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    return str_cat("line ", line, ", column ", 1 + utf8_length(before.substr(line_begin)), " (byte ", at, ")");
  }

  std::string_view text_;
  std::span<const JsonSink> sinks_;
  int max_depth_;
  std::string path_;            // of the container being read, if there are sinks
  const char* base_ = nullptr;  // what the cursor walks over: text_ in brackets; null before there is a cursor
  ondemand::document document_;
  std::optional<Error> error_;
};

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  return Reader(text, {}, limits.max_depth).read();
}

Result<Json> parse_json(std::string_view text, std::span<const JsonSink> sinks, const JsonLimits& limits) {
  return Reader(text, sinks, limits.max_depth).read();
}

}  // namespace carat

#pragma once
// The argument language of Gemma's tool calls -> JSON, with repairs for what models get wrong. Source: spec parsers.md
// section 4.3.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace carat {

/// Name -> JSON schema of the parameters (or null). A bare value of a property whose type is "string" stays text.
using ToolSchemas = std::map<std::string, Json, std::less<>>;

/// Reads arguments that arrive in pieces, in linear time: whether they are complete is asked at every closing bracket,
/// and the answer is what a reader that began anew each time would give. Such a reader may see a value in another light
/// once more text has come (a bare value turns out to be a string without its opening quote), so places where that may
/// happen are remembered as doubts and returned to.
class ToolArgumentReader {
 public:
  static constexpr size_t kMaxDepth = 128;  ///< containers inside each other; deeper arguments are malformed

  /// `schema`: of the whole object, may be null; outlives the reader. `close`: '}' or ')', as the call was opened.
  ToolArgumentReader(const Json* schema, char close);

  enum class State { kIncomplete, kComplete, kMalformed };
  /// `text` is all marked text since the opening bracket and ends with a character like close(): each call adds to the
  /// last one's text. Not to be called again after kComplete or kMalformed.
  State read(std::string_view text);
  char close() const { return close_; }
  const Json* schema() const { return schema_; }
  /// After kComplete: bytes of the arguments, the closing bracket included.
  size_t size() const { return at_; }
  /// After kComplete, once: the arguments as JSON with Python's separators, keys in their order, the last of equal keys
  /// at the place of the first.
  std::string take_json();

  /// What can be made of arguments that never were complete: the end closes everything. Malformed ones are {}.
  static std::string read_leniently(std::string_view text, const Json* schema, char close);

 private:
  enum class Mode { kBetween, kKey, kValue, kString, kLiteral, kBare };
  struct Container {
    char close = '}';                    // or ']' or ')'
    const Json* schema = nullptr;        // of the container itself
    const Json* value_schema = nullptr;  // of its next value
  };
  /// What was read, in order: a flat list, so that its end can be dropped again.
  struct Event {
    enum class Kind { kObject, kArray, kEnd, kKey, kValue } kind;
    Json value;  // of kKey: a string
  };
  /// A place that more text may show in another light, and how things stood there.
  struct Doubt {
    size_t at = 0;
    char quote = 0;  // a key begins with this quote, and none follows yet; 0: a bare value may lack its opening quote
    size_t searched = 0;  // for the quote
    std::vector<Container> stack;
    size_t num_events = 0;
  };

  State run();
  // Each reads on from at_ and says whether it could; false: the text ends before.
  bool read_between();
  bool read_key();
  bool read_value();
  bool read_string();
  bool read_literal();
  bool read_bare();

  bool end_quoted_key(size_t closing);
  void end_key(std::string_view key, size_t separator);
  void open(Event::Kind kind, char close);
  void add_value(Json value, size_t end);
  void doubt(char quote);
  void settle_doubts();
  /// `num_doubts`: those that still stand.
  void return_to(const Doubt& doubt, size_t num_doubts);
  bool in_array() const { return stack_.back().close == ']'; }
  bool is_closer(char c) const { return c == ',' || c == '}' || c == ']' || (c == ')' && close_ == ')'); }
  bool closes_value(size_t at) const;
  size_t skip_space(size_t at) const;
  size_t find_quote_marker(size_t from);
  bool lacks_opening_quote(size_t at, size_t quote_at);

  const Json* const schema_;
  const char close_;
  bool final_ = false;  // no more text: the end closes everything
  bool malformed_ = false;
  std::string_view text_;
  Mode mode_ = Mode::kBetween;
  size_t at_ = 0;    // start of what is being read
  size_t scan_ = 0;  // searched up to here
  std::vector<Container> stack_;
  std::vector<Event> events_;
  std::vector<Doubt> doubts_;  // by place
  std::string pieces_;         // of a string: what stands before its piece at piece_at_
  size_t piece_at_ = 0;
  size_t quote_at_ = 0, quote_scanned_ = 0;  // a quote marker, if before quote_scanned_: none between the two
  struct {
    size_t quote_at = std::string_view::npos;  // what follows is about this quote marker
    bool closes = false;
    size_t text_end = 0;  // of the text before it, without trailing space
  } verdict_;
};

}  // namespace carat

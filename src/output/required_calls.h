#pragma once
// Calls as a JSON list, [{"name": N, "parameters": {...}}, ...]: what tool_choice required or a named function makes
// the model write. Source: spec parsers.md section 5.

#include <string>
#include <string_view>
#include <vector>

#include "output/tool_arguments.h"

namespace carat {

/// Reads the list as it arrives. A single object counts as a list of one; calls of functions that were not declared are
/// left out.
class RequiredCallReader {
 public:
  /// `tools` outlives the reader; null: no name is known.
  explicit RequiredCallReader(const ToolSchemas* tools) : tools_(tools) {}

  struct Event {
    enum class Kind {
      kName,       ///< a call's name is complete
      kArguments,  ///< its arguments are: JSON with Python's separators
      kText,       ///< this and all that follows is no such list
    } kind;
    std::string text;
  };
  void push(std::string_view text, std::vector<Event>& out);
  /// The end. A list that has not told of a call by then is text.
  void finish(std::vector<Event>& out);
  /// A whole list has been read, and nothing behind it.
  bool complete() const { return state_ == State::kDone; }

 private:
  enum class State { kBefore, kBetween, kElement, kDone, kText };
  void read(char c, std::vector<Event>& out);
  void read_in_element(char c, std::vector<Event>& out);
  void begin_element();
  void end_string(std::vector<Event>& out);
  void end_element(std::vector<Event>& out);

  const ToolSchemas* tools_;
  State state_ = State::kBefore;
  std::string text_;  // nothing was told of what stands here from told_ on
  size_t told_ = 0;
  size_t scan_ = 0;  // of text_: read
  bool in_list_ = false;
  bool any_told_ = false;
  // Of the element under way; depth 1 is its own members.
  size_t element_at_ = 0, string_at_ = 0;
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, after_colon_ = false, name_told_ = false;
  std::string key_;
};

}  // namespace carat

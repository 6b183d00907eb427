#pragma once
// A reply's marked text -> thoughts, visible text and tool calls, streamed or whole by the same state machine. Source:
// spec parsers.md section 4.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "output/markers.h"
#include "output/tool_arguments.h"

namespace carat {

/// A piece of a message. Pieces come in the order in which the model wrote them.
struct MessagePart {
  enum class Kind {
    kReasoning,      ///< text of a thought
    kContent,        ///< visible text
    kCallName,       ///< a call begins: `text` is the function's name
    kCallArguments,  ///< the call's arguments, whole, as JSON text; a call that was cut off gets none
  };
  Kind kind = Kind::kContent;
  int call_idx = 0;  ///< of the two call kinds: 0, 1, 2 in the order in which the calls begin
  std::string text;
  bool operator==(const MessagePart&) const = default;
};

struct MessageParserOptions {
  /// Where the reply begins.
  enum class Start {
    kContent,
    kUndecided,  ///< thinking was asked for: a thought, with or without its opener, or content
    kThought,    ///< the prompt ends inside a thought
  };
  bool separate_reasoning = true;  ///< false: thoughts and their markers are visible text
  bool stream_reasoning = true;    ///< false: a thought comes in one piece when it ends
  bool nonempty_content =
      false;  ///< a reply that is nothing but thought is content; thoughts wait for what follows them
  Start start = Start::kContent;
  bool parse_calls = false;                  ///< false: call markers are visible text
  std::shared_ptr<const ToolSchemas> tools;  ///< of the request; may be null
};

/// One per sample. Pure state, no thread of its own. The sum of all parts does not depend on where the text was cut; a
/// part once given is never taken back. Time is linear in the text.
class MessageParser {
 public:
  explicit MessageParser(MessageParserOptions options);

  /// Reads the next piece of marked text and appends what has become certain to `out`; text of the same kind as the
  /// last part there is joined to it.
  void push(std::string_view marked, std::vector<MessagePart>& out);
  /// The end of the reply. `truncated`: by a length limit, so that a call under way stays without arguments; otherwise
  /// it is read as if it were complete. Call once.
  void finish(bool truncated, std::vector<MessagePart>& out);
  /// Calls that have begun.
  int num_calls() const { return num_calls_; }

 private:
  enum class State { kStart, kContent, kLabel, kReasoning, kName, kArguments, kTail };
  using Parts = std::vector<MessagePart>;
  using Kind = MessagePart::Kind;

  // Each reads on from at_ and says whether there is more to do.
  bool step(Parts& out);
  bool step_start();
  bool step_content(Parts& out);
  bool step_label();
  bool step_reasoning(Parts& out);
  bool step_name(Parts& out);
  bool step_arguments(Parts& out);
  bool step_tail();

  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }
  bool enter(State state, size_t num_read);
  bool end_name(std::string_view head, char opener, Parts& out);
  bool end_call(std::string json, size_t num_read, Parts& out);
  void reasoning(std::string_view marked, Parts& out);
  void tell_thought(Kind kind, Parts& out);
  void content(std::string_view marked, Parts& out);
  void add_content(std::string_view text, Parts& out);
  void begin_call(std::string name, Parts& out);

  MessageParserOptions options_;
  State state_;
  std::string buffer_;  // marked text
  size_t at_ = 0;       // in buffer_: what stands before is done
  size_t scanned_ = 0;  // bytes of rest() that the present state has searched in vain
  bool ended_ = false, truncated_ = false;
  int num_calls_ = 0;
  std::string thought_;       // held back
  bool any_visible_ = false;  // content or a call was told
  bool after_call_ = false;   // blank text is held back in gap_, and dropped unless other text follows
  std::string gap_;
  bool name_failed_ = false;
  std::optional<ToolArgumentReader> arguments_;  // of the call under way
  bool malformed_ = false;
  size_t call_close_ = std::string_view::npos;  // the first <tool_call|> in its text
};

/// A message as a client that does not stream sees it.
struct Message {
  struct Call {
    std::string name;
    std::optional<std::string> arguments;  ///< absent: the call was cut off
  };
  std::string reasoning, content;
  std::vector<Call> calls;
};
Message collect_message(std::span<const MessagePart> parts);

/// The parts of a whole reply.
std::vector<MessagePart> parse_message(const MessageParserOptions& options, std::string_view marked, bool truncated);

}  // namespace carat

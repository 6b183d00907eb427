#pragma once
// `carat chat`: a conversation in the terminal.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/chat_backend.h"

namespace carat {

/// Where a conversation is shown. Any of it may be a test's.
struct DialogScreen {
  std::function<void(std::string_view)> write;
  bool styled = false;   ///< a terminal: dim reasoning and notes; else they are marked by words
  bool verbose = false;  ///< after each answer its tokens and speed
};

/// The conversation and its settings. One thread; `stop` may be set by a signal handler: it ends the answer that is
/// being written, whose beginning stays in the conversation.
class DialogSession {
 public:
  DialogSession(DialogBackend& backend, DialogScreen screen, DialogRequest settings, std::atomic<bool>& stop);

  /// A line of the user: a /command, or something to say. False when the user wants to leave.
  bool take_line(std::string_view line);
  /// Says something and shows the answer. False if there was none.
  bool say(std::string text);

  const DialogRequest& state() const { return request_; }

 private:
  bool command(std::string_view line);
  bool answer();
  void show_piece(std::string_view reasoning, std::string_view content);
  void end_reasoning();
  void note(std::string_view text);
  void error(std::string_view text);
  void reset();
  void set_system(std::string_view text);
  void set_thinking(std::string_view value);
  void set_number(std::string_view name, std::string_view value, double low, double high,
                  std::optional<double>& target);
  void set_max_tokens(std::string_view value);
  void retry();
  void show_conversation();

  DialogBackend& backend_;
  const DialogScreen screen_;
  DialogRequest request_;
  std::atomic<bool>& stop_;
  bool in_reasoning_ = false;
  bool at_line_start_ = true;
};

/// `text` without what would steer a terminal: control characters except tab and newline.
std::string printable(std::string_view text);

struct DialogOptions {
  std::string url = {};  ///< "": a server at the usual place, or else the engine
  std::string model = {};
  std::string api_key = {};
  std::string system = {};
  std::string thinking = {};  ///< "", "on" or "off"
  std::string prompt = {};    ///< say this, print the answer, leave; "-": what stdin holds
  bool has_prompt = false;
  bool verbose = false;
  std::optional<int> max_tokens = {};
  double temperature = -1;      ///< negative: the server's
  double top_p = -1;            ///< negative: the server's
  std::string model_path = {};  ///< of the engine; implies engine_only
  bool engine_only = false;
  std::vector<std::string> engine_args = {};  ///< what follows "--", for the engine
};

/// Errors: kInvalidArgument naming the option, its value and what is allowed.
Result<DialogOptions> parse_chat_options(std::span<const std::string> args);
std::string chat_help();

/// Makes the backend of --engine-only and --model-path, and where no --url is given and no server answers.
using DialogEngineFactory = std::function<Result<std::unique_ptr<DialogBackend>>(const DialogOptions&)>;

/// The command: `args` without the program's and the command's name. Returns the exit status: 0, 1 (failed), 2 (usage).
/// Without a factory --engine-only is refused.
int run_chat(std::span<const std::string> args, const DialogEngineFactory& make_engine = {});

}  // namespace carat

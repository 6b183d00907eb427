#include "client/chat_ui.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "base/str.h"
#include "client/flags.h"

namespace carat {
namespace {

constexpr std::string_view kUsualUrl = "http://127.0.0.1:30000";
constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kPlain = "\x1b[0m";

constexpr std::string_view kCommands =
    "/reset              forget the conversation (the system message stays)\n"
    "/system [TEXT]      set the system message and begin anew; without TEXT: remove it\n"
    "/thinking on|off    let the model think before it answers\n"
    "/retry              answer the last message again\n"
    "/show               the conversation so far\n"
    "/max-tokens N       longest answer; 'default': the server's\n"
    "/temperature X      'default': the server's\n"
    "/top-p X            'default': the server's\n"
    "/help               this\n"
    "/quit               leave (Ctrl-D too)\n"
    "A line that ends in \\ goes on; lines between two lines of \"\"\" are one message. Ctrl-C stops an answer.";

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) continue;
    // U+0080 to U+009F steer some terminals as well.
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      ++i;
      continue;
    }
    out.push_back(text[i]);
  }
  return out;
}

// ---- the conversation ----

DialogSession::DialogSession(DialogBackend& backend, DialogScreen screen, DialogRequest settings,
                             std::atomic<bool>& stop)
    : backend_(backend), screen_(std::move(screen)), request_(std::move(settings)), stop_(stop) {}

void DialogSession::note(std::string_view text) {
  screen_.write(screen_.styled ? str_cat(kDim, text, kPlain, "\n") : str_cat(text, "\n"));
}

void DialogSession::error(std::string_view text) { note(str_cat("error: ", text)); }

bool DialogSession::take_line(std::string_view line) {
  const auto text = trim(line);
  if (text.empty()) return true;
  if (text.starts_with('/') && !text.starts_with("//")) return command(text);
  say(std::string(text.starts_with("//") ? text.substr(1) : text));  // "//" says something that begins with a slash
  return true;
}

bool DialogSession::command(std::string_view line) {
  const auto space = line.find_first_of(" \t\n");
  const auto name = line.substr(0, space);
  const auto value = space == std::string_view::npos ? std::string_view() : trim(line.substr(space));
  if (name == "/quit" || name == "/exit" || name == "/bye") return false;
  if (name == "/help" || name == "/?")
    note(kCommands);
  else if (name == "/reset" || name == "/clear")
    reset();
  else if (name == "/system")
    set_system(value);
  else if (name == "/thinking" || name == "/think")
    set_thinking(value);
  else if (name == "/retry")
    retry();
  else if (name == "/show")
    show_conversation();
  else if (name == "/max-tokens")
    set_max_tokens(value);
  else if (name == "/temperature")
    set_number("temperature", value, 0, 100, request_.temperature);
  else if (name == "/top-p")
    set_number("top-p", value, 0, 1, request_.top_p);
  else
    error(str_cat("unknown command ", name, "; /help lists them, // begins a message with a slash"));
  return true;
}

void DialogSession::reset() {
  std::erase_if(request_.messages, [](const auto& m) { return m.role != "system"; });
  note("The conversation begins anew.");
}

void DialogSession::set_system(std::string_view text) {
  request_.messages.clear();
  if (!text.empty()) request_.messages.push_back({"system", std::string(text)});
  note(text.empty() ? "No system message. The conversation begins anew."
                    : "The system message is set. The conversation begins anew.");
}

void DialogSession::set_thinking(std::string_view value) {
  if (value != "on" && value != "off") return error(str_cat("/thinking takes on or off, not '", value, "'"));
  request_.thinking = value == "on";
  note(str_cat("Thinking is ", value, "."));
}

void DialogSession::set_number(std::string_view name, std::string_view value, double low, double high,
                               std::optional<double>& target) {
  double number = 0;
  if (value == "default")
    target.reset();
  else if (parse_float(value, number) && number >= low && number <= high)
    target = number;
  else
    return error(str_cat("/", name, " takes a number in [", low, ", ", high, "] or default, not '", value, "'"));
  note(str_cat("The ", name, " is ", value, "."));
}

void DialogSession::set_max_tokens(std::string_view value) {
  int64_t number = 0;
  if (value == "default")
    request_.max_tokens.reset();
  else if (parse_int(value, number) && number >= 1 && number <= std::numeric_limits<int>::max())
    request_.max_tokens = static_cast<int>(number);
  else
    return error(str_cat("/max-tokens takes a positive integer or default, not '", value, "'"));
  note(str_cat("The longest answer is ", value, value == "default" ? "." : " tokens."));
}

void DialogSession::retry() {
  auto& messages = request_.messages;
  if (messages.empty() || messages.back().role != "assistant") return error("there is nothing to answer again");
  auto old = std::move(messages.back());
  messages.pop_back();
  if (!answer()) messages.push_back(std::move(old));
}

void DialogSession::show_conversation() {
  for (const auto& m : request_.messages) note(str_cat(m.role, ": ", printable(m.content)));
  if (request_.messages.empty()) note("Nothing has been said.");
}

bool DialogSession::say(std::string text) {
  request_.messages.push_back({"user", std::move(text)});
  if (answer()) return true;
  request_.messages.pop_back();  // so that it can be said again, or something else instead
  return false;
}

bool DialogSession::answer() {
  stop_ = false;
  in_reasoning_ = false;
  at_line_start_ = true;
  std::string content;
  double first_s = 0;
  const double begin = now_s();
  const auto result = backend_.answer(
      request_,
      [&](std::string_view reasoning, std::string_view piece) {
        if (first_s == 0) first_s = now_s();
        content += piece;
        show_piece(reasoning, piece);
      },
      stop_);
  const double end = now_s();
  end_reasoning();
  if (!at_line_start_) screen_.write("\n");

  const bool stopped = !result && result.error().code == Errc::kCancelled;
  if (!result && !stopped) {
    error(result.error().message);
    return false;
  }
  request_.messages.push_back({"assistant", content});
  if (stopped) note("[stopped]");
  if (result && result->finish_reason == "length") note("[cut at the longest answer]");
  if (result && screen_.verbose) {
    const int tokens = result->completion_tokens.value_or(0);
    const double spent = end - (first_s == 0 ? end : first_s);
    note(str_cat("[", result->prompt_tokens.value_or(0), " + ", tokens, " tokens, first after ",
                 fixed((first_s == 0 ? end : first_s) - begin, 3), " s",
                 tokens > 1 && spent > 0 ? str_cat(", ", fixed((tokens - 1) / spent, 1), " tokens/s") : "", "]"));
  }
  return true;
}

void DialogSession::show_piece(std::string_view reasoning, std::string_view content) {
  const auto show = [&](std::string_view text) {
    const auto clean = printable(text);
    if (clean.empty()) return;
    screen_.write(clean);
    at_line_start_ = clean.back() == '\n';
  };
  if (!reasoning.empty()) {
    if (!in_reasoning_) screen_.write(screen_.styled ? kDim : std::string_view("[thinking]\n"));
    in_reasoning_ = true;
    show(reasoning);
  }
  if (!content.empty()) {
    end_reasoning();
    show(content);
  }
}

void DialogSession::end_reasoning() {
  if (!in_reasoning_) return;
  in_reasoning_ = false;
  if (screen_.styled) screen_.write(kPlain);
  if (!at_line_start_) screen_.write("\n");
  if (!screen_.styled) screen_.write("[answer]\n");
  at_line_start_ = true;
}

// ---- the command ----

namespace {

std::vector<CliFlag> chat_flags(DialogOptions& o) {
  return {
      CliFlag::text("--url", "URL",
                    "of the server, default http://127.0.0.1:30000; if nobody answers there, the built-in model does",
                    o.url),
      CliFlag::text("--model-path", "MODEL", "talk to this model in this process, without a server", o.model_path),
      CliFlag::text("--model", "NAME", "default: the first of /v1/models", o.model),
      CliFlag::text("--api-key", "KEY", "default: the environment's OPENAI_API_KEY", o.api_key),
      CliFlag::text("--system", "TEXT", "the system message", o.system),
      CliFlag::text("--thinking", "on|off", "let the model think before it answers; default: the server's choice",
                    o.thinking),
      {"--prompt", "TEXT", "say this, print the answer and leave; -: what stdin holds",
       [&o](std::string_view v) -> Result<void> {
         o.prompt = std::string(v);
         o.has_prompt = true;
         return {};
       }},
      CliFlag::integer("--max-tokens", "longest answer; default: the server's", 1, std::numeric_limits<int>::max(),
                       [&o](int64_t v) { o.max_tokens = static_cast<int>(v); }),
      CliFlag::number("--temperature", "default: the server's", 0, 100, o.temperature),
      CliFlag::number("--top-p", "default: the server's", 0, 1, o.top_p),
      CliFlag::toggle("--verbose", "tokens and speed after each answer", o.verbose),
      CliFlag::toggle("--engine-only", "talk to an engine in this process, without HTTP; its options follow after --",
                      o.engine_only),
  };
}

// Ctrl-C stops an answer or the wait for a line, and nothing else. The flag is for the answer, the event for the wait:
// it also ends a wait that begins after the signal, or that another thread than the signal's is in.
std::atomic<bool> interrupted{false};
int interrupt_event = -1;

void catch_interrupts() {
  interrupt_event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int) {
    const int kept = errno;
    interrupted = true;
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(interrupt_event, &one, sizeof one);
    errno = kept;
  };
  sigaction(SIGINT, &action, nullptr);
}

void forget_interrupts() {
  uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(interrupt_event, &count, sizeof count);
  interrupted = false;
}

// Lines from stdin, read by read(2), which the standard streams would hide: an interrupt ends the wait.
class LineReader {
 public:
  enum class Outcome { kLine, kEnd, kInterrupted };
  Outcome next(std::string& line) {
    while (true) {
      if (const auto end = buffer_.find('\n'); end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Outcome::kLine;
      }
      pollfd ready[] = {{STDIN_FILENO, POLLIN, 0}, {interrupt_event, POLLIN, 0}};
      if (::poll(ready, 2, -1) < 0) continue;  // EINTR: the event says whether it was an interrupt
      if (ready[1].revents != 0) return Outcome::kInterrupted;
      char bytes[4096];
      const auto n = ::read(STDIN_FILENO, bytes, sizeof bytes);
      if (n > 0) {
        buffer_.append(bytes, static_cast<size_t>(n));
        continue;
      }
      line = std::exchange(buffer_, "");
      return line.empty() ? Outcome::kEnd : Outcome::kLine;
    }
  }
  std::string rest() {
    std::string all, line;
    while (next(line) == Outcome::kLine) all += line + "\n";
    return all;
  }

 private:
  std::string buffer_;
};

void write_out(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Lines until a message is whole: "\" at the end and blocks between """ join them.
class MessageReader {
 public:
  MessageReader(LineReader& lines, bool prompts, bool styled) : lines_(lines), prompts_(prompts), styled_(styled) {}

  LineReader::Outcome next(std::string& message) {
    message.clear();
    bool in_block = false;
    show_prompt(">>> ");
    std::string line;
    while (true) {
      const auto outcome = lines_.next(line);
      if (outcome == LineReader::Outcome::kEnd && !message.empty()) return LineReader::Outcome::kLine;
      if (outcome != LineReader::Outcome::kLine) return outcome;
      if (trim(line) == "\"\"\"") {
        if (in_block) return LineReader::Outcome::kLine;
        in_block = true;
      } else if (in_block) {
        message += line + "\n";
      } else if (line.ends_with('\\')) {
        message += line.substr(0, line.size() - 1) + "\n";
      } else {
        message += line;
        return LineReader::Outcome::kLine;
      }
      show_prompt("... ");
    }
  }

 private:
  void show_prompt(std::string_view text) const {
    if (prompts_) write_out(styled_ ? str_cat(kBold, text, kPlain) : std::string(text));
  }
  LineReader& lines_;
  const bool prompts_, styled_;
};

bool wants_style() {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0') && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

void converse(DialogSession& session, bool styled) {
  LineReader lines;
  const bool interactive = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  MessageReader messages(lines, interactive, styled);
  std::string message;
  while (true) {
    forget_interrupts();
    switch (messages.next(message)) {
      case LineReader::Outcome::kEnd:
        if (interactive) write_out("\n");
        return;
      case LineReader::Outcome::kInterrupted:
        if (!interactive) return;
        write_out("\n(/quit or Ctrl-D leaves)\n");
        break;
      case LineReader::Outcome::kLine:
        if (!session.take_line(message)) return;
        break;
    }
  }
}

DialogRequest to_settings(const DialogOptions& o) {
  DialogRequest settings;
  if (!o.system.empty()) settings.messages.push_back({"system", o.system});
  if (!o.thinking.empty()) settings.thinking = o.thinking == "on";
  settings.max_tokens = o.max_tokens;
  if (o.temperature >= 0) settings.temperature = o.temperature;
  if (o.top_p >= 0) settings.top_p = o.top_p;
  return settings;
}

Result<std::unique_ptr<DialogBackend>> make_backend(const DialogOptions& options,
                                                    const DialogEngineFactory& make_engine) {
  if (options.engine_only) {
    if (!make_engine) return Error{Errc::kUnsupported, "--engine-only: this program has no engine in it"};
    return make_engine(options);
  }
  CARAT_TRY(const auto base, parse_http_url(options.url.empty() ? kUsualUrl : options.url));
  const char* key = std::getenv("OPENAI_API_KEY");
  auto server = make_chat_http(base, options.model, options.api_key.empty() && key != nullptr ? key : options.api_key);
  if (!options.url.empty() || !make_engine) return server;
  // A server that refuses is a server; only where none listens does the engine step in.
  const auto model = server->model();
  if (model || model.error().code != Errc::kIo) return server;
  std::fprintf(stderr, "No server answers at %s: the built-in model does, in this process.\n",
               std::string(kUsualUrl).c_str());
  return make_engine(options);
}

int report_error(const Error& error, int status) {
  std::fprintf(stderr, "carat chat: error: %s\n", error.message.c_str());
  return status;
}

}  // namespace

Result<DialogOptions> parse_chat_options(std::span<const std::string> args) {
  DialogOptions options;
  const auto flags = chat_flags(options);
  CARAT_TRY_VOID(parse_flags(flags, args, options.engine_args));
  options.engine_only |= !options.model_path.empty();
  if (!options.thinking.empty() && options.thinking != "on" && options.thinking != "off")
    return Error{Errc::kInvalidArgument, str_cat("--thinking must be on or off, got '", options.thinking, "'")};
  if (!options.engine_args.empty() && !options.engine_only)
    return Error{Errc::kInvalidArgument,
                 "options after -- belong to the engine and need --engine-only or --model-path"};
  if (!options.url.empty()) CARAT_TRY_VOID(parse_http_url(options.url));
  if (!options.url.empty() && options.engine_only)
    return Error{Errc::kInvalidArgument, "--url names a server; --model-path and --engine-only do without one"};
  return options;
}

std::string chat_help() {
  DialogOptions options;
  return str_cat("usage: carat chat [options]\n\nTalks to a model in the terminal.\n\n",
                 flags_help(chat_flags(options)),
                 "  --help                          this text\n\nWithin a conversation:\n\n", kCommands, "\n");
}

int run_chat(std::span<const std::string> args, const DialogEngineFactory& make_engine) {
  const auto own = args.first(static_cast<size_t>(std::find(args.begin(), args.end(), "--") - args.begin()));
  if (std::find(own.begin(), own.end(), "--help") != own.end()) {
    write_out(chat_help());
    return 0;
  }
  const auto options = parse_chat_options(args);
  if (!options) return report_error(options.error(), 2);
  auto backend = make_backend(*options, make_engine);
  if (!backend) return report_error(backend.error(), 1);
  const auto model = (*backend)->model();
  if (!model) return report_error(model.error(), 1);

  catch_interrupts();
  const bool styled = wants_style();
  DialogSession session(**backend, {.write = write_out, .styled = styled, .verbose = options->verbose},
                        to_settings(*options), interrupted);
  if (options->has_prompt) {
    const auto text = options->prompt == "-" ? LineReader().rest() : options->prompt;
    return session.say(text) && !interrupted ? 0 : 1;
  }
  if (::isatty(STDIN_FILENO) != 0)
    write_out(str_cat(styled ? kDim : std::string_view(), printable(*model), " -- /help lists the commands",
                      styled ? kPlain : std::string_view(), "\n"));
  converse(session, styled);
  return 0;
}

}  // namespace carat

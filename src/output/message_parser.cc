#include "output/message_parser.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "base/utf8.h"

namespace carat {
namespace {

constexpr size_t kNone = std::string_view::npos;
constexpr std::string_view kUsualLabel = "thought\n";
constexpr size_t kMaxLabel = 32;

bool is_label_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_marker(char c, Marker marker) { return c == to_byte(marker); }

/// The first of `markers` at or after `from`, or npos.
size_t find_any(std::string_view marked, std::initializer_list<Marker> markers, size_t from = 0) {
  for (size_t at = find_marker(marked, from); at != kNone; at = find_marker(marked, at + 1))
    if (std::find(markers.begin(), markers.end(), to_marker(marked[at])) != markers.end()) return at;
  return kNone;
}

/// Appends text to the last part, if it is of this kind.
void add_text(MessagePart::Kind kind, std::string_view text, std::vector<MessagePart>& out) {
  if (text.empty()) return;
  if (!out.empty() && out.back().kind == kind)
    out.back().text += text;
  else
    out.push_back({kind, 0, std::string(text)});
}

}  // namespace

MessageParser::MessageParser(MessageParserOptions options) : options_(std::move(options)) {
  using Start = MessageParserOptions::Start;
  state_ = State::kContent;
  if (options_.separate_reasoning && options_.start == Start::kUndecided) state_ = State::kStart;
  if (options_.separate_reasoning && options_.start == Start::kThought) state_ = State::kReasoning;
}

void MessageParser::push(std::string_view marked, Parts& out) {
  buffer_ += marked;
  while (step(out)) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

void MessageParser::finish(bool truncated, Parts& out) {
  ended_ = true;
  truncated_ = truncated;
  while (step(out)) {
  }
  tell_thought(options_.nonempty_content && !any_visible_ ? Kind::kContent : Kind::kReasoning, out);
}

bool MessageParser::step(Parts& out) {
  if (rest().empty() && !ended_) return false;
  switch (state_) {
    case State::kStart:
      return step_start();
    case State::kContent:
      return step_content(out);
    case State::kLabel:
      return step_label();
    case State::kReasoning:
      return step_reasoning(out);
    case State::kName:
      return step_name(out);
    case State::kArguments:
      return step_arguments(out);
    case State::kTail:
      return step_tail();
  }
  return false;
}

/// Goes on in `state` behind the next `num_read` bytes.
bool MessageParser::enter(State state, size_t num_read) {
  at_ += num_read;
  state_ = state;
  scanned_ = 0;
  return true;
}

/// Thinking was asked for. A reply may have lost the opener of its thought, but not the label.
bool MessageParser::step_start() {
  const std::string_view text = rest();
  if (text.starts_with(kUsualLabel)) return enter(State::kReasoning, kUsualLabel.size());
  if (!ended_ && kUsualLabel.starts_with(text)) return false;
  return enter(State::kContent, 0);
}

bool MessageParser::step_content(Parts& out) {
  const std::string_view text = rest();
  const size_t at = find_marker(text);
  content(text.substr(0, at), out);
  if (at == kNone) {
    enter(State::kContent, text.size());
    return false;
  }
  switch (to_marker(text[at])) {
    case Marker::kChannelOpen:
      if (options_.separate_reasoning) return enter(State::kLabel, at + 1);
      break;
    case Marker::kChannelClose:
      if (options_.separate_reasoning) return enter(State::kContent, at + 1);
      break;
    case Marker::kCallOpen:
      if (options_.parse_calls) return enter(State::kName, at + 1);
      break;
    case Marker::kCallClose:
    case Marker::kResponseOpen:
    case Marker::kResponseClose:
      if (options_.parse_calls) return enter(State::kContent, at + 1);
      break;
    case Marker::kQuote:
      break;
  }
  content(text.substr(at, 1), out);
  return enter(State::kContent, at + 1);
}

/// After an opener: a label ends at a line break, at a marker that ends the thought, or with the reply.
bool MessageParser::step_label() {
  const std::string_view text = rest();
  size_t length = 0;
  while (length < text.size() && length <= kMaxLabel && is_label_char(text[length])) ++length;
  if (length > kMaxLabel) return enter(State::kReasoning, 0);
  if (length == text.size()) {
    if (!ended_) return false;
    enter(State::kReasoning, length);
    return false;
  }
  if (text[length] == '\n') return enter(State::kReasoning, length + 1);
  const bool ends = is_marker(text[length], Marker::kChannelClose) || is_marker(text[length], Marker::kCallOpen);
  return enter(State::kReasoning, ends ? length : 0);
}

bool MessageParser::step_reasoning(Parts& out) {
  const std::string_view text = rest();
  const Marker call = options_.parse_calls ? Marker::kCallOpen : Marker::kChannelClose;  // or nothing more
  const size_t at = find_any(text, {Marker::kChannelOpen, Marker::kChannelClose, call});
  reasoning(text.substr(0, at), out);
  if (at == kNone) {
    enter(State::kReasoning, text.size());
    return false;
  }
  if (is_marker(text[at], Marker::kChannelOpen)) return enter(State::kLabel, at + 1);
  if (!options_.nonempty_content) tell_thought(Kind::kReasoning, out);
  return enter(State::kContent, is_marker(text[at], Marker::kChannelClose) ? at + 1 : at);
}

/// After a call's opener: the name reaches up to the arguments' bracket. Where there is none all of it is text.
bool MessageParser::step_name(Parts& out) {
  const std::string_view text = rest();
  const size_t bound = find_any(text, {Marker::kCallClose, Marker::kCallOpen, Marker::kResponseOpen}, scanned_);
  if (!name_failed_) {
    const size_t bracket = text.substr(0, bound).find_first_of("{(", scanned_);
    if (bracket != kNone && end_name(text.substr(0, bracket), text[bracket], out)) {
      name_failed_ = false;
      return enter(State::kArguments, bracket + 1);
    }
    name_failed_ = bracket != kNone;
  }
  if (bound == kNone && !ended_) {
    scanned_ = text.size();
    return false;
  }
  name_failed_ = false;
  const bool closed = bound != kNone && is_marker(text[bound], Marker::kCallClose);
  const std::string_view raw = text.substr(0, closed ? bound + 1 : bound);
  content(str_cat(to_byte(Marker::kCallOpen), raw), out);
  return enter(State::kContent, raw.size());
}

/// True if `head`, which stands before the arguments, has a name.
bool MessageParser::end_name(std::string_view head, char opener, Parts& out) {
  head = strip_unicode(head);
  if (head.starts_with("call:"))
    head.remove_prefix(5);
  else if (head.starts_with(':'))
    head.remove_prefix(1);
  std::string name = spelled(strip_unicode(head));
  for (std::string_view text = name; !text.empty();) {
    const Utf8Step c = decode_utf8(text);
    if (is_unicode_space(c.code_point)) return false;
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  if (name.empty()) return false;
  const Json* schema = nullptr;
  if (options_.tools)
    if (const auto tool = options_.tools->find(name); tool != options_.tools->end()) schema = &tool->second;
  arguments_.emplace(schema, opener == '(' ? ')' : '}');
  malformed_ = false;
  call_close_ = kNone;
  begin_call(std::move(name), out);
  return true;
}

/// The arguments are complete where a closing bracket says so, and never reach beyond the next call or a tool response.
bool MessageParser::step_arguments(Parts& out) {
  const std::string_view text = rest();
  const size_t bound = find_any(text, {Marker::kCallOpen, Marker::kResponseOpen}, scanned_);
  const std::string_view body = text.substr(0, bound);
  const char close = arguments_->close();
  for (size_t at = body.find(close, scanned_); at != kNone && !malformed_; at = body.find(close, at + 1)) {
    const auto state = arguments_->read(body.substr(0, at + 1));
    if (state == ToolArgumentReader::State::kComplete)
      return end_call(arguments_->take_json(), arguments_->size(), out);
    malformed_ = state == ToolArgumentReader::State::kMalformed;
  }
  if (call_close_ == kNone) call_close_ = body.find(to_byte(Marker::kCallClose), scanned_);
  if (bound == kNone && !ended_ && !(malformed_ && call_close_ != kNone)) {
    scanned_ = text.size();
    return false;
  }
  const size_t end = std::min(call_close_, body.size());
  if (malformed_) return end_call("{}", end, out);
  if (call_close_ == kNone && bound == kNone && truncated_) {
    arguments_.reset();
    after_call_ = true;
    return enter(State::kContent, text.size());
  }
  const Json* schema = arguments_->schema();
  return end_call(ToolArgumentReader::read_leniently(body.substr(0, end), schema, close), end, out);
}

bool MessageParser::end_call(std::string json, size_t num_read, Parts& out) {
  arguments_.reset();
  out.push_back({Kind::kCallArguments, num_calls_ - 1, std::move(json)});
  return enter(State::kTail, num_read);
}

/// Behind the arguments nothing but the call's end is of interest.
bool MessageParser::step_tail() {
  const std::string_view text = rest();
  const size_t at =
      find_any(text, {Marker::kCallClose, Marker::kCallOpen, Marker::kResponseOpen, Marker::kChannelOpen});
  if (at == kNone) {
    enter(State::kTail, text.size());
    return false;
  }
  after_call_ = true;
  gap_.clear();
  const bool ends = is_marker(text[at], Marker::kCallClose) || is_marker(text[at], Marker::kResponseOpen);
  return enter(State::kContent, ends ? at + 1 : at);
}

// ---- What is told

void MessageParser::reasoning(std::string_view marked, Parts& out) {
  if (options_.stream_reasoning && !options_.nonempty_content)
    add_text(Kind::kReasoning, spelled(marked), out);
  else
    append_spelled(thought_, marked);
}

void MessageParser::tell_thought(Kind kind, Parts& out) {
  add_text(kind, thought_, out);
  thought_.clear();
}

void MessageParser::content(std::string_view marked, Parts& out) {
  std::string text = spelled(marked);
  if (after_call_) {
    gap_ += text;
    if (strip_unicode(text).empty()) return;
    text = std::exchange(gap_, {});
    after_call_ = false;
  }
  add_content(text, out);
}

void MessageParser::add_content(std::string_view text, Parts& out) {
  if (text.empty()) return;
  tell_thought(Kind::kReasoning, out);
  any_visible_ = true;
  add_text(Kind::kContent, text, out);
}

void MessageParser::begin_call(std::string name, Parts& out) {
  tell_thought(Kind::kReasoning, out);
  any_visible_ = true;
  out.push_back({Kind::kCallName, num_calls_++, std::move(name)});
}

Message collect_message(std::span<const MessagePart> parts) {
  Message message;
  for (const MessagePart& part : parts) {
    switch (part.kind) {
      case MessagePart::Kind::kReasoning:
        message.reasoning += part.text;
        break;
      case MessagePart::Kind::kContent:
        message.content += part.text;
        break;
      case MessagePart::Kind::kCallName:
        message.calls.push_back({part.text, std::nullopt});
        break;
      case MessagePart::Kind::kCallArguments:
        message.calls[static_cast<size_t>(part.call_idx)].arguments = part.text;
        break;
    }
  }
  return message;
}

std::vector<MessagePart> parse_message(const MessageParserOptions& options, std::string_view marked, bool truncated) {
  MessageParser parser(options);
  std::vector<MessagePart> parts;
  parser.push(marked, parts);
  parser.finish(truncated, parts);
  return parts;
}

}  // namespace carat

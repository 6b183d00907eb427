#include "output/required_calls.h"

#include <algorithm>

#include "base/json.h"

namespace carat {

void RequiredCallReader::push(std::string_view text, std::vector<Event>& out) {
  text_ += text;
  for (; scan_ < text_.size() && state_ != State::kText; ++scan_) read(text_[scan_], out);
  if (state_ == State::kText) {
    if (told_ < text_.size()) out.push_back({Event::Kind::kText, text_.substr(told_)});
    told_ = text_.size();
  }
  // What has been told is dropped once for each piece, so that the time stays linear.
  text_.erase(0, told_);
  scan_ -= std::min(scan_, told_);
  element_at_ -= std::min(element_at_, told_);
  string_at_ -= std::min(string_at_, told_);
  told_ = 0;
}

void RequiredCallReader::finish(std::vector<Event>& out) {
  if (!any_told_ && !text_.empty()) out.push_back({Event::Kind::kText, std::move(text_)});
  text_.clear();
}

void RequiredCallReader::read(char c, std::vector<Event>& out) {
  const bool is_space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
  switch (state_) {
    case State::kBefore:
    case State::kBetween:
      if (is_space || (c == ',' && state_ == State::kBetween)) return;
      if (c == '{') return begin_element();
      if (c == '[' && state_ == State::kBefore) {
        in_list_ = true;
        state_ = State::kBetween;
      } else {
        state_ = c == ']' && in_list_ ? State::kDone : State::kText;
      }
      return;
    case State::kElement:
      return read_in_element(c, out);
    case State::kDone:
      if (!is_space) state_ = State::kText;
      return;
    case State::kText:
      return;
  }
}

void RequiredCallReader::begin_element() {
  state_ = State::kElement;
  element_at_ = scan_;
  depth_ = 1;
  in_string_ = escaped_ = after_colon_ = name_told_ = false;
  key_.clear();
}

void RequiredCallReader::read_in_element(char c, std::vector<Event>& out) {
  if (in_string_) {
    if (escaped_)
      escaped_ = false;
    else if (c == '\\')
      escaped_ = true;
    else if (c == '"')
      end_string(out);
    return;
  }
  if (c == '"') {
    in_string_ = true;
    string_at_ = scan_;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    if (--depth_ == 0) end_element(out);
  } else if (depth_ == 1 && (c == ':' || c == ',')) {
    after_colon_ = c == ':';
  }
}

void RequiredCallReader::end_string(std::vector<Event>& out) {
  in_string_ = false;
  if (depth_ != 1 || (after_colon_ && key_ != "name")) return;
  const auto text = parse_json(std::string_view(text_).substr(string_at_, scan_ + 1 - string_at_));
  if (!text) return;  // the whole element will be refused
  if (!after_colon_) {
    key_ = text->as_string();
  } else if (!name_told_ && tools_ && tools_->contains(text->as_string())) {
    out.push_back({Event::Kind::kName, text->as_string()});
    name_told_ = any_told_ = true;
  }
}

void RequiredCallReader::end_element(std::vector<Event>& out) {
  const auto element = parse_json(std::string_view(text_).substr(element_at_, scan_ + 1 - element_at_));
  if (!element || !element->is_object()) {
    state_ = State::kText;
    return;
  }
  if (name_told_) {
    const Json* arguments = element->find("parameters");
    if (!arguments) arguments = element->find("arguments");
    out.push_back({Event::Kind::kArguments, arguments ? arguments->dump_spaced() : "{}"});
  }
  if (any_told_) told_ = scan_ + 1;
  state_ = in_list_ ? State::kBetween : State::kDone;
}

}  // namespace carat

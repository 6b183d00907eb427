#pragma once
// Server-sent events out of a byte stream that may be cut anywhere.

#include <string>
#include <string_view>

namespace carat {

/// Source: WHATWG HTML, section 9.2.6 (the fields "id" and "retry" are ignored).
class SseReader {
 public:
  /// Calls on_event(name, data) for each event that `bytes` completes; the views live as long as the call. Lines of one
  /// event are joined by '\n'. `name` is "" where the stream gives none.
  template <class OnEvent>
  void feed(std::string_view bytes, const OnEvent& on_event) {
    while (!bytes.empty()) {
      const auto line_end = bytes.find('\n');
      if (line_end == std::string_view::npos) {
        partial_ += bytes;
        return;
      }
      const auto piece = bytes.substr(0, line_end);
      bytes.remove_prefix(line_end + 1);
      if (partial_.empty()) {
        take_line(piece, on_event);
      } else {
        partial_ += piece;
        take_line(partial_, on_event);
        partial_.clear();
      }
    }
  }

 private:
  template <class OnEvent>
  void take_line(std::string_view line, const OnEvent& on_event) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) {
      if (has_data_) on_event(std::string_view(name_), std::string_view(data_));
      has_data_ = false;
      data_.clear();
      name_.clear();
      return;
    }
    const auto colon = line.find(':');
    const auto field = line.substr(0, colon);
    auto value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (field == "data") {
      if (has_data_) data_ += '\n';
      data_ += value;
      has_data_ = true;
    } else if (field == "event") {
      name_ = value;
    }
  }

  std::string partial_;  // a line whose end has not come
  std::string name_, data_;
  bool has_data_ = false;
};

}  // namespace carat

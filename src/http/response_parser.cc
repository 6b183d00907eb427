#include "http/response_parser.h"

#include <boost/beast/http/basic_parser.hpp>

#include "base/str.h"

namespace carat {
namespace {

namespace http = boost::beast::http;
using BeastView = boost::beast::string_view;
using BeastError = boost::beast::error_code;

constexpr uint32_t kMaxHeadBytes = 256 << 10;
// Bytes without an end of head or chunk line: more is no HTTP.
constexpr size_t kMaxUnparsed = 1 << 20;

}  // namespace

const std::string* HttpResponseHead::header(std::string_view name) const {
  for (const auto& h : headers)
    if (equals_ignore_case_ascii(h.name, name)) return &h.value;
  return nullptr;
}

class ResponseParser::Impl final : public http::basic_parser<false> {
 public:
  Impl(bool to_head, const OnHead& on_head, const OnData& on_data) : on_head_(on_head), on_data_(on_data) {
    header_limit(kMaxHeadBytes);
    body_limit(boost::none);
    eager(true);
    skip(to_head);
  }
  bool is_interim() const { return head_.status / 100 == 1; }
  /// What comes next is the line before a chunk or the end of the body.
  bool between_chunks() const { return is_header_done() && chunked() && chunk_left_ == 0; }

 private:
  void on_response_impl(int status, BeastView reason, int, BeastError&) override {
    head_.status = status;
    head_.reason.assign(reason.data(), reason.size());
  }
  void on_field_impl(http::field, BeastView name, BeastView value, BeastError&) override {
    if (!head_done_) head_.headers.push_back({std::string(name), std::string(value)});
  }
  void on_header_impl(BeastError&) override {
    head_done_ = true;
    if (!is_interim()) on_head_(head_);
  }
  size_t on_body_impl(BeastView bytes, BeastError&) override {
    if (!bytes.empty()) on_data_({bytes.data(), bytes.size()});
    return bytes.size();
  }
  size_t on_chunk_body_impl(uint64_t left, BeastView bytes, BeastError& ec) override {
    chunk_left_ = left - bytes.size();
    return on_body_impl(bytes, ec);
  }
  void on_body_init_impl(const boost::optional<uint64_t>&, BeastError&) override {}
  void on_chunk_header_impl(uint64_t size, BeastView, BeastError&) override { chunk_left_ = size; }
  void on_request_impl(http::verb, BeastView, BeastView, int, BeastError&) override {}
  void on_finish_impl(BeastError&) override {}

  const OnHead& on_head_;
  const OnData& on_data_;
  HttpResponseHead head_;
  bool head_done_ = false;
  uint64_t chunk_left_ = 0;
};

ResponseParser::ResponseParser(bool to_head, OnHead on_head, OnData on_data)
    : to_head_(to_head), on_head_(std::move(on_head)), on_data_(std::move(on_data)) {
  renew();
}
ResponseParser::~ResponseParser() = default;

void ResponseParser::renew() { impl_ = std::make_unique<Impl>(to_head_, on_head_, on_data_); }

void ResponseParser::feed(std::string_view bytes) {
  if (bytes.empty()) return;
  begun_ = true;
  const bool gathered = !unparsed_.empty();
  if (gathered) {
    unparsed_ += bytes;
    bytes = unparsed_;
  }
  while (!bytes.empty() && !done_ && error_.empty()) {
    // No body ends with less, and Beast asserts that it is not called with less of the end.
    if (impl_->between_chunks() && bytes.size() < std::string_view("0\r\n\r\n").size()) break;
    BeastError ec;
    const size_t taken = impl_->put({bytes.data(), bytes.size()}, ec);
    bytes.remove_prefix(taken);
    if (ec && ec != http::error::need_more) {
      error_ = str_cat("not an HTTP response: ", ec.message());
    } else if (impl_->is_done() && impl_->is_interim()) {
      renew();
    } else if (impl_->is_done()) {
      done_ = true;
      keep_alive_ = impl_->keep_alive();
    } else if (ec == http::error::need_more || taken == 0) {
      break;
    }
  }
  if (bytes.size() > kMaxUnparsed && !done_) error_ = "not an HTTP response: a line has no end";
  gathered ? void(unparsed_.erase(0, unparsed_.size() - bytes.size())) : void(unparsed_.assign(bytes));
}

void ResponseParser::end_of_input() {
  if (done_ || !error_.empty()) return;
  BeastError ec;
  if (impl_->got_some()) impl_->put_eof(ec);
  done_ = impl_->got_some() && !ec && impl_->is_done();
  keep_alive_ = false;
  if (!done_) error_ = begun_ ? "the server closed in the middle of an answer" : "the server closed without an answer";
}

}  // namespace carat

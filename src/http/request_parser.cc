#include "http/request_parser.h"

#include <algorithm>

#include <boost/beast/http/basic_parser.hpp>

#include "base/str.h"
#include "http/wire.h"

namespace carat {
namespace {

namespace http = boost::beast::http;
using BeastView = boost::beast::string_view;
using BeastError = boost::beast::error_code;

std::string_view view(BeastView text) { return {text.data(), text.size()}; }

}  // namespace

// Beast's grammar, our fields: builds the HttpRequest directly and keeps the refusals that Beast has no code for.
class RequestParser::Impl final : public http::basic_parser<true> {
 public:
  explicit Impl(const Limits& limits) {
    header_limit(static_cast<uint32_t>(limits.max_header_bytes));
    body_limit(static_cast<uint64_t>(limits.max_body_bytes));
  }

  /// The head first, then what follows it: so head_bytes is exact, however the bytes were cut. Returns how much was
  /// taken.
  size_t advance(std::string_view bytes, BeastError& ec) {
    size_t taken = 0;
    if (!is_header_done()) {
      eager(false);
      taken = put({bytes.data(), bytes.size()}, ec);
      head_bytes += static_cast<int64_t>(taken);
      if (ec || !is_header_done() || is_done()) return taken;
      bytes.remove_prefix(taken);
    }
    return taken + (chunked() ? advance_chunks(bytes, ec) : advance_body(bytes, ec));
  }

  HttpRequest request;
  bool http10 = false;
  bool wants_continue = false;
  // What the head has taken so far: Beast bounds each of its parts, not their sum.
  int64_t head_bytes = 0;
  // The longest piece of a chunked body's framing so far: the line before a chunk, or the last chunk with the trailer.
  int64_t framing_bytes = 0;
  // Why one of the callbacks below stopped the parser.
  int refusal_status = 0;
  std::string refusal_reason;

 private:
  size_t advance_body(std::string_view bytes, BeastError& ec) {
    if (bytes.empty()) return 0;
    eager(true);
    return put({bytes.data(), bytes.size()}, ec);
  }

  /// One element at a time, so that the framing is measured the same however its bytes were cut.
  size_t advance_chunks(std::string_view bytes, BeastError& ec) {
    // No chunked body ends with less, and Beast asserts that it is not called with less of the end.
    constexpr size_t kLeast = std::string_view("0\r\n\r\n").size();
    eager(false);
    size_t taken = 0;
    while (!is_done() && bytes.size() >= kLeast) {
      const size_t before = request.body.size();
      const size_t step = put({bytes.data(), bytes.size()}, ec);
      framing_bytes = std::max(framing_bytes, static_cast<int64_t>(step - (request.body.size() - before)));
      taken += step;
      bytes.remove_prefix(step);
      if (ec || step == 0) break;
    }
    return taken;
  }

  void refuse(int status, std::string reason, BeastError& ec) {
    refusal_status = status;
    refusal_reason = std::move(reason);
    ec = http::error::bad_field;
  }

  void on_request_impl(http::verb, BeastView method, BeastView target, int version, BeastError& ec) override {
    http10 = version == 10;
    request.method = std::string(view(method));
    set_target(view(target), ec);
  }

  void set_target(std::string_view target, BeastError& ec) {
    // The absolute form ("GET http://host/path") must be accepted; the host in it is of no interest here.
    for (const std::string_view scheme : {"http://", "https://"}) {
      if (!equals_ignore_case_ascii(target.substr(0, scheme.size()), scheme)) continue;
      const auto slash = target.find_first_of("/?", scheme.size());
      target = slash == std::string_view::npos ? "/" : target.substr(slash);
      break;
    }
    const auto hash = target.find('#');
    const auto question = target.substr(0, hash).find('?');
    request.query = question == std::string_view::npos ? "" : std::string(target.substr(0, hash).substr(question + 1));
    auto path = http_wire::percent_decode(target.substr(0, std::min(hash, question)));
    if (!path) return refuse(400, "The request target has a broken percent code.", ec);
    if (path->empty()) *path = "/";
    if (path->find('\0') != std::string::npos) return refuse(400, "The request target has a NUL.", ec);
    if (path->front() != '/' && !(*path == "*" && request.method == "OPTIONS"))
      return refuse(400, "The request target must begin with '/'.", ec);
    request.path = std::move(*path);
  }

  void on_field_impl(http::field name, BeastView name_text, BeastView value_text, BeastError& ec) override {
    if (head_done_) return;  // a trailer: nothing in it may change the request
    const auto value = view(value_text);
    switch (name) {
      case http::field::host:
        if (has_host_) return refuse(400, "More than one Host header.", ec);
        has_host_ = true;
        break;
      case http::field::content_length:
        if (has_length_) return refuse(400, "More than one Content-Length header.", ec);
        has_length_ = true;
        break;
      case http::field::transfer_encoding:
        if (http10) return refuse(400, "Transfer-Encoding in an HTTP/1.0 request.", ec);
        if (!equals_ignore_case_ascii(trim(value), "chunked"))
          return refuse(501, "The only Transfer-Encoding understood is 'chunked'.", ec);
        break;
      case http::field::expect:
        if (!equals_ignore_case_ascii(value, "100-continue"))
          return refuse(417, "The only expectation understood is '100-continue'.", ec);
        wants_continue = !http10;
        break;
      default:
        break;
    }
    request.headers.push_back({std::string(view(name_text)), std::string(value)});
  }

  void on_header_impl(BeastError& ec) override {
    head_done_ = true;
    if (!has_host_ && !http10) refuse(400, "The Host header is missing.", ec);
  }

  void on_body_init_impl(const boost::optional<uint64_t>& length, BeastError&) override {
    // What is declared is only believed up to a point: most bodies fit, and a lie costs no memory.
    constexpr uint64_t kMaxReserve = 1 << 20;
    if (length) request.body.reserve(static_cast<size_t>(std::min(*length, kMaxReserve)));
  }

  size_t on_body_impl(BeastView bytes, BeastError&) override {
    request.body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  size_t on_chunk_body_impl(uint64_t, BeastView bytes, BeastError& ec) override { return on_body_impl(bytes, ec); }

  void on_chunk_header_impl(uint64_t, BeastView, BeastError&) override {}
  void on_response_impl(int, BeastView, int, BeastError&) override {}
  void on_finish_impl(BeastError&) override {}

  bool head_done_ = false;
  bool has_host_ = false;
  bool has_length_ = false;
};

RequestParser::RequestParser(const Limits& limits)
    : impl_(std::make_unique<Impl>(limits)), max_header_bytes_(limits.max_header_bytes) {}
RequestParser::~RequestParser() = default;

void RequestParser::fail(int status, std::string reason) {
  state_ = State::kFailed;
  failure_status_ = status;
  failure_reason_ = std::move(reason);
}

size_t RequestParser::feed(std::string_view bytes) {
  CARAT_DCHECK(state_ == State::kHead || state_ == State::kBody, "a parser that has ended was fed");
  size_t skipped = 0;
  // Old clients end a body with a line break that no length counts.
  constexpr int kMaxLeadingBreaks = 4;
  if (!begun_)
    for (; skipped < bytes.size() && (bytes[skipped] == '\r' || bytes[skipped] == '\n'); ++skipped)
      if (++leading_breaks_ > kMaxLeadingBreaks) break;
  bytes.remove_prefix(skipped);
  if (bytes.empty()) return skipped;
  begun_ = true;

  BeastError ec;
  const size_t taken = impl_->advance(bytes, ec);
  const bool head_done = (!ec || ec == http::error::need_more) && impl_->is_header_done();
  // A head, a trailer, or the line before a chunk. Beast bounds neither of the last two.
  const int64_t pending = impl_->is_done() ? 0 : static_cast<int64_t>(bytes.size() - taken);
  const bool too_long = std::max({impl_->head_bytes, impl_->framing_bytes,
                                  pending + (head_done ? 0 : impl_->head_bytes)}) > max_header_bytes_;

  if (impl_->refusal_status != 0) {
    fail(impl_->refusal_status, impl_->refusal_reason);
  } else if (ec == http::error::body_limit) {
    fail(413, "The request body is too large.");
  } else if (ec == http::error::header_limit || ((!ec || ec == http::error::need_more) && too_long)) {
    fail(431, str_cat("The request headers are longer than ", max_header_bytes_, " bytes."));
  } else if (ec == http::error::bad_version && bytes.starts_with("PRI * HTTP/2.0\r\n")) {
    fail(400, "HTTP/2 is not spoken here, only HTTP/1.1.");  // routers ask in this way whether we are a gRPC server
  } else if (ec == http::error::bad_version) {
    fail(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
  } else if (ec && ec != http::error::need_more) {
    fail(400, str_cat("Invalid HTTP request: ", ec.message(), "."));
  } else if (impl_->is_done()) {
    state_ = State::kDone;
  } else if (head_done) {
    state_ = State::kBody;
  }
  return skipped + taken;
}

bool RequestParser::wants_continue() const { return impl_->wants_continue; }
bool RequestParser::keep_alive() const { return impl_->keep_alive(); }
bool RequestParser::http10() const { return impl_->http10; }
HttpRequest RequestParser::take() { return std::move(impl_->request); }

}  // namespace carat

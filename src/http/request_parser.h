#pragma once
// Bytes of a connection -> one HttpRequest, with the limits. No sockets; Boost.Beast is inside the .cc.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/server.h"

namespace carat {

/// Reads one request. Use one parser per request.
///
/// Stricter than the RFC where leniency is how requests are smuggled past a proxy: one Content-Length, no
/// Transfer-Encoding but "chunked", never both, none of it in HTTP/1.0, exactly one Host in HTTP/1.1, no repeated
/// framing headers. Trailers are dropped.
class RequestParser {
 public:
  struct Limits {
    int64_t max_body_bytes;
    int64_t max_header_bytes;  ///< request line and headers; also trailers, and the line that begins a chunk
  };
  enum class State { kHead, kBody, kDone, kFailed };

  explicit RequestParser(const Limits& limits);
  ~RequestParser();

  /// Takes what it can and returns how much. Bytes not taken must be fed again, with more behind them, while the state
  /// is kHead or kBody. Nothing may be fed to a parser that is done or failed.
  size_t feed(std::string_view bytes);

  State state() const { return state_; }
  /// A byte has arrived that is not yet a whole request.
  bool begun() const { return begun_; }

  // After kFailed.
  int failure_status() const { return failure_status_; }
  const std::string& failure_reason() const { return failure_reason_; }

  // From kBody on.
  bool wants_continue() const;  ///< "Expect: 100-continue"
  bool keep_alive() const;
  bool http10() const;

  /// Once, after kDone; `peer` is left empty.
  HttpRequest take();

 private:
  class Impl;
  void fail(int status, std::string reason);
  std::unique_ptr<Impl> impl_;
  State state_ = State::kHead;
  bool begun_ = false;
  int leading_breaks_ = 0;  // characters of line breaks before the request
  int64_t max_header_bytes_;
  int failure_status_ = 0;
  std::string failure_reason_;
};

}  // namespace carat

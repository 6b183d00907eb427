#pragma once
// Bytes of a connection -> one HTTP response, its body handed on piece by piece.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace carat {

struct HttpResponseHead {
  int status = 0;
  std::string reason = {};
  std::vector<HttpHeader> headers = {};

  /// The first header of that name (case-insensitive), or null.
  const std::string* header(std::string_view name) const;
};

/// Use one per request. Interim answers (100 Continue) are skipped.
class ResponseParser {
 public:
  using OnHead = std::function<void(HttpResponseHead)>;
  using OnData = std::function<void(std::string_view)>;

  /// `to_head`: the request was HEAD, so no body comes.
  ResponseParser(bool to_head, OnHead on_head, OnData on_data);
  ~ResponseParser();

  /// Takes all of `bytes`, or up to the end of the response.
  void feed(std::string_view bytes);
  /// The server closed. That ends a body without a length.
  void end_of_input();

  bool done() const { return done_; }
  /// Empty unless what came is no HTTP, or ended too early.
  const std::string& error() const { return error_; }
  bool begun() const { return begun_; }
  /// After done(): the connection can be used again.
  bool keep_alive() const { return keep_alive_; }

 private:
  class Impl;
  void renew();
  void check_done();

  const bool to_head_;
  const OnHead on_head_;
  const OnData on_data_;
  std::unique_ptr<Impl> impl_;
  std::string unparsed_;
  bool begun_ = false, done_ = false, keep_alive_ = false;
  std::string error_;
};

}  // namespace carat

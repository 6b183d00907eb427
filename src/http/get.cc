#include "http/get.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/str.h"
#include "http/response_parser.h"

namespace carat {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using BoostError = boost::system::error_code;
using Clock = HttpGetOptions::Clock;
using Tcp = asio::ip::tcp;
using TlsContext = std::shared_ptr<ssl::context>;

// ---- addresses ----

struct Range {
  uint32_t address;
  int bits;
};
// Source: IANA's registry of special-purpose IPv4 addresses.
constexpr Range kReservedV4[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
    {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
    {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
};

bool is_public_v4(uint32_t address) {
  for (const auto& range : kReservedV4)
    if ((address ^ range.address) >> (32 - range.bits) == 0) return false;
  return true;
}

bool is_public_v6(const asio::ip::address_v6::bytes_type& b) {
  const auto begins = [&](std::initializer_list<int> bytes) {
    return std::equal(bytes.begin(), bytes.end(), b.begin(), [](int x, unsigned char y) { return x == y; });
  };
  const auto v4_at = [&](size_t i) {
    return is_public_v4(uint32_t{b[i]} << 24 | uint32_t{b[i + 1]} << 16 | uint32_t{b[i + 2]} << 8 | b[i + 3]);
  };
  if (begins({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) return v4_at(12);     // IPv4 written as IPv6
  if (begins({0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) return v4_at(12);  // behind a NAT64
  if (begins({0x20, 0x02})) return v4_at(2);                                    // 6to4
  if ((b[0] & 0xe0) != 0x20) return false;                                      // only 2000::/3 is given out
  if (begins({0x20, 0x01}) && b[2] < 2) return false;                           // 2001::/23: Teredo, ORCHID, benchmarks
  if (begins({0x20, 0x01, 0x0d, 0xb8})) return false;                           // documentation
  return !(begins({0x3f, 0xff}) && b[2] < 0x10);                                // documentation
}

bool is_public(const asio::ip::address& address) {
  return address.is_v4() ? is_public_v4(address.to_v4().to_uint()) : is_public_v6(address.to_v6().to_bytes());
}

// ---- TLS ----

// Our OpenSSL is linked in and knows only where Debian keeps certificates.
Result<std::string> find_ca_file() {
  const char* const named = std::getenv("SSL_CERT_FILE");
  if (named != nullptr && *named != '\0') return std::string(named);
  for (const auto* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"})
    if (::access(path, R_OK) == 0) return std::string(path);
  return Error{Errc::kIo,
               "no certificates to trust were found for https; install the package ca-certificates, or name a "
               "PEM file in SSL_CERT_FILE"};
}

Result<TlsContext> make_tls_context(const std::string& ca_file) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  BoostError ec;
  context->load_verify_file(ca_file, ec);
  if (ec) return Error{Errc::kIo, str_cat("the certificates in ", ca_file, " cannot be read: ", ec.message())};
  context->set_verify_mode(ssl::verify_peer, ec);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  return context;
}

Result<TlsContext> tls_context(const std::string& ca_file) {
  if (!ca_file.empty()) return make_tls_context(ca_file);
  // Reading the system's takes long, so once.
  static const Result<TlsContext> system = []() -> Result<TlsContext> {
    CARAT_TRY(const auto file, find_ca_file());
    return make_tls_context(file);
  }();
  return system;
}

// ---- one hop ----

/// How soon a GET that was stopped ends.
constexpr std::chrono::milliseconds kStopLatency{50};

struct Answer {
  HttpResponseHead head;
  std::vector<uint8_t> body;
};

class Hop {
 public:
  Hop(const Url& url, const HttpGetOptions& options) : url_(url), options_(options) {
    const auto limit =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.connect_timeout_s));
    connect_deadline_ = std::min(options.deadline, Clock::now() + limit);
  }
  ~Hop() {
    BoostError ignored;
    socket_.close(ignored);
    context_.restart();
    context_.poll();  // what was cancelled still refers to us
  }

  Result<Answer> get() {
    CARAT_TRY(const auto endpoints, resolve());
    CARAT_TRY_VOID(connect(endpoints));
    if (url_.https) CARAT_TRY_VOID(handshake());
    CARAT_TRY_VOID(send());
    return receive();
  }

 private:
  bool stopped() const { return options_.stopped && options_.stopped(); }

  // Runs what start(handler) begins until it ends, time is over or nobody wants it any more.
  template <class Start>
  Result<BoostError> run(Clock::time_point deadline, std::string_view what, Start&& start) {
    std::optional<BoostError> outcome;
    start([&](const BoostError& ec) { outcome = ec; });
    context_.restart();
    while (!outcome && !stopped() && Clock::now() < deadline)
      context_.run_one_until(std::min(deadline, Clock::now() + kStopLatency));
    if (outcome) return *outcome;
    const bool was_stopped = stopped();
    BoostError ignored;
    resolver_.cancel();
    socket_.close(ignored);
    while (!outcome && context_.run_one() > 0) {
    }
    if (was_stopped) return Error{Errc::kCancelled, str_cat("the GET from ", url_.authority(), " was stopped")};
    return Error{Errc::kUnavailable, str_cat(url_.authority(), " took too long to ", what)};
  }

  Error io_error(std::string_view what, const BoostError& ec) const {
    return {Errc::kIo, str_cat("cannot ", what, " ", url_.authority(), ": ", ec.message())};
  }

  Result<Tcp::resolver::results_type> resolve() {
    Tcp::resolver::results_type found;
    CARAT_TRY(const auto ec, run(connect_deadline_, "be found", [&](auto done) {
                resolver_.async_resolve(url_.host, std::to_string(url_.port), Tcp::resolver::numeric_service,
                                        [&found, done](const BoostError& e, Tcp::resolver::results_type r) {
                                          found = std::move(r);
                                          done(e);
                                        });
              }));
    if (ec) return io_error("find", ec);
    if (options_.allow_private_addresses) return found;
    for (const auto& entry : found)
      if (!is_public(entry.endpoint().address()))
        return Error{Errc::kInvalidArgument, str_cat("the host ", url_.host,
                                                     " is refused: its address is not of the public "
                                                     "internet")};
    return found;
  }

  Result<void> connect(const Tcp::resolver::results_type& endpoints) {
    CARAT_TRY(const auto ec, run(connect_deadline_, "accept a connection", [&](auto done) {
                asio::async_connect(socket_, endpoints, [done](const BoostError& e, const Tcp::endpoint&) { done(e); });
              }));
    if (ec) return io_error("connect to", ec);
    return {};
  }

  Result<void> handshake() {
    CARAT_TRY(tls_context_, tls_context(options_.ca_file));
    tls_ = std::make_unique<ssl::stream<Tcp::socket&>>(socket_, *tls_context_);
    BoostError ec;
    tls_->set_verify_callback(ssl::host_name_verification(url_.host), ec);
    BoostError not_an_address;
    asio::ip::make_address(url_.host, not_an_address);
    if (not_an_address) SSL_set_tlsext_host_name(tls_->native_handle(), url_.host.c_str());
    CARAT_TRY(ec, run(connect_deadline_, "agree on TLS",
                      [&](auto done) { tls_->async_handshake(ssl::stream_base::client, done); }));
    if (ec) return io_error("agree on TLS with", ec);
    return {};
  }

  Result<void> send() {
    const auto request =
        str_cat("GET ", url_.target, " HTTP/1.1\r\nHost: ", url_.authority(),
                "\r\nUser-Agent: carat\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n");
    CARAT_TRY(const auto ec, run(options_.deadline, "take the request", [&](auto done) {
                with_stream([&](auto& stream) {
                  asio::async_write(stream, asio::buffer(request), [done](const BoostError& e, size_t) { done(e); });
                });
              }));
    if (ec) return io_error("send to", ec);
    return {};
  }

  Result<Answer> receive() {
    Answer answer;
    std::optional<Error> refusal;
    const auto too_large = [&] {
      return Error{Errc::kTooLarge, str_cat(url_.authority(), " gives more than ", options_.max_bytes,
                                            " bytes, the most that are allowed")};
    };
    ResponseParser parser(
        false,
        [&](HttpResponseHead head) {
          answer.head = std::move(head);
          int64_t length = 0;
          const auto* const announced = answer.head.header("content-length");
          if (announced != nullptr && parse_int(*announced, length) && length > options_.max_bytes)
            refusal = too_large();
        },
        [&](std::string_view data) {
          if (refusal) return;
          if (static_cast<int64_t>(answer.body.size() + data.size()) > options_.max_bytes)
            refusal = too_large();
          else
            answer.body.insert(answer.body.end(), data.begin(), data.end());
        });
    std::vector<char> buffer(size_t{64} << 10);
    while (!parser.done()) {
      size_t size = 0;
      CARAT_TRY(const auto ec, run(options_.deadline, "answer", [&](auto done) {
                  with_stream([&](auto& stream) {
                    stream.async_read_some(asio::buffer(buffer), [&size, done](const BoostError& e, size_t n) {
                      size = n;
                      done(e);
                    });
                  });
                }));
      if (ec == asio::error::eof || ec == ssl::error::stream_truncated)
        parser.end_of_input();
      else if (ec)
        return io_error("read from", ec);
      else
        parser.feed({buffer.data(), size});
      if (refusal) return *std::move(refusal);
      if (!parser.error().empty()) return Error{Errc::kIo, str_cat(url_.authority(), ": ", parser.error())};
    }
    return answer;
  }

  template <class Fn>
  void with_stream(Fn&& fn) {
    if (tls_)
      fn(*tls_);
    else
      fn(socket_);
  }

  const Url& url_;
  const HttpGetOptions& options_;
  Clock::time_point connect_deadline_;
  asio::io_context context_{1};
  Tcp::resolver resolver_{context_};
  Tcp::socket socket_{context_};
  TlsContext tls_context_;
  std::unique_ptr<ssl::stream<Tcp::socket&>> tls_;
};

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

Result<std::vector<uint8_t>> http_get(const Url& url, const HttpGetOptions& options) {
  Url at = url;
  for (int hop = 0;; ++hop) {
    if (options.allow_url) CARAT_TRY_VOID(options.allow_url(at));
    CARAT_TRY(auto answer, Hop(at, options).get());
    const int status = answer.head.status;
    const auto* const location = answer.head.header("location");
    if (is_redirect(status) && location != nullptr) {
      if (hop == options.max_redirects)
        return Error{Errc::kIo, str_cat(url.authority(), " redirects more than ", options.max_redirects, " times")};
      CARAT_TRY(at, resolve_url(at, *location));
      continue;
    }
    if (status != 200)
      return Error{status / 100 == 4 ? Errc::kNotFound : Errc::kIo,
                   str_cat(at.authority(), " answered ", status, " ", answer.head.reason)};
    const auto* const encoding = answer.head.header("content-encoding");
    if (encoding != nullptr && !equals_ignore_case_ascii(*encoding, "identity"))
      return Error{Errc::kIo,
                   str_cat(at.authority(), " answered with the encoding '", *encoding, "', which was not asked for")};
    return std::move(answer.body);
  }
}

bool is_public_address(std::string_view address) {
  BoostError ec;
  const auto parsed = asio::ip::make_address(std::string(address), ec);
  return !ec && is_public(parsed);
}

}  // namespace carat

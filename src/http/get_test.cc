#include "http/get.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <thread>

#include "base/str.h"

namespace carat {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using Tcp = asio::ip::tcp;
using namespace std::chrono_literals;

// A certificate for localhost that signs itself, and its key.
struct Certificate {
  std::string pem, key;
};
Certificate make_certificate(const std::string& names) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* x509 = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
  X509_set_version(x509, 2);
  X509_set_pubkey(x509, key);
  auto* const name = X509_get_subject_name(x509);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  X509_set_issuer_name(x509, name);
  X509_EXTENSION* const san = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names.c_str());
  X509_add_ext(x509, san, -1);
  X509_EXTENSION_free(san);
  X509_sign(x509, key, EVP_sha256());
  const auto to_text = [](auto write) {
    BIO* const bio = BIO_new(BIO_s_mem());
    write(bio);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<size_t>(size));
    BIO_free(bio);
    return text;
  };
  Certificate out{to_text([&](BIO* b) { PEM_write_bio_X509(b, x509); }),
                  to_text([&](BIO* b) { PEM_write_bio_PrivateKey(b, key, nullptr, nullptr, 0, nullptr, nullptr); })};
  X509_free(x509);
  EVP_PKEY_free(key);
  return out;
}

/// Gives each target its fixed bytes, then closes; "" as an answer means: say nothing until the client goes.
class Server {
 public:
  explicit Server(std::map<std::string, std::string> answers, const Certificate* certificate = nullptr)
      : answers_(std::move(answers)) {
    if (certificate != nullptr) {
      tls_.emplace(ssl::context::tls_server);
      tls_->use_certificate(asio::buffer(certificate->pem), ssl::context::pem);
      tls_->use_private_key(asio::buffer(certificate->key), ssl::context::pem);
    }
    thread_ = std::thread([this] { run(); });
  }
  ~Server() {
    stopping_ = true;
    Tcp::socket knock(context_);
    boost::system::error_code ignored;
    knock.connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }
  int port() const { return acceptor_.local_endpoint().port(); }
  std::string url(std::string_view target, std::string_view host = "127.0.0.1") const {
    return str_cat(tls_ ? "https://" : "http://", host, ":", port(), target);
  }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void run() {
    while (!stopping_) {
      Tcp::socket socket(context_);
      boost::system::error_code ec;
      acceptor_.accept(socket, ec);
      if (ec || stopping_) continue;
      if (tls_) {
        ssl::stream<Tcp::socket&> stream(socket, *tls_);
        stream.handshake(ssl::stream_base::server, ec);
        if (!ec) answer(stream);
      } else {
        answer(socket);
      }
    }
  }
  template <class Stream>
  void answer(Stream& stream) {
    std::string request;
    boost::system::error_code ec;
    char buffer[4096];
    // A client that speaks TLS here gets an answer all the same.
    while (!ec && request.find("\r\n\r\n") == std::string::npos && !request.starts_with('\x16'))
      request.append(buffer, stream.read_some(asio::buffer(buffer), ec));
    const auto target = request.starts_with("GET ") ? std::string(split(request, ' ')[1]) : "";
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    if (const auto& text = answers_[target]; !text.empty())
      asio::write(stream, asio::buffer(text), ec);
    else
      stream.read_some(asio::buffer(buffer), ec);
  }

  asio::io_context context_;
  Tcp::acceptor acceptor_{context_, Tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
  std::optional<ssl::context> tls_;
  std::map<std::string, std::string> answers_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

std::string ok(std::string_view body) {
  return str_cat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}
std::string redirect(std::string_view to) {
  return str_cat("HTTP/1.1 302 Found\r\nLocation: ", to, "\r\nContent-Length: 0\r\n\r\n");
}

const HttpGetOptions kLocal{.allow_private_addresses = true};

Result<std::string> get(std::string_view url, const HttpGetOptions& options = kLocal) {
  CARAT_TRY(const auto parsed, parse_url(url));
  CARAT_TRY(const auto body, http_get(parsed, options));
  return std::string(body.begin(), body.end());
}

void expect_error(const Result<std::string>& result, Errc code, std::string_view part) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_THAT(result.error().message, testing::HasSubstr(std::string(part)));
}

TEST(HttpGet, GivesTheBodyHoweverItIsFramed) {
  Server server({{"/length?q=1", ok("hello")},
                 {"/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"},
                 {"/close", "HTTP/1.1 200 OK\r\n\r\nhello"}});
  for (const auto target : {"/length?q=1#x", "/chunks", "/close"}) {
    const auto body = get(server.url(target));
    ASSERT_TRUE(body) << body.error().message;
    EXPECT_EQ(*body, "hello");
  }
  const auto request = server.requests()[0];
  EXPECT_THAT(request, testing::StartsWith("GET /length?q=1 HTTP/1.1\r\n"));
  EXPECT_THAT(request, testing::HasSubstr(str_cat("Host: 127.0.0.1:", server.port(), "\r\n")));
}

TEST(HttpGet, SizeIsLimited) {
  Server server({{"/announced", ok("12345")},
                 {"/close", "HTTP/1.1 200 OK\r\n\r\n12345"},
                 {"/lie", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"}});
  HttpGetOptions options = kLocal;
  options.max_bytes = 5;
  EXPECT_TRUE(get(server.url("/announced"), options));
  EXPECT_TRUE(get(server.url("/close"), options));
  expect_error(get(server.url("/lie"), options), Errc::kTooLarge, "more than 5 bytes");
  options.max_bytes = 4;
  expect_error(get(server.url("/announced"), options), Errc::kTooLarge, "more than 4 bytes");
  expect_error(get(server.url("/close"), options), Errc::kTooLarge, "more than 4 bytes");
}

TEST(HttpGet, RedirectsAreFollowedAndCounted) {
  Server server({{"/0", redirect("/1")}, {"/1", redirect("2")}, {"/2", ok("end")}, {"/loop", redirect("/loop")}});
  HttpGetOptions options = kLocal;
  options.max_redirects = 2;
  const auto body = get(server.url("/0"), options);
  ASSERT_TRUE(body) << body.error().message;
  EXPECT_EQ(*body, "end");
  options.max_redirects = 1;
  expect_error(get(server.url("/0"), options), Errc::kIo, "more than 1 times");
  expect_error(get(server.url("/loop")), Errc::kIo, "more than 5 times");
}

TEST(HttpGet, PrivateAddressesAreRefused) {
  Server server({{"/", ok("secret")}});
  for (const auto host : {"127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:127.0.0.1]"})
    expect_error(get(server.url("/", host), {}), Errc::kInvalidArgument, "not of the public internet");
  EXPECT_THAT(server.requests(), testing::IsEmpty());
}

// The check is made at every hop: a public server may redirect to an address inside.
TEST(HttpGet, EachHopIsAskedFor) {
  Server inner({{"/", ok("secret")}});
  Server outer({{"/", redirect(str_cat("http://localhost:", inner.port(), "/"))}});
  HttpGetOptions options = kLocal;
  std::vector<std::string> asked;
  options.allow_url = [&](const Url& url) -> Result<void> {
    asked.push_back(url.host);
    if (url.host == "localhost") return Error{Errc::kInvalidArgument, "not this one"};
    return {};
  };
  expect_error(get(outer.url("/"), options), Errc::kInvalidArgument, "not this one");
  EXPECT_THAT(asked, testing::ElementsAre("127.0.0.1", "localhost"));
  EXPECT_THAT(inner.requests(), testing::IsEmpty());
  Server to_file({{"/", redirect("file:///etc/passwd")}});
  expect_error(get(to_file.url("/")), Errc::kInvalidArgument, "http and https");
}

TEST(HttpGet, TimeIsLimited) {
  Server server({});
  HttpGetOptions options = kLocal;
  options.deadline = HttpGetOptions::Clock::now() + 500ms;
  const auto begin = HttpGetOptions::Clock::now();
  expect_error(get(server.url("/silent"), options), Errc::kUnavailable, "took too long to answer");
  EXPECT_LT(HttpGetOptions::Clock::now() - begin, 5s);
  // A listener that nobody accepts from, its queue full: connections hang.
  asio::io_context context;
  Tcp::acceptor full(context, Tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  full.listen(0);
  std::vector<std::unique_ptr<Tcp::socket>> filling;
  for (int i = 0; i < 4; ++i) {
    filling.push_back(std::make_unique<Tcp::socket>(context));
    filling.back()->async_connect(full.local_endpoint(), [](const boost::system::error_code&) {});
  }
  context.run_for(100ms);
  options = kLocal;
  options.connect_timeout_s = 0.1;
  expect_error(get(str_cat("http://127.0.0.1:", full.local_endpoint().port(), "/"), options), Errc::kUnavailable,
               "took too long to accept a connection");
}

TEST(HttpGet, CanBeStopped) {
  Server server({});
  HttpGetOptions options = kLocal;
  const auto begin = HttpGetOptions::Clock::now();
  options.stopped = [&] { return HttpGetOptions::Clock::now() - begin > 200ms; };
  expect_error(get(server.url("/silent"), options), Errc::kCancelled, "was stopped");
  EXPECT_LT(HttpGetOptions::Clock::now() - begin, 1s);
  options.stopped = [] { return true; };
  expect_error(get(server.url("/silent"), options), Errc::kCancelled, "was stopped");
}

TEST(HttpGet, ErrorsSayWhatWasWrong) {
  Server server({{"/404", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"},
                 {"/500", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"},
                 {"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"},
                 {"/noise", "this is no HTTP\r\n\r\n"},
                 {"/gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"}});
  expect_error(get(server.url("/404")), Errc::kNotFound, "answered 404 Not Found");
  expect_error(get(server.url("/500")), Errc::kIo, "answered 500 Oh");
  expect_error(get(server.url("/cut")), Errc::kIo, str_cat("127.0.0.1:", server.port()));
  expect_error(get(server.url("/noise")), Errc::kIo, str_cat("127.0.0.1:", server.port()));
  expect_error(get(server.url("/gzip")), Errc::kIo, "'gzip'");
  expect_error(get("http://127.0.0.1:1/"), Errc::kIo, "cannot connect to 127.0.0.1:1");
  expect_error(get("http://name.invalid/"), Errc::kIo, "cannot find name.invalid");
}

class HttpsGet : public testing::Test {
 protected:
  HttpsGet() : path_(std::filesystem::temp_directory_path() / str_cat("carat_get_test_", ::getpid(), ".pem")) {
    trust(certificate_);
    options_.ca_file = path_;
  }
  ~HttpsGet() override { std::filesystem::remove(path_); }
  void trust(const Certificate& certificate) { std::ofstream(path_) << certificate.pem; }

  const Certificate certificate_ = make_certificate("DNS:localhost,IP:127.0.0.1");
  const std::filesystem::path path_;
  HttpGetOptions options_ = kLocal;
};

TEST_F(HttpsGet, ReadsOverTls) {
  const std::string large(3 << 20, 'x');
  Server server({{"/", ok(large)}, {"/close", "HTTP/1.1 200 OK\r\n\r\nhello"}}, &certificate_);
  for (const auto host : {"localhost", "127.0.0.1"}) {
    const auto body = get(server.url("/", host), options_);
    ASSERT_TRUE(body) << body.error().message;
    EXPECT_TRUE(*body == large);
  }
  const auto closed = get(server.url("/close"), options_);
  ASSERT_TRUE(closed) << closed.error().message;
  EXPECT_EQ(*closed, "hello");
}

TEST_F(HttpsGet, StrangersAreNotTrusted) {
  const auto other = make_certificate("DNS:localhost,IP:127.0.0.1");
  Server server({{"/", ok("x")}}, &other);
  expect_error(get(server.url("/"), options_), Errc::kIo, "agree on TLS");
  const auto for_another_name = make_certificate("DNS:elsewhere.example");
  trust(for_another_name);
  Server elsewhere({{"/", ok("x")}}, &for_another_name);
  expect_error(get(elsewhere.url("/", "localhost"), options_), Errc::kIo, "agree on TLS");
  options_.ca_file = "/nowhere.pem";
  expect_error(get(server.url("/"), options_), Errc::kIo, "/nowhere.pem cannot be read");
}

TEST_F(HttpsGet, APlainServerIsNoTlsServer) {
  Server server({{"", ok("x")}});
  expect_error(get(str_cat("https://127.0.0.1:", server.port(), "/"), options_), Errc::kIo, "agree on TLS");
}

TEST(PublicAddress, KnowsTheReservedRanges) {
  for (const auto address : {"0.0.0.0",
                             "10.1.2.3",
                             "100.64.0.1",
                             "100.127.255.255",
                             "127.0.0.1",
                             "127.255.255.255",
                             "169.254.169.254",
                             "172.16.0.1",
                             "172.31.255.255",
                             "192.0.0.1",
                             "192.0.2.1",
                             "192.88.99.1",
                             "192.168.0.1",
                             "198.18.0.1",
                             "198.19.255.255",
                             "198.51.100.1",
                             "203.0.113.1",
                             "224.0.0.1",
                             "240.0.0.1",
                             "255.255.255.255",
                             "::",
                             "::1",
                             "::ffff:10.0.0.1",
                             "::ffff:127.0.0.1",
                             "64:ff9b::a00:1",
                             "64:ff9b:1::1",
                             "100::1",
                             "2001::1",
                             "2001:1ff::1",
                             "2001:db8::1",
                             "2002:7f00:1::",
                             "2002:a00:1::1",
                             "3fff::1",
                             "fc00::1",
                             "fd12::1",
                             "fe80::1",
                             "fec0::1",
                             "ff02::1",
                             "5f00::1",
                             "",
                             "localhost",
                             "1.2.3"})
    EXPECT_FALSE(is_public_address(address)) << address;
  for (const auto address : {"1.1.1.1",         "9.255.255.255",   "11.0.0.0",
                             "100.63.255.255",  "100.128.0.0",     "126.255.255.255",
                             "128.0.0.1",       "169.253.0.1",     "172.15.255.255",
                             "172.32.0.0",      "192.0.1.0",       "192.167.255.255",
                             "192.169.0.0",     "198.17.255.255",  "198.20.0.0",
                             "223.255.255.255", "::ffff:1.1.1.1",  "64:ff9b::101:101",
                             "2001:200::1",     "2002:101:101::1", "2606:4700:4700::1111",
                             "2a00:1450::1",    "3fff:1000::1"})
    EXPECT_TRUE(is_public_address(address)) << address;
}

}  // namespace
}  // namespace carat

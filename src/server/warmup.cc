#include "server/warmup.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/str.h"

namespace carat {
namespace {

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

Error io_error(std::string_view what) { return {Errc::kIo, str_cat("warm-up: ", what, ": ", std::strerror(errno))}; }

Result<std::unique_ptr<Socket>> connect_to(const std::string& host, int port, std::chrono::seconds timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (getaddrinfo(host.c_str(), str_cat(port).c_str(), &hints, &list) != 0)
    return Error{Errc::kIo, str_cat("warm-up: cannot resolve ", host)};
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  for (const addrinfo* at = list; at; at = at->ai_next) {
    auto socket = std::make_unique<Socket>(::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
    if (socket->fd() < 0) continue;
    const timeval limit{timeout.count(), 0};
    setsockopt(socket->fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(socket->fd(), at->ai_addr, at->ai_addrlen) == 0) return socket;
  }
  return io_error(str_cat("cannot connect to ", host, ":", port));
}

Result<void> send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return io_error("cannot send");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return {};
}

Result<std::string> receive_all(int fd) {
  std::string answer;
  char buffer[4096];
  for (;;) {
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("no answer");
    if (got == 0) return answer;
    answer.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace

std::string reachable_host(const std::string& host) {
  if (host == "0.0.0.0" || host.empty()) return "127.0.0.1";
  return host == "::" ? "::1" : host;
}

Result<void> send_warmup(const std::string& host, int port, const std::optional<std::string>& api_key, int num_tokens,
                         std::chrono::seconds timeout) {
  const std::string body =
      str_cat(R"({"text":"The capital city of France is","sampling_params":{"temperature":0,"max_new_tokens":)",
              num_tokens, "}}");
  const std::string target = reachable_host(host);
  CARAT_TRY(const auto socket, connect_to(target, port, timeout));
  CARAT_TRY_VOID(send_all(socket->fd(), str_cat("POST /generate HTTP/1.1\r\nHost: ", target, ":", port,
                                                "\r\nContent-Type: application/json\r\nConnection: close\r\n",
                                                api_key ? str_cat("Authorization: Bearer ", *api_key, "\r\n") : "",
                                                "Content-Length: ", body.size(), "\r\n\r\n", body)));
  CARAT_TRY(const auto answer, receive_all(socket->fd()));
  if (answer.starts_with("HTTP/1.1 200")) return {};
  return Error{Errc::kInternal, str_cat("warm-up: unexpected answer: ", answer.substr(0, 300))};
}

}  // namespace carat

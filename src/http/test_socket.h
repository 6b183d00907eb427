#pragma once
// A client for tests that sends exactly the bytes it is told to.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/str.h"

namespace carat {

struct TestAnswer {
  int status = 0;
  std::string head;  ///< with the empty line
  std::string body;  ///< dechunked
  bool complete = false;

  bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
};

class TestSocket {
 public:
  explicit TestSocket(int port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    CARAT_CHECK(fd_ >= 0, "no socket");
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~TestSocket() { close(); }
  TestSocket(TestSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  TestSocket& operator=(TestSocket&&) = delete;

  int fd() const { return fd_; }
  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  /// Closes so that the peer sees a reset.
  void reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void shutdown_send() { ::shutdown(fd_, SHUT_WR); }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  /// Reads what comes next into the buffer. False on end, error or after the time.
  bool fill(int timeout_ms = 5000) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, timeout_ms) <= 0) return false;
    char bytes[16384];
    const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) {
      ended_ = true;
      was_reset_ = n < 0;
      return false;
    }
    buffer_.append(bytes, static_cast<size_t>(n));
    return true;
  }
  bool was_reset() const { return was_reset_; }
  const std::string& buffer() const { return buffer_; }

  bool read_until(std::string_view text, int timeout_ms = 5000) {
    while (buffer_.find(text) == std::string::npos)
      if (!fill(timeout_ms)) return false;
    return true;
  }
  /// Everything until the server closes; false if it does not within the time.
  bool read_to_end(int timeout_ms = 5000) {
    while (fill(timeout_ms)) {
    }
    return ended_;
  }

  /// One answer. `complete` tells whether it ended as its framing says.
  TestAnswer read_answer(bool to_head = false, int timeout_ms = 5000) {
    TestAnswer answer;
    if (!read_until("\r\n\r\n", timeout_ms)) return answer;
    const auto head_end = buffer_.find("\r\n\r\n") + 4;
    answer.head = buffer_.substr(0, head_end);
    buffer_.erase(0, head_end);
    answer.status = std::atoi(answer.head.c_str() + 9);
    if (to_head || answer.status == 100 || answer.status == 204) {
      answer.complete = true;
    } else if (answer.has("Transfer-Encoding: chunked")) {
      read_chunks(answer, timeout_ms);
    } else if (const auto at = answer.head.find("Content-Length: "); at != std::string::npos) {
      const size_t length = std::strtoull(answer.head.c_str() + at + 16, nullptr, 10);
      while (buffer_.size() < length && fill(timeout_ms)) {
      }
      answer.complete = buffer_.size() >= length;
      answer.body = buffer_.substr(0, length);
      buffer_.erase(0, length);
    } else {
      answer.complete = read_to_end(timeout_ms) && !was_reset_;
      answer.body = std::exchange(buffer_, "");
    }
    return answer;
  }
  TestAnswer request(std::string_view bytes, bool to_head = false) {
    send(bytes);
    return read_answer(to_head);
  }

 private:
  void read_chunks(TestAnswer& answer, int timeout_ms) {
    while (true) {
      size_t line = 0;
      while ((line = buffer_.find("\r\n")) == std::string::npos)
        if (!fill(timeout_ms)) return;
      const size_t size = std::strtoull(buffer_.c_str(), nullptr, 16);
      while (buffer_.size() < line + 2 + size + 2)
        if (!fill(timeout_ms)) return;
      answer.body += buffer_.substr(line + 2, size);
      buffer_.erase(0, line + 2 + size + 2);
      if (size == 0) {
        answer.complete = true;
        return;
      }
    }
  }

  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  bool was_reset_ = false;
  std::string buffer_;
};

/// Lets this process open that many files, as far as the system allows; returns how many it may now.
inline int raise_file_limit(int wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, std::max<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(wanted)));
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(limit.rlim_cur);
}

}  // namespace carat

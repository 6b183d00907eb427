// Streams over loopback: how many chunks a second of CPU time of the io thread sends.
//
//   carat_http_bench [seconds per row, default 2]
//
// A step writes one chunk of 280 bytes to each stream, as an engine's step does. "step" posts one work per step, the
// cheapest way; "chunk" writes from another thread, each chunk by itself. "flood" takes the next step as soon as the
// last has been sent, "25 ms" is a model's pace. The client, one thread, reads and drops.
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "http/server.h"
#include "http/test_socket.h"

namespace carat {
namespace {

using Clock = std::chrono::steady_clock;

struct Cpu {
  double user = 0, system = 0;
};

double seconds(const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); }

Cpu cpu_of_this_thread() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return {seconds(usage.ru_utime), seconds(usage.ru_stime)};
}

// Connections that ask for a stream each and drop what comes.
class Drain {
 public:
  Drain(int port, int num_streams) : epoll_(::epoll_create1(0)) {
    for (int i = 0; i < num_streams; ++i) {
      sockets_.emplace_back(port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
      epoll_event event{EPOLLIN, {.fd = sockets_.back().fd()}};
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, event.data.fd, &event);
    }
    thread_ = std::thread([this] { run(); });
  }
  ~Drain() {
    stop_ = true;
    thread_.join();
    ::close(epoll_);
  }

 private:
  void run() {
    std::vector<char> bytes(256 << 10);
    epoll_event events[256];
    while (!stop_) {
      const int n = ::epoll_wait(epoll_, events, 256, 20);
      for (int i = 0; i < n; ++i) (void)!::read(events[i].data.fd, bytes.data(), bytes.size());
    }
  }
  const int epoll_;
  std::vector<TestSocket> sockets_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

template <class Condition>
void wait_until(const Condition& condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::microseconds(50));
}

Cpu cpu_of_io_thread(HttpServer& server) {
  std::atomic<bool> done{false};
  Cpu cpu;
  server.post(0, [&] {
    cpu = cpu_of_this_thread();
    done = true;
  });
  wait_until([&] { return done.load(); });
  return cpu;
}

void measure(int num_streams, bool by_step, double pace_s, double run_s) {
  std::mutex mutex;
  std::vector<std::shared_ptr<HttpReply>> streams;
  auto server = HttpServer::start({.port = 0}, [&](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->begin_stream({.content_type = "text/event-stream"});
    const std::lock_guard lock(mutex);
    streams.push_back(std::move(reply));
  });
  CARAT_CHECK(server.has_value(), "no server");
  Drain drain((*server)->port(), num_streams);
  wait_until([&] {
    const std::lock_guard lock(mutex);
    return streams.size() == static_cast<size_t>(num_streams);
  });

  const std::string chunk(280, 'x');
  const auto write_step = [&] {
    for (const auto& stream : streams) stream->write(chunk);
  };
  const auto cpu_before = cpu_of_io_thread(**server);
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(run_s));
  int64_t steps = 0;
  while (Clock::now() < end) {
    std::atomic<bool> done{false};
    if (by_step) {
      (*server)->post(0, [&] {
        write_step();
        done = true;
      });
    } else {
      write_step();
      (*server)->post(0, [&] { done = true; });
    }
    ++steps;
    const auto next =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(pace_s) * steps);
    while (!done) std::this_thread::sleep_for(std::chrono::microseconds(20));
    std::this_thread::sleep_until(next);
  }
  const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto cpu_after = cpu_of_io_thread(**server);
  const auto chunks = static_cast<double>(steps) * num_streams;
  const double user = cpu_after.user - cpu_before.user, system = cpu_after.system - cpu_before.system;
  std::printf("%7d  %-5s  %-5s  %10.0f  %14.0f  %6.2f  %6.2f  %5.2f\n", num_streams, by_step ? "step" : "chunk",
              pace_s > 0 ? "25 ms" : "flood", chunks / wall, chunks / (user + system), 1e6 * user / chunks,
              1e6 * system / chunks, (user + system) / wall);
  std::fflush(stdout);
  for (const auto& stream : streams) stream->end();
  streams.clear();
}

void measure_first_byte() {
  auto server = HttpServer::start({.port = 0}, [](HttpRequest, std::shared_ptr<HttpReply> reply) {
    reply->begin_stream({.content_type = "text/event-stream", .body = "data: x\n\n"});
    reply->end();
  });
  TestSocket client((*server)->port());
  std::vector<double> us;
  for (int i = 0; i < 2000; ++i) {
    const auto begin = Clock::now();
    client.request("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}");
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  std::sort(us.begin(), us.end());
  std::printf("request to answer: median %.0f us, p99 %.0f us\n", us[us.size() / 2], us[us.size() * 99 / 100]);
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  const double run_s = argc > 1 ? std::atof(argv[1]) : 2;
  carat::raise_file_limit(20000);
  carat::measure_first_byte();
  std::printf("streams  write  pace     chunks/s  chunks/CPU-sec  user us  sys us  cores\n");
  for (const double pace : {0.0, 0.025})
    for (const bool by_step : {true, false})
      for (const int n : {1, 100, 1000, 2000}) carat::measure(n, by_step, pace, run_s);
}

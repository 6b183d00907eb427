#pragma once
// One io thread: its event loop, the connections that live on it, and the two ways in which writes reach them.

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace carat {

class Connection;
using SteadyClock = std::chrono::steady_clock;

/// What is not marked "any thread" belongs to the thread itself.
///
/// Writes are gathered in *turns*: while a handler, a posted work or a callback runs, connections that were written to
/// queue up and are flushed when it returns, so that several chunks for one client become one send. Only the last few
/// wait: a step that writes to 2,000 streams sends the first while it formats the rest.
class IoThread {
 public:
  explicit IoThread(int index) : index_(index), context_(1), tick_timer_(context_) {}

  void start();
  /// Any thread but this one. Closes the connections, lets what was posted run, joins.
  void stop_and_join();

  int index() const { return index_; }
  boost::asio::io_context& context() { return context_; }
  bool is_current() const;

  /// Any thread. Never runs `work` inside the call. Dropped once the thread has stopped.
  void post(std::function<void()> work);
  /// Any thread. `connection` has something new to send.
  void schedule_flush(const std::shared_ptr<Connection>& connection);

  void add(std::shared_ptr<Connection> connection);
  void remove(Connection& connection);
  /// Calls fn for each connection; fn may close it.
  void for_each_connection(const std::function<void(Connection&)>& fn);
  /// Any thread: how many connections this thread was given, for choosing the emptiest.
  std::atomic<int> num_connections{0};

  /// Runs foreign code as a turn. An exception from it is logged.
  void run_turn(const std::function<void()>& code);

  const std::string& date() const { return date_; }
  /// Where connections read into: one for all, since bytes are parsed before the next read.
  std::vector<char>& scratch() { return scratch_; }

 private:
  void run();
  void tick();
  void take_posted();
  void flush_oldest_of_turn();

  const int index_;
  boost::asio::io_context context_;
  boost::asio::steady_timer tick_timer_;
  std::thread thread_;
  std::vector<std::shared_ptr<Connection>> connections_;  // each knows its place
  std::vector<char> scratch_ = std::vector<char>(64 << 10);
  std::string date_;
  bool stopping_ = false;

  int turn_depth_ = 0;
  std::vector<std::shared_ptr<Connection>> turn_;  // written to in this turn, from turn_begin_ on not yet flushed
  size_t turn_begin_ = 0;

  std::mutex posted_mutex_;  // guards the four below
  std::vector<std::function<void()>> posted_;
  std::vector<std::shared_ptr<Connection>> posted_flushes_;
  bool wake_posted_ = false;
  bool closed_ = false;
};

}  // namespace carat

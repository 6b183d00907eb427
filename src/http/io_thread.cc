#include "http/io_thread.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "base/log.h"
#include "base/str.h"
#include "base/thread_name.h"
#include "http/connection.h"
#include "http/wire.h"

namespace carat {
namespace {

constexpr auto kTick = std::chrono::milliseconds(200);  // deadlines are in seconds
constexpr size_t kMaxTurnBacklog = 16;

thread_local const IoThread* current_thread = nullptr;

}  // namespace

bool IoThread::is_current() const { return current_thread == this; }

void IoThread::start() {
  date_ = http_wire::http_date();
  tick();  // its timer is what keeps the loop alive
  thread_ = std::thread([this] { run(); });
}

void IoThread::run() {
  current_thread = this;
  set_thread_name(str_cat("io-", index_));
  while (true) {
    try {
      context_.run();
      return;
    } catch (const std::exception& e) {
      log_error("http: an io thread caught ", std::string_view(e.what()));
    }
  }
}

void IoThread::stop_and_join() {
  post([this] {
    stopping_ = true;
    tick_timer_.cancel();
    for_each_connection([](Connection& c) { c.close_now(); });
  });
  if (thread_.joinable()) thread_.join();  // it has none if the server could not listen
  const std::lock_guard lock(posted_mutex_);
  closed_ = true;
  posted_.clear();
  posted_flushes_.clear();
}

void IoThread::tick() {
  if (stopping_) return;
  date_ = http_wire::http_date();
  const auto now = SteadyClock::now();
  for_each_connection([now](Connection& c) { c.check_deadline(now); });
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](const boost::system::error_code&) { tick(); });
}

void IoThread::post(std::function<void()> work) {
  const std::lock_guard lock(posted_mutex_);
  if (closed_) return;
  posted_.push_back(std::move(work));
  if (std::exchange(wake_posted_, true)) return;
  boost::asio::post(context_, [this] { take_posted(); });
}

void IoThread::schedule_flush(const std::shared_ptr<Connection>& connection) {
  if (is_current()) {
    if (turn_depth_ == 0) return connection->flush();
    turn_.push_back(connection);
    if (turn_.size() - turn_begin_ > kMaxTurnBacklog) flush_oldest_of_turn();
    return;
  }
  const std::lock_guard lock(posted_mutex_);
  if (closed_) return;
  posted_flushes_.push_back(connection);
  if (std::exchange(wake_posted_, true)) return;
  boost::asio::post(context_, [this] { take_posted(); });
}

void IoThread::take_posted() {
  std::vector<std::function<void()>> works;
  std::vector<std::shared_ptr<Connection>> flushes;
  {
    const std::lock_guard lock(posted_mutex_);
    works.swap(posted_);
    flushes.swap(posted_flushes_);
    wake_posted_ = false;
  }
  for (const auto& connection : flushes) connection->flush();
  for (const auto& work : works) run_turn(work);
}

void IoThread::run_turn(const std::function<void()>& code) {
  ++turn_depth_;
  try {
    code();
  } catch (const std::exception& e) {
    log_error("http: a handler threw ", std::string_view(e.what()));
  } catch (...) {
    log_error("http: a handler threw something that is no std::exception");
  }
  if (--turn_depth_ > 0) return;
  while (turn_begin_ < turn_.size()) flush_oldest_of_turn();
  turn_.clear();
  turn_begin_ = 0;
}

void IoThread::flush_oldest_of_turn() {
  const auto connection = std::move(turn_[turn_begin_++]);
  connection->flush();
}

void IoThread::add(std::shared_ptr<Connection> connection) {
  if (stopping_) return connection->close_now();
  connection->place = connections_.size();
  connections_.push_back(std::move(connection));
}

void IoThread::remove(Connection& connection) {
  const size_t place = connection.place;
  if (place >= connections_.size() || connections_[place].get() != &connection) return;
  const auto keep_alive = std::move(connections_[place]);  // the caller still uses it
  if (place + 1 != connections_.size()) {
    connections_[place] = std::move(connections_.back());
    connections_[place]->place = place;
  }
  connections_.pop_back();
}

void IoThread::for_each_connection(const std::function<void(Connection&)>& fn) {
  // Backwards, since a closed connection's place is taken by the last.
  for (size_t i = connections_.size(); i-- > 0;) {
    if (i >= connections_.size()) continue;
    const auto connection = connections_[i];
    fn(*connection);
  }
}

}  // namespace carat

// Loading beside everything else: order, errors, limits, and who waits for whom.

#include "api/media_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <mutex>

namespace carat {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Loaded = Result<std::vector<LoadedMedium>>;

/// What a fake loader knows by its source: "slow..." waits until released, "endless..." until stopped, "bad..." fails,
/// others become a medium with as many tokens as the source has characters.
class FakeMedia {
 public:
  Result<LoadedMedium> load(const MediaPart& part, const std::function<bool()>& stopped) {
    ++num_loads_;
    const std::string& source = *part.source;
    if (source.find("slow") != source.npos) {
      std::unique_lock lock(mutex_);
      ++num_waiting_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return released_; });
    }
    if (source.find("endless") != source.npos) {
      while (!stopped()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Error{Errc::kCancelled, "it was stopped"};
    }
    if (source.find("bad") != source.npos) return Error{Errc::kInvalidArgument, "it is bad"};
    if (source.find("throw") != source.npos) throw std::runtime_error("out of something");
    auto input = std::make_shared<EncoderInput>();
    input->num_tokens = static_cast<int>(source.size());
    input->pixels.resize(std::min<size_t>(source.size(), 10));
    input->features.resize(input->pixels.size());
    return LoadedMedium{{std::move(input)}};
  }
  void wait_for_waiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_waiting_ >= count; });
  }
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  int num_loads() const { return num_loads_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool released_ = false;
  int num_waiting_ = 0;
  std::atomic<int> num_loads_ = 0;
};

class Pool : public ::testing::Test {
 protected:
  void make(int num_threads = 2, int num_fetch_threads = 2) {
    MediaOptions options;
    options.num_threads = num_threads;
    options.num_fetch_threads = num_fetch_threads;
    options.max_held_bytes = max_held_bytes_;
    pool_.emplace([this](const MediaPart& part, const auto& stopped) { return media_.load(part, stopped); }, options);
  }
  std::future<Loaded> load(const std::vector<std::string>& sources,
                           std::shared_ptr<const std::atomic<bool>> cancelled = nullptr) {
    std::vector<MediaPart> parts;
    for (const auto& source : sources)
      parts.push_back({MediaKind::kImage, std::make_shared<const std::string>(source)});
    auto promise = std::make_shared<std::promise<Loaded>>();
    auto future = promise->get_future();
    if (!cancelled) cancelled = std::make_shared<std::atomic<bool>>(false);
    pool_->load(std::move(parts), std::move(cancelled),
                [promise](Loaded loaded) { promise->set_value(std::move(loaded)); });
    return future;
  }
  static std::vector<int> lengths(const Loaded& loaded) {
    std::vector<int> out;
    if (loaded)
      for (const LoadedMedium& medium : *loaded) out.push_back(medium.inputs.front()->num_tokens);
    return out;
  }

  FakeMedia media_;
  int64_t max_held_bytes_ = int64_t{1} << 30;
  std::optional<MediaPool> pool_;
};

TEST_F(Pool, GivesThemInTheirOrder) {
  make(3);
  EXPECT_THAT(lengths(load({"a", "http://bcd", "data:", "e"}).get()), ElementsAre(1, 10, 5, 1));
  EXPECT_THAT(lengths(load({}).get()), ElementsAre());
}

TEST_F(Pool, OneThatFailsFailsAll) {
  make(1);
  const auto one = load({"bad"}).get();
  ASSERT_FALSE(one);
  EXPECT_EQ(one.error().message, "it is bad");
  const auto many = load({"a", "bad", "c"}).get();
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(many.error().message, "Medium 2 of 3 (image): it is bad");
  EXPECT_EQ(media_.num_loads(), 3);  // the one after it was not even tried
  const auto thrown = load({"throw"}).get();
  ASSERT_FALSE(thrown);
  EXPECT_EQ(thrown.error().code, Errc::kInternal);
  EXPECT_THAT(thrown.error().message, HasSubstr("out of something"));
}

TEST_F(Pool, AddressesThatDoNotAnswerHoldUpOnlyAddresses) {
  make(1, 1);
  auto stuck = load({"http://slow"});
  auto behind = load({"https://b"});
  media_.wait_for_waiting(1);
  EXPECT_TRUE(load({"data:image/png;base64,AA"}).get());
  EXPECT_TRUE(load({"AAAA"}).get());
  EXPECT_EQ(behind.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  media_.release();
  EXPECT_TRUE(stuck.get());
  EXPECT_TRUE(behind.get());
}

TEST_F(Pool, WhatNobodyWantsIsNotLoaded) {
  make(1, 1);
  auto stuck = load({"slow"});
  media_.wait_for_waiting(1);
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  auto waiting = load({"a", "b"}, gone);
  gone->store(true);
  media_.release();
  const auto given_up = waiting.get();
  ASSERT_FALSE(given_up);
  EXPECT_EQ(given_up.error().code, Errc::kCancelled);
  EXPECT_TRUE(stuck.get());
  EXPECT_EQ(media_.num_loads(), 1);
}

TEST_F(Pool, WhatNobodyWantsAnyMoreEnds) {
  make(1, 1);
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  auto endless = load({"http://endless"}, gone);
  auto behind = load({"http://a"});
  EXPECT_EQ(endless.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  gone->store(true);
  EXPECT_EQ(endless.get().error().code, Errc::kCancelled);
  EXPECT_TRUE(behind.get());
}

TEST_F(Pool, OneThatFailsEndsTheOthers) {
  make(1, 1);
  const auto result = load({"http://endless", "bad"}).get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "Medium 2 of 2 (image): it is bad");
}

TEST_F(Pool, FetchingCanBeStoppedForGood) {
  make(1, 1);
  auto endless = load({"http://endless"});
  auto behind = load({"http://a"});
  pool_->stop_fetching();
  EXPECT_EQ(endless.get().error().code, Errc::kUnavailable);
  EXPECT_EQ(behind.get().error().code, Errc::kUnavailable);
  EXPECT_EQ(load({"http://a"}).get().error().message, "The server is shutting down.");
  EXPECT_TRUE(load({"a"}).get());
}

TEST_F(Pool, TooManyOrTooLargeIsOverload) {
  make(1, 1);
  auto stuck = load({"slow"});
  media_.wait_for_waiting(1);
  auto waiting = load(std::vector<std::string>(kMaxWaitingMedia, "a"));
  const auto more = load({"a"}).get();
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, Errc::kOverloaded);
  EXPECT_THAT(more.error().message, HasSubstr("The request queue is full."));
  EXPECT_TRUE(load({"http://a"}).get());
  media_.release();
  EXPECT_TRUE(stuck.get());
  EXPECT_EQ(lengths(waiting.get()).size(), kMaxWaitingMedia);
  EXPECT_TRUE(load({"a"}).get());
}

TEST_F(Pool, BytesThatWaitAreLimited) {
  make(1, 1);
  auto stuck = load({"slow"});
  media_.wait_for_waiting(1);
  const auto large = std::make_shared<const std::string>(static_cast<size_t>(kMaxWaitingMediaBytes / 4), 'a');
  const auto load_large = [&](size_t count) {
    auto promise = std::make_shared<std::promise<Loaded>>();
    auto future = promise->get_future();
    pool_->load(std::vector<MediaPart>(count, MediaPart{MediaKind::kImage, large}),
                std::make_shared<std::atomic<bool>>(false),
                [promise](Loaded loaded) { promise->set_value(std::move(loaded)); });
    return future;
  };
  auto fits = load_large(4);
  EXPECT_EQ(load_large(1).get().error().code, Errc::kOverloaded);
  media_.release();
  EXPECT_TRUE(fits.get());
  EXPECT_TRUE(load_large(1).get());
}

TEST_F(Pool, BytesThatRequestsHoldAreLimited) {
  max_held_bytes_ = 50;  // of five bytes per character
  make();
  auto first = load({"http://a"}).get();
  ASSERT_TRUE(first);
  EXPECT_EQ(pool_->held_bytes(), 40);
  const auto more = load({"b", "cd"}).get();
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, Errc::kOverloaded);
  EXPECT_THAT(more.error().message, HasSubstr("of 50 bytes are in use, "));
  EXPECT_EQ(pool_->held_bytes(), 40);
  auto second = load({"cd"}).get();
  ASSERT_TRUE(second);
  EXPECT_EQ(pool_->held_bytes(), 50);
  first = Error{Errc::kInternal, "gone"};
  EXPECT_EQ(pool_->held_bytes(), 10);
  pool_.reset();  // what is held may outlive it
}

TEST_F(Pool, EndsWhatIsBeingLoadedWhenItEnds) {
  make(1, 1);
  auto here = load({"endless"}), elsewhere = load({"http://endless"});
  pool_.reset();
  EXPECT_EQ(here.get().error().code, Errc::kUnavailable);
  EXPECT_EQ(elsewhere.get().error().code, Errc::kUnavailable);
}

TEST_F(Pool, GivesUpWhatWaitsWhenItEnds) {
  make(1, 1);
  auto stuck = load({"slow"});
  media_.wait_for_waiting(1);
  auto waiting = load({"a"});
  std::thread releaser([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    media_.release();
  });
  pool_.reset();
  releaser.join();
  EXPECT_TRUE(stuck.get());
  EXPECT_EQ(waiting.get().error().code, Errc::kUnavailable);
}

}  // namespace
}  // namespace carat

#include "kv/prefix_cache.h"

#include <gtest/gtest.h>

#include <random>

namespace carat {
namespace {

using Tokens = std::vector<TokenId>;
constexpr int kPage = 4;

Tokens range(int begin, int end) {
  Tokens out;
  for (int i = begin; i < end; ++i) out.push_back(i);
  return out;
}

/// Pools, a cache, and sequences that come, compute everything and go.
class World {
 public:
  explicit World(int window, int full_pages = 64, int sliding_pages = 64)
      : window_(window), full(full_pages), sliding(sliding_pages), cache(full, sliding, kPage, window) {}

  struct Run {
    PageTable full{kPage}, sliding{kPage};
  };
  /// Pages for `tokens`, nothing shared, sliding ones behind the window already returned.
  Run compute(const Tokens& tokens) {
    Run run;
    const int n = static_cast<int>(tokens.size());
    for (int i = run.full.missing(n); i > 0; --i) run.full.append(std::move(*full.allocate()));
    if (window_ > 0) {
      run.sliding.start_at(first_visible_page(n, window_, kPage));
      for (int i = run.sliding.missing(n); i > 0; --i) run.sliding.append(std::move(*sliding.allocate()));
    }
    return run;
  }
  void remember(const Tokens& tokens, uint64_t salt = 0) {
    const Run run = compute(tokens);
    cache.insert(tokens, salt, static_cast<int>(tokens.size()), run.full, run.sliding);
    check();
  }
  int hit(const Tokens& tokens, uint64_t salt = 0, int max_length = 1 << 30) {
    const int peeked = cache.match_length(tokens, salt, max_length);
    const PrefixCache::Match match = cache.match(tokens, salt, max_length);
    EXPECT_EQ(match.length, peeked);
    EXPECT_EQ(match.full.size() * kPage, static_cast<size_t>(match.length));
    if (window_ > 0 && match.length > 0) {
      EXPECT_EQ(match.sliding_begin, first_visible_page(match.length, window_, kPage));
      EXPECT_EQ(match.sliding_begin + static_cast<int>(match.sliding.size()), match.length / kPage);
    }
    return match.length;
  }
  void check() const {
    cache.check();
    full.check();
    sliding.check();
  }

 private:
  int window_;

 public:
  PagePool full, sliding;
  PrefixCache cache;
};

TEST(PrefixCache, HitsAreWholeBlocksOfEqualTokens) {
  World w(0);
  w.remember(range(0, 19));
  EXPECT_EQ(w.hit(range(0, 19)), 16);
  EXPECT_EQ(w.hit(range(0, 40)), 16);
  EXPECT_EQ(w.hit(range(0, 15)), 12);
  EXPECT_EQ(w.hit(range(0, 19), 0, 15), 12);
  EXPECT_EQ(w.hit(range(1, 19)), 0);
  EXPECT_EQ(w.hit(range(0, 19), 1), 0) << "another salt";
  Tokens other = range(0, 19);
  other[9] = 99;
  EXPECT_EQ(w.hit(other), 8);
  EXPECT_EQ(w.hit({}), 0);
}

TEST(PrefixCache, SlidingLayersNeedACheckpointWithItsWindow) {
  World w(8);
  w.remember(range(0, 40));
  EXPECT_EQ(w.cache.num_blocks(), 10);
  EXPECT_EQ(w.cache.num_checkpoints(), 1);
  EXPECT_EQ(w.hit(range(0, 40)), 40);
  EXPECT_EQ(w.hit(range(0, 39)), 0) << "the window before 36 is not there";
  const auto match = w.cache.match(range(0, 39), 0, 39);
  EXPECT_EQ(match.length, 0);
  EXPECT_EQ(match.known_length, 36);
  w.remember(range(0, 20));
  EXPECT_EQ(w.hit(range(0, 39)), 20);
  EXPECT_EQ(w.sliding.num_leased(), 4);  // two windows (33 .. 39 and 13 .. 19) of two pages
}

TEST(PrefixCache, KnownBlocksKeepTheirPages) {
  World w(8);
  w.remember(range(0, 16));
  const auto before = w.cache.match(range(0, 16), 0, 16);
  w.remember(range(0, 16));
  const auto after = w.cache.match(range(0, 16), 0, 16);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(before.full[i].id(), after.full[i].id());
  EXPECT_EQ(w.full.num_leased(), 4);
}

TEST(PrefixCache, EvictsLeastRecentlyUsedLeavesFirst) {
  World w(0, 12);
  w.remember(range(0, 16));
  w.remember(range(100, 116));
  w.hit(range(0, 16));
  w.cache.evict(KvPool::kFull, 4 + 2);  // four are free already
  w.check();
  EXPECT_EQ(w.full.num_free(), 4 + 6);
  EXPECT_EQ(w.hit(range(100, 116)), 0);
  EXPECT_EQ(w.hit(range(0, 16)), 8);
}

TEST(PrefixCache, PagesInUseAreNotGained) {
  World w(0, 8);
  w.remember(range(0, 16));
  const auto used = w.cache.match(range(0, 8), 0, 8);
  EXPECT_EQ(w.full.num_available(), 4 + 2);
  w.cache.evict(KvPool::kFull, 8);
  w.check();
  EXPECT_EQ(w.full.num_free(), 6);
  EXPECT_EQ(w.hit(range(0, 16)), 8) << "what is in use stays known";
}

TEST(PrefixCache, ALeafInUseDoesNotShieldABlockThatIsNot) {
  World w(0, 16);
  World::Run run = w.compute(range(0, 12));
  w.remember(range(0, 8));  // the same tokens, other pages: those are the cache's
  w.cache.insert(range(0, 12), 0, 12, run.full, run.sliding);
  EXPECT_EQ(w.full.num_evictable(), 2);  // blocks 0 and 1; block 2 is the sequence's own page
  w.cache.evict(KvPool::kFull, 16);
  w.check();
  EXPECT_EQ(w.full.num_evictable(), 0);
}

TEST(PrefixCache, InteriorCheckpointsGoBeforeEndsAndBranches) {
  World w(4, 64, 6);
  const auto with_tail = [](int tail) {
    Tokens t = range(0, 16);
    for (int i = 0; i < 8; ++i) t.push_back(tail + i);
    return t;
  };
  w.remember(range(0, 8));     // becomes interior
  w.remember(range(0, 16));    // becomes a branch
  w.remember(with_tail(100));  // ends
  w.remember(with_tail(200));
  EXPECT_EQ(w.cache.num_checkpoints(), 4);
  w.hit(range(0, 8));  // used last, and still the first to go
  w.cache.evict(KvPool::kSliding, 1);
  w.check();
  EXPECT_EQ(w.cache.num_checkpoints(), 3);
  EXPECT_EQ(w.hit(range(0, 8)), 0);
  EXPECT_EQ(w.hit(range(0, 16)), 16);
  EXPECT_EQ(w.hit(with_tail(100)), 24);
}

TEST(PrefixCache, ClearGivesEverythingBack) {
  World w(8);
  w.remember(range(0, 40));
  w.remember(range(5, 40));
  w.cache.clear();
  w.check();
  EXPECT_EQ(w.full.num_free(), 64);
  EXPECT_EQ(w.sliding.num_free(), 64);
  EXPECT_EQ(w.hit(range(0, 40)), 0);
}

TEST(PrefixCache, AgreesWithAListOfWhatWasInserted) {
  for (const int window : {0, 1, 3, 8, 1000}) {
    std::mt19937 rng(window + 1);
    World w(window, 4000, 4000);
    std::vector<std::pair<uint64_t, Tokens>> inserted;
    const auto draw = [&] {
      Tokens t(rng() % 24);
      for (TokenId& x : t) x = static_cast<TokenId>(rng() % 2);
      return t;
    };
    for (int i = 0; i < 300; ++i) {
      const uint64_t salt = rng() % 2;
      const Tokens tokens = draw();
      int best = 0;
      for (const auto& [other_salt, other] : inserted) {
        if (other_salt != salt) continue;
        size_t common = 0;
        while (common < std::min(other.size(), tokens.size()) && other[common] == tokens[common]) ++common;
        const int end = static_cast<int>(other.size()) / kPage * kPage;
        const int hit = window == 0 ? std::min(static_cast<int>(common) / kPage * kPage, end)
                                    : (end <= static_cast<int>(common) ? end : 0);
        best = std::max(best, hit);
      }
      EXPECT_EQ(w.hit(tokens, salt), best);
      if (rng() % 2) {
        w.remember(tokens, salt);
        inserted.emplace_back(salt, tokens);
      }
    }
    while (w.cache.num_blocks() > 0) {  // and everything can be evicted, step by step
      w.cache.evict(rng() % 2 ? KvPool::kFull : KvPool::kSliding, 1 + static_cast<int>(rng() % 5));
      w.check();
    }
    EXPECT_EQ(w.full.num_leased() + w.sliding.num_leased(), 0);
  }
}

}  // namespace
}  // namespace carat

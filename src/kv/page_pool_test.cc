#include "kv/page_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "kv/page_table.h"

namespace carat {
namespace {

using testing::ElementsAre;

TEST(PagePool, GivesEachPageOnceAndTakesItBack) {
  PagePool pool(3);
  std::set<PageId> ids;
  {
    std::vector<PageRef> held;
    while (auto page = pool.allocate()) {
      ids.insert(page->id());
      held.push_back(std::move(*page));
    }
    EXPECT_EQ(ids, (std::set<PageId>{0, 1, 2}));
    EXPECT_EQ(pool.num_free(), 0);
    pool.check();
  }
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(PagePool(0).allocate(), std::nullopt);
}

TEST(PagePool, CountsWhoHolds) {
  PagePool pool(2);
  PageRef sequence = std::move(*pool.allocate());
  EXPECT_TRUE(sequence.sole());
  PageRef cache = sequence.share(PageHolder::kCache);
  EXPECT_FALSE(sequence.sole());
  EXPECT_EQ(pool.num_evictable(), 0);
  PageRef moved = std::move(sequence);
  EXPECT_FALSE(sequence);  // NOLINT: a moved-from reference is empty
  moved = PageRef();
  EXPECT_EQ(pool.num_evictable(), 1);
  EXPECT_EQ(pool.num_available(), 2);
  EXPECT_FALSE(pool.used_by_sequence(cache.id()));
  PageRef again = cache.share(PageHolder::kSequence);
  EXPECT_EQ(pool.num_evictable(), 0);
  cache = PageRef();
  EXPECT_EQ(pool.num_leased(), 1);
  pool.check();
}

TEST(PagePool, FreeAndLeasedAreAlwaysAll) {
  std::mt19937 rng(1);
  PagePool pool(20);
  std::vector<PageRef> refs;
  for (int i = 0; i < 5000; ++i) {
    const int what = static_cast<int>(rng() % 4);
    if (what == 0) {
      if (auto page = pool.allocate()) refs.push_back(std::move(*page));
    } else if (!refs.empty()) {
      const size_t at = rng() % refs.size();
      if (what == 1) refs.push_back(refs[at].share(rng() % 2 ? PageHolder::kCache : PageHolder::kSequence));
      if (what >= 2) refs.erase(refs.begin() + static_cast<int>(at));
    }
    pool.check();
    EXPECT_EQ(pool.num_free() + pool.num_leased(), 20);
  }
}

TEST(PageTable, GrowsAndReturnsWhatIsBehindTheWindow) {
  PagePool pool(10);
  PageTable table(4);
  EXPECT_EQ(table.missing(0), 0);
  EXPECT_EQ(table.missing(9), 3);
  for (int i = 0; i < 3; ++i) table.append(std::move(*pool.allocate()));
  EXPECT_EQ(table.missing(12), 0);
  EXPECT_EQ(table.missing(13), 1);
  std::vector<int> released;
  table.release_before(2, [&](int logical) { released.push_back(logical); });
  EXPECT_THAT(released, ElementsAre(0, 1));
  EXPECT_EQ(table.begin(), 2);
  EXPECT_EQ(table.end(), 3);
  EXPECT_EQ(pool.num_leased(), 1);
  table.release_before(9, [](int) {});
  EXPECT_EQ(pool.num_leased(), 0);
}

TEST(PageTable, ForksCopyAPartlyFilledPageBeforeTheyWrite) {
  PagePool pool(10);
  PageTable table(4);
  for (int i = 0; i < 2; ++i) table.append(std::move(*pool.allocate()));
  PageTable even = table.fork(8), odd = table.fork(6);
  EXPECT_FALSE(even.copy_before_write());
  EXPECT_EQ(even.missing(9), 1);
  EXPECT_TRUE(odd.copy_before_write());
  EXPECT_EQ(odd.missing(7), 1);
  const PageId shared = odd.at(1);
  PageRef source = odd.replace_last(std::move(*pool.allocate()));
  EXPECT_EQ(source.id(), shared);
  EXPECT_NE(odd.at(1), shared);
  EXPECT_EQ(odd.at(0), table.at(0));
  EXPECT_FALSE(odd.copy_before_write());
  source = PageRef();

  PageTable last = table.fork(6);
  table = PageTable(4);
  even = PageTable(4);
  EXPECT_FALSE(last.copy_before_write()) << "nobody else holds the page any more";
}

TEST(PageTable, FirstVisiblePageKeepsTheWindowOfTheLastBorder) {
  // Window 8, pages of 4: a query at 16 sees 9 .. 16, so page 2 on; until 19 that stays.
  for (int position = 16; position < 20; ++position) EXPECT_EQ(first_visible_page(position, 8, 4), 2);
  EXPECT_EQ(first_visible_page(20, 8, 4), 3);
  EXPECT_EQ(first_visible_page(7, 8, 4), 0);
  EXPECT_EQ(first_visible_page(12, 1, 4), 3);
  EXPECT_EQ(first_visible_page(1024, 512, 64), 8);  // (1024 - 511) / 64
}

}  // namespace
}  // namespace carat

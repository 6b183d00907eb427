#include "kv/page_pool.h"

#include "base/check.h"

namespace carat {

PageRef::PageRef(PagePool* pool, PageId id, PageHolder holder) : pool_(pool), id_(id), holder_(holder) {
  pool_->add(id_, holder_);
}

PageRef::~PageRef() {
  if (pool_) pool_->drop(id_, holder_);
}

PageRef PageRef::share(PageHolder holder) const {
  CARAT_CHECK(pool_ != nullptr, "an empty reference cannot be shared");
  return PageRef(pool_, id_, holder);
}

bool PageRef::sole() const {
  const PagePool::Counts& c = pool_->counts_[id_];
  return c.sequences + c.caches == 1;
}

PagePool::PagePool(int num_pages) : counts_(num_pages) {
  free_.reserve(num_pages);
  for (PageId page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

std::optional<PageRef> PagePool::allocate() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  return PageRef(this, page, PageHolder::kSequence);
}

void PagePool::add(PageId page, PageHolder holder) {
  Counts& c = counts_[page];
  if (holder == PageHolder::kCache) {
    if (c.caches++ == 0 && c.sequences == 0) ++num_evictable_;
  } else if (c.sequences++ == 0 && c.caches > 0) {
    --num_evictable_;
  }
}

void PagePool::drop(PageId page, PageHolder holder) {
  Counts& c = counts_[page];
  if (holder == PageHolder::kCache) {
    if (--c.caches == 0 && c.sequences == 0) --num_evictable_;
  } else if (--c.sequences == 0 && c.caches > 0) {
    ++num_evictable_;
  }
  if (c.caches == 0 && c.sequences == 0) free_.push_back(page);
}

void PagePool::check() const {
  int evictable = 0, leased = 0;
  for (const Counts& c : counts_) {
    CARAT_CHECK(c.sequences >= 0 && c.caches >= 0, "a page was returned twice");
    leased += c.sequences + c.caches > 0;
    evictable += c.sequences == 0 && c.caches > 0;
  }
  CARAT_CHECK_EQ(leased, num_leased());
  CARAT_CHECK_EQ(evictable, num_evictable_);
  std::vector<bool> seen(counts_.size(), false);
  for (const PageId page : free_) {
    CARAT_CHECK(!seen[page], "a page is free twice");
    seen[page] = true;
    CARAT_CHECK(counts_[page].sequences + counts_[page].caches == 0, "a free page is held");
  }
}

}  // namespace carat

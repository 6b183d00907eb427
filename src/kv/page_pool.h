#pragma once
// Pages of K/V memory as numbers: who holds which, and which are free. The memory itself belongs to the runner.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace carat {

using PageId = int32_t;
/// Full-attention layers keep every token; sliding ones only the window.
enum class KvPool : uint8_t { kFull, kSliding };

class PagePool;

/// Who a reference counts for: a page that only the cache holds can be had back at any time.
enum class PageHolder : uint8_t { kSequence, kCache };

/// One reference to one page; the page is free again when its last reference dies. The pool outlives it.
class PageRef {
 public:
  PageRef() = default;
  PageRef(PageRef&& other) noexcept { swap(other); }
  PageRef& operator=(PageRef&& other) noexcept {
    PageRef(std::move(other)).swap(*this);
    return *this;
  }
  PageRef(const PageRef&) = delete;
  PageRef& operator=(const PageRef&) = delete;
  ~PageRef();

  explicit operator bool() const { return pool_ != nullptr; }
  PageId id() const { return id_; }
  /// Nobody else holds the page.
  bool sole() const;
  /// Another reference to the same page.
  PageRef share(PageHolder holder) const;

 private:
  friend class PagePool;
  PageRef(PagePool* pool, PageId id, PageHolder holder);  // counts itself
  void swap(PageRef& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(id_, other.id_);
    std::swap(holder_, other.holder_);
  }

  PagePool* pool_ = nullptr;
  PageId id_ = -1;
  PageHolder holder_ = PageHolder::kSequence;
};

/// All pages of one kind. Engine thread only.
class PagePool {
 public:
  explicit PagePool(int num_pages);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  /// A free page, held for a sequence; nothing if there is none.
  std::optional<PageRef> allocate();

  int num_pages() const { return static_cast<int>(counts_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_leased() const { return num_pages() - num_free(); }
  /// Leased pages that only the prefix cache holds.
  int num_evictable() const { return num_evictable_; }
  /// Pages that could be had now, by eviction if need be.
  int num_available() const { return num_free() + num_evictable_; }
  bool used_by_sequence(PageId page) const { return counts_[page].sequences > 0; }

  /// Counts everything anew and compares (tests, idle self-check).
  void check() const;

 private:
  friend class PageRef;
  struct Counts {
    int32_t sequences = 0, caches = 0;
  };
  void add(PageId page, PageHolder holder);
  void drop(PageId page, PageHolder holder);

  std::vector<Counts> counts_;
  std::vector<PageId> free_;  ///< a stack: the page freed last is the warmest
  int num_evictable_ = 0;
};

}  // namespace carat

#pragma once
// One sequence's pages of one pool: logical page i holds the tokens at positions [i * page_tokens, (i + 1) *
// page_tokens).

#include <vector>

#include "kv/page_pool.h"

namespace carat {

class PageTable {
 public:
  explicit PageTable(int page_tokens) : page_tokens_(page_tokens) {}

  /// Logical pages [begin(), end()) are held. begin() > 0 where pages behind a sliding window have been returned.
  int begin() const { return begin_; }
  int end() const { return begin_ + static_cast<int>(pages_.size()); }
  PageId at(int logical) const { return pages_[logical - begin_].id(); }
  const PageRef& ref(int logical) const { return pages_[logical - begin_]; }

  /// Pages that are missing so that positions below `num_tokens` have one, plus one if the last page must be copied
  /// first (copy_before_write()).
  int missing(int num_tokens) const;
  void append(PageRef page) { pages_.push_back(std::move(page)); }
  /// The first append will be logical page `logical`; the table must be empty.
  void start_at(int logical);
  /// Returns the pages before logical page `logical`; calls on_release(logical page) for each.
  template <class F>
  void release_before(int logical, F&& on_release) {
    int count = 0;
    while (begin_ + count < logical && count < static_cast<int>(pages_.size())) on_release(begin_ + count++);
    pages_.erase(pages_.begin(), pages_.begin() + count);
    begin_ += count;
  }

  /// A table of the same pages for another sequence that goes on from `num_tokens`, the length of this one. If the last
  /// page is partly filled the fork has to copy it before it writes there; this table's owner may go on writing: it
  /// touches only positions that the fork will overwrite before reading.
  PageTable fork(int num_tokens) const;
  /// Not if all others have let go of the page meanwhile.
  bool copy_before_write() const { return shares_last_ && !pages_.back().sole(); }
  /// The owner is about to write: from now on the last page is its own.
  void begin_write() { shares_last_ = false; }
  /// Puts the fresh page in the place of the shared last one, which is returned: the copy's source.
  PageRef replace_last(PageRef fresh);

 private:
  int page_tokens_;
  int begin_ = 0;
  bool shares_last_ = false;  ///< the last page is a partly filled one of the sequence that was forked
  std::vector<PageRef> pages_;
};

/// Sliding layers: the first logical page that a query at `position` or later can see, when queries see `window` keys,
/// their own included. Rounded down to where a query at the page border at or before `position` would begin, so that
/// the window before that border is complete too and can become a checkpoint of the prefix cache.
int first_visible_page(int position, int window, int page_tokens);

}  // namespace carat

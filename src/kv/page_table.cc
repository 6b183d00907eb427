#include "kv/page_table.h"

#include <algorithm>

#include "base/check.h"

namespace carat {

int PageTable::missing(int num_tokens) const {
  const int needed = (num_tokens + page_tokens_ - 1) / page_tokens_;
  return std::max(0, needed - end()) + (copy_before_write() ? 1 : 0);
}

void PageTable::start_at(int logical) {
  CARAT_CHECK(pages_.empty(), "a table in use cannot move");
  begin_ = logical;
}

PageTable PageTable::fork(int num_tokens) const {
  PageTable out(page_tokens_);
  out.begin_ = begin_;
  const int needed = (num_tokens + page_tokens_ - 1) / page_tokens_;
  CARAT_CHECK(needed <= end(), "a fork's tokens have pages");
  for (int logical = begin_; logical < needed; ++logical) out.append(ref(logical).share(PageHolder::kSequence));
  out.shares_last_ = num_tokens % page_tokens_ != 0 && !out.pages_.empty();
  return out;
}

PageRef PageTable::replace_last(PageRef fresh) {
  CARAT_CHECK(copy_before_write(), "only a shared page is replaced");
  shares_last_ = false;
  std::swap(pages_.back(), fresh);
  return fresh;
}

int first_visible_page(int position, int window, int page_tokens) {
  const int border = position / page_tokens * page_tokens;
  return std::max(0, border - window + 1) / page_tokens;
}

}  // namespace carat

#include "kv/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace carat {
namespace {

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

uint64_t root_hash(uint64_t salt) { return mix(salt + 0x9e3779b97f4a7c15ull); }

/// Need not withstand attacks: a hit is verified token by token, a collision merely is no hit.
uint64_t chain_hash(uint64_t parent, std::span<const TokenId> block) {
  uint64_t h = parent;
  for (const TokenId token : block) h = (h ^ static_cast<uint32_t>(token)) * 0x9fb21c651e98df25ull + (h >> 29);
  return mix(h);
}

}  // namespace

struct PrefixCache::Node {
  uint64_t hash = 0, salt = 0;
  Node* parent = nullptr;
  int depth = 0;  ///< blocks up to and with this one
  std::vector<TokenId> tokens;
  PageRef full;
  int num_children = 0;
  uint64_t stamp = 0;
  bool checkpoint = false;
  uint64_t checkpoint_stamp = 0;
  int window_begin = 0;
  std::vector<PageRef> window;  ///< sliding logical pages [window_begin, depth)
};

PrefixCache::PrefixCache(PagePool& full, PagePool& sliding, int page_tokens, int window)
    : full_(full), sliding_(sliding), page_tokens_(page_tokens), window_(window) {}

PrefixCache::~PrefixCache() = default;

PrefixCache::Node* PrefixCache::find(uint64_t hash, const Node* parent, std::span<const TokenId> block) const {
  const auto it = nodes_.find(hash);
  if (it == nodes_.end()) return nullptr;
  Node* node = it->second.get();
  return node->parent == parent && std::ranges::equal(node->tokens, block) ? node : nullptr;
}

bool PrefixCache::resumable(const Node& node) const { return window_ == 0 || node.checkpoint; }

std::vector<PrefixCache::Node*> PrefixCache::walk(std::span<const TokenId> tokens, uint64_t salt,
                                                  int max_blocks) const {
  std::vector<Node*> path;
  uint64_t hash = root_hash(salt);
  Node* parent = nullptr;
  for (int b = 0; b < max_blocks; ++b) {
    const auto block = tokens.subspan(static_cast<size_t>(b) * page_tokens_, page_tokens_);
    hash = chain_hash(hash, block);
    Node* node = find(hash, parent, block);
    if (!node || node->salt != salt) break;
    path.push_back(node);
    parent = node;
  }
  return path;
}

int PrefixCache::match_length(std::span<const TokenId> tokens, uint64_t salt, int max_length) const {
  const int limit = std::min<int>(max_length, static_cast<int>(tokens.size()));
  const auto path = walk(tokens, salt, limit / page_tokens_);
  for (auto it = path.rbegin(); it != path.rend(); ++it)
    if (resumable(**it)) return (*it)->depth * page_tokens_;
  return 0;
}

PrefixCache::Match PrefixCache::match(std::span<const TokenId> tokens, uint64_t salt, int max_length) {
  const int limit = std::min<int>(max_length, static_cast<int>(tokens.size()));
  auto path = walk(tokens, salt, limit / page_tokens_);
  Match out;
  out.known_length = static_cast<int>(path.size()) * page_tokens_;
  while (!path.empty() && !resumable(*path.back())) path.pop_back();
  if (path.empty()) return out;
  out.length = static_cast<int>(path.size()) * page_tokens_;
  out.full.reserve(path.size());
  for (Node* node : path) {
    touch(*node);
    out.full.push_back(node->full.share(PageHolder::kSequence));
  }
  Node& last = *path.back();
  out.sliding_begin = window_ == 0 ? last.depth : last.window_begin;
  for (const PageRef& page : last.window) out.sliding.push_back(page.share(PageHolder::kSequence));
  if (last.checkpoint) {
    checkpoints_.erase(checkpoint_key(last));
    last.checkpoint_stamp = ++clock_;
    checkpoints_.insert(checkpoint_key(last));
  }
  return out;
}

void PrefixCache::touch(Node& node) {
  const bool leaf = node.num_children == 0;
  if (leaf) leaves_.erase({node.stamp, &node});
  node.stamp = ++clock_;
  if (leaf) leaves_.insert({node.stamp, &node});
}

void PrefixCache::insert(std::span<const TokenId> tokens, uint64_t salt, int length, const PageTable& full,
                         const PageTable& sliding) {
  const int blocks = length / page_tokens_;
  uint64_t hash = root_hash(salt);
  Node* parent = nullptr;
  for (int b = 0; b < blocks; ++b) {
    const auto block = tokens.subspan(static_cast<size_t>(b) * page_tokens_, page_tokens_);
    hash = chain_hash(hash, block);
    const auto it = nodes_.find(hash);
    if (it != nodes_.end()) {
      Node* node = it->second.get();
      if (node->parent != parent || node->salt != salt || !std::ranges::equal(node->tokens, block))
        return;  // a collision: what is there stays
      touch(*node);
      parent = node;
      continue;
    }
    auto node = std::make_unique<Node>();
    node->hash = hash;
    node->salt = salt;
    node->parent = parent;
    node->depth = b + 1;
    node->tokens.assign(block.begin(), block.end());
    node->full = full.ref(b).share(PageHolder::kCache);
    node->stamp = ++clock_;
    leaves_.insert({node->stamp, node.get()});
    if (parent) children_changed(*parent, +1);
    parent = node.get();
    nodes_.emplace(hash, std::move(node));
  }
  if (parent) add_checkpoint(*parent, sliding);
}

PrefixCache::CheckpointKey PrefixCache::checkpoint_key(Node& node) const {
  return {node.num_children != 1, node.checkpoint_stamp, &node};
}

void PrefixCache::add_checkpoint(Node& node, const PageTable& sliding) {
  if (window_ == 0) return;
  const int begin = first_visible_page(node.depth * page_tokens_, window_, page_tokens_);
  if (node.checkpoint) {
    checkpoints_.erase(checkpoint_key(node));
  } else {
    if (sliding.begin() > begin || sliding.end() < node.depth) return;
    node.checkpoint = true;
    node.window_begin = begin;
    for (int logical = begin; logical < node.depth; ++logical)
      node.window.push_back(sliding.ref(logical).share(PageHolder::kCache));
  }
  node.checkpoint_stamp = ++clock_;
  checkpoints_.insert(checkpoint_key(node));
}

void PrefixCache::drop_checkpoint(Node& node) {
  checkpoints_.erase(checkpoint_key(node));
  node.checkpoint = false;
  node.window.clear();
}

void PrefixCache::children_changed(Node& parent, int delta) {
  if (parent.checkpoint) checkpoints_.erase(checkpoint_key(parent));
  if (parent.num_children == 0) leaves_.erase({parent.stamp, &parent});
  parent.num_children += delta;
  if (parent.num_children == 0) leaves_.insert({parent.stamp, &parent});
  if (parent.checkpoint) checkpoints_.insert(checkpoint_key(parent));
}

void PrefixCache::drop_leaf(Node& node) {
  if (node.checkpoint) drop_checkpoint(node);
  leaves_.erase({node.stamp, &node});
  if (node.parent) children_changed(*node.parent, -1);
  nodes_.erase(node.hash);
}

void PrefixCache::evict(KvPool pool, int count) {
  if (pool == KvPool::kFull)
    evict_full(count);
  else
    evict_sliding(count);
}

void PrefixCache::evict_full(int count) {
  const int goal = full_.num_free() + count;
  auto it = leaves_.begin();
  while (full_.num_free() < goal && full_.num_evictable() > 0) {
    // A leaf in use frees nothing, but it may stand in front of a block that does.
    const auto victim = std::find_if(
        it, leaves_.end(), [&](const LeafKey& leaf) { return !full_.used_by_sequence(leaf.node->full.id()); });
    drop_leaf(*(victim != leaves_.end() ? victim : leaves_.begin())->node);
    it = leaves_.begin();
  }
}

void PrefixCache::evict_sliding(int count) {
  const int goal = sliding_.num_free() + count;
  for (auto it = checkpoints_.begin();
       it != checkpoints_.end() && sliding_.num_free() < goal && sliding_.num_evictable() > 0;) {
    Node& node = *it->node;
    ++it;
    const bool gains =
        std::ranges::any_of(node.window, [&](const PageRef& page) { return !sliding_.used_by_sequence(page.id()); });
    if (gains) drop_checkpoint(node);
  }
}

void PrefixCache::clear() {
  checkpoints_.clear();
  leaves_.clear();
  nodes_.clear();
}

void PrefixCache::check() const {
  size_t leaves = 0, checkpoints = 0;
  std::unordered_map<const Node*, int> children;
  for (const auto& [hash, node] : nodes_)
    if (node->parent) ++children[node->parent];
  for (const auto& [hash, node] : nodes_) {
    CARAT_CHECK_EQ(hash, node->hash);
    CARAT_CHECK_EQ(children[node.get()], node->num_children);
    CARAT_CHECK_EQ(node->depth, (node->parent ? node->parent->depth : 0) + 1);
    CARAT_CHECK(static_cast<bool>(node->full), "a block has its full page");
    if (node->num_children == 0) {
      ++leaves;
      CARAT_CHECK(leaves_.contains({node->stamp, node.get()}), "a leaf is listed");
    }
    if (node->checkpoint) {
      ++checkpoints;
      CARAT_CHECK(checkpoints_.contains(checkpoint_key(*node)), "a checkpoint is listed");
      CARAT_CHECK_EQ(node->window_begin + static_cast<int>(node->window.size()), node->depth);
    } else {
      CARAT_CHECK(node->window.empty(), "only checkpoints hold sliding pages");
    }
  }
  CARAT_CHECK_EQ(leaves, leaves_.size());
  CARAT_CHECK_EQ(checkpoints, checkpoints_.size());
}

}  // namespace carat

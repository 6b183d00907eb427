#pragma once
// Which beginnings of sequences already have K/V in pages. Exact for layers of both kinds: a hit of length L has the
// full pages of [0, L) and the sliding pages of the window before L, or it is no hit.

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/token.h"
#include "kv/page_table.h"

namespace carat {

/// A tree of blocks of page_tokens tokens, found by a hash chain (salt, then each block's tokens) and verified token by
/// token. A block holds its full page. Sliding pages are kept only at checkpoints: blocks at whose end a sequence can
/// resume, each with the sliding pages of its window (a missing window cannot be rebuilt by running its tokens again:
/// the receptive field of stacked sliding layers is layers times window). The cache's pages count as evictable while no
/// sequence holds them. Engine thread only.
class PrefixCache {
 public:
  /// `window` 0: there are no sliding layers, every block is a checkpoint. The pools outlive the cache.
  PrefixCache(PagePool& full, PagePool& sliding, int page_tokens, int window);
  ~PrefixCache();

  struct Match {
    int length = 0;                ///< tokens that need not be computed; a multiple of page_tokens
    std::vector<PageRef> full;     ///< logical pages [0, length / page_tokens)
    std::vector<PageRef> sliding;  ///< logical pages [sliding_begin, length / page_tokens)
    int sliding_begin = 0;
    int known_length = 0;  ///< up to here the blocks are known, but their windows are gone: >= length
  };
  /// The longest hit of at most `max_length` tokens; marks it as used now.
  Match match(std::span<const TokenId> tokens, uint64_t salt, int max_length);
  /// Its length alone; marks nothing.
  int match_length(std::span<const TokenId> tokens, uint64_t salt, int max_length) const;

  /// Remembers the whole blocks of tokens[0, length), whose full pages are in `full`, and makes the last of them a
  /// checkpoint with the window's pages from `sliding`, if that still has them. Blocks that are known keep their pages.
  void insert(std::span<const TokenId> tokens, uint64_t salt, int length, const PageTable& full,
              const PageTable& sliding);

  /// Forgets least recently used blocks until `count` more pages of the pool are free, or nothing is left to gain.
  /// Full: leaves first, those in use by sequences last. Sliding: checkpoints that are merely passed through (one
  /// child) before those where sequences end or branch.
  void evict(KvPool pool, int count);
  void clear();

  int num_blocks() const { return static_cast<int>(nodes_.size()); }
  int num_checkpoints() const { return static_cast<int>(checkpoints_.size()); }
  /// Verifies the structure (tests, idle self-check).
  void check() const;

 private:
  struct Node;
  struct CheckpointKey {
    bool keep;  ///< where sequences end or branch
    uint64_t stamp;
    Node* node;
    auto operator<=>(const CheckpointKey& o) const {
      return keep != o.keep ? keep <=> o.keep : stamp <=> o.stamp;  // stamps are unique
    }
    bool operator==(const CheckpointKey& o) const { return keep == o.keep && stamp == o.stamp; }
  };
  struct LeafKey {
    uint64_t stamp;
    Node* node;
    auto operator<=>(const LeafKey& o) const { return stamp <=> o.stamp; }
    bool operator==(const LeafKey& o) const { return stamp == o.stamp; }
  };

  Node* find(uint64_t hash, const Node* parent, std::span<const TokenId> block) const;
  bool resumable(const Node& node) const;
  /// Blocks from the root that match, at most max_blocks.
  std::vector<Node*> walk(std::span<const TokenId> tokens, uint64_t salt, int max_blocks) const;
  void touch(Node& node);
  void add_checkpoint(Node& node, const PageTable& sliding);
  void drop_checkpoint(Node& node);
  void children_changed(Node& parent, int delta);
  void drop_leaf(Node& node);
  void evict_full(int count);
  void evict_sliding(int count);
  CheckpointKey checkpoint_key(Node& node) const;

  PagePool& full_;
  PagePool& sliding_;
  const int page_tokens_, window_;
  uint64_t clock_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Node>> nodes_;  ///< by chain hash
  std::set<LeafKey> leaves_;
  std::set<CheckpointKey> checkpoints_;
};

}  // namespace carat

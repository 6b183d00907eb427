#include "weights/read_pieces.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "weights/test_support.h"

namespace carat {
namespace {

using testing::HasSubstr;
using testing_support::TempFolder;

/// Collects pieces like a device would: slow to let go of a slot, and unforgiving when one is reused too early.
class Collector final : public PieceSink {
 public:
  Collector(int num_slots, int64_t slot_bytes, size_t num_pieces) : sent_(num_pieces) {
    for (int i = 0; i < num_slots; ++i) slots_.emplace_back(static_cast<size_t>(slot_bytes));
    piece_of_.resize(slots_.size());
  }
  int num_slots() const override { return static_cast<int>(slots_.size()); }
  std::byte* slot(int slot) override { return slots_[static_cast<size_t>(slot)].data(); }
  void send(int slot, size_t index) override {
    auto& owner = piece_of_[static_cast<size_t>(slot)];
    EXPECT_FALSE(owner) << "slot " << slot << " is still being sent";
    owner = index;
    ++num_sent_;
  }
  void wait(int slot) override {
    auto& owner = piece_of_[static_cast<size_t>(slot)];
    ASSERT_TRUE(owner);
    sent_[*owner] = slots_[static_cast<size_t>(slot)];  // what is there when the copy ends
    owner.reset();
  }
  const std::vector<std::byte>& sent(size_t index) const { return sent_[index]; }
  size_t num_sent() const { return num_sent_; }
  bool idle() const {
    for (const auto& owner : piece_of_)
      if (owner) return false;
    return true;
  }

 private:
  std::vector<std::vector<std::byte>> slots_, sent_;
  std::vector<std::optional<size_t>> piece_of_;
  size_t num_sent_ = 0;
};

class ReadPieces : public testing::Test {
 protected:
  void SetUp() override {
    std::string bytes(100'000, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 256);
    folder_.write("a", bytes);
    mapping_ = MappedFile::open(folder_ / "a").value();
    file_ = {folder_ / "a", &mapping_};
  }
  std::vector<Piece> cut(int64_t size) const {
    std::vector<Piece> pieces;
    for (int64_t at = 0; at < mapping_.size(); at += size) {
      Piece& piece = pieces.emplace_back();
      piece.file = &file_;
      piece.offset = at;
      piece.size = std::min(size, mapping_.size() - at);
    }
    return pieces;
  }
  TempFolder folder_;
  MappedFile mapping_;
  TextWeights::File file_;
};

TEST_F(ReadPieces, EveryByteArrivesWhateverTheNumberOfThreadsAndSlots) {
  for (const int threads : {1, 2, 7})
    for (const int slots : {1, 2, 5}) {
      const auto pieces = cut(1009);
      Collector sink(slots, 1009, pieces.size());
      int64_t last = 0;
      const auto done = read_pieces(pieces, threads, sink, [&](int64_t bytes) {
        EXPECT_GT(bytes, last);
        last = bytes;
      });
      ASSERT_TRUE(done) << done.error().message;
      EXPECT_EQ(last, mapping_.size());
      EXPECT_EQ(sink.num_sent(), pieces.size());
      EXPECT_TRUE(sink.idle());
      for (size_t i = 0; i < pieces.size(); ++i)
        ASSERT_EQ(std::memcmp(sink.sent(i).data(), mapping_.bytes().data() + pieces[i].offset,
                              static_cast<size_t>(pieces[i].size)),
                  0)
            << "piece " << i << " with " << threads << " threads and " << slots << " slots";
    }
}

TEST_F(ReadPieces, MemoryAndTargetsMixWithFiles) {
  auto pieces = cut(30'000);
  std::vector<std::byte> target(30'000), memory(500, std::byte{7});
  pieces[1].target = target.data();
  Piece& last = pieces.emplace_back();
  last.memory = memory.data();
  last.size = 500;
  Collector sink(2, 30'000, pieces.size());
  ASSERT_TRUE(read_pieces(pieces, 3, sink, nullptr));
  EXPECT_EQ(sink.num_sent(), pieces.size() - 1);
  EXPECT_EQ(std::memcmp(target.data(), mapping_.bytes().data() + 30'000, target.size()), 0);
  EXPECT_EQ(std::memcmp(sink.sent(pieces.size() - 1).data(), memory.data(), memory.size()), 0);
}

TEST_F(ReadPieces, NothingIsFine) {
  Collector sink(1, 1, 0);
  EXPECT_TRUE(read_pieces({}, 2, sink, nullptr));
}

TEST_F(ReadPieces, AFileThatWasShortenedIsNamed) {
  for (const int threads : {1, 4}) {
    SetUp();
    std::filesystem::resize_file(folder_ / "a", 54'321);
    const auto pieces = cut(1000);
    Collector sink(3, 1000, pieces.size());
    const auto done = read_pieces(pieces, threads, sink, nullptr);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::kIo);
    EXPECT_THAT(done.error().message, HasSubstr((folder_ / "a").string()));
    EXPECT_THAT(done.error().message, HasSubstr("100000"));
    EXPECT_TRUE(sink.idle());
  }
}

TEST_F(ReadPieces, AFileThatWasDeletedIsStillThere) {
  std::filesystem::remove(folder_ / "a");
  const auto pieces = cut(1000);
  Collector sink(3, 1000, pieces.size());
  EXPECT_TRUE(read_pieces(pieces, 2, sink, nullptr));
}

TEST(FindPiece, TensorsOfACheckpointAreFoundInTheirFiles) {
  TempFolder folder;
  const ModelConfig config = make_model_config(testing_support::small_spec("E2B"));
  const auto seeded = make_dummy_text_weights(config, 1).value();
  EXPECT_TRUE(seeded->files.empty());
  EXPECT_FALSE(find_piece(*seeded, seeded->norm, 0, 4).file);
  ASSERT_TRUE(write_checkpoint(folder.path(), config, *seeded, 20'000));
  const auto loaded = load_text_weights(folder.path(), config).value();
  ASSERT_GT(loaded->files.size(), 1u);
  for (const ConstTensorView* view : {&loaded->embed_tokens, &loaded->norm, &loaded->layers[1].down_proj}) {
    const Piece piece = find_piece(*loaded, *view, 2, view->size_bytes() - 2);
    ASSERT_TRUE(piece.file);
    std::vector<std::byte> bytes(static_cast<size_t>(piece.size));
    ASSERT_TRUE(piece.file->mapping->read(piece.offset, bytes));
    EXPECT_EQ(std::memcmp(bytes.data(), static_cast<const std::byte*>(view->data) + 2, bytes.size()), 0);
  }
}

}  // namespace
}  // namespace carat

#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/bf16.h"

namespace carat {
namespace {

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_EQ((Shape{2, 3, 4}).num_elements(), 24);
  EXPECT_EQ((Shape{2, 0}).num_elements(), 0);
  EXPECT_EQ((Shape{2, 3}).to_string(), "[2, 3]");
  EXPECT_FALSE((Shape{2, 3}) == (Shape{2, 3, 1}));
}

TEST(TensorView, RowsAndStride) {
  float data[12];
  const TensorView v(data, DType::kF32, {2, 2, 3});
  EXPECT_EQ(v.num_rows(), 4);
  EXPECT_EQ(v.last_dim(), 3);
  EXPECT_TRUE(v.contiguous());
  EXPECT_EQ(v.size_bytes(), 48);
  EXPECT_EQ(TensorView(data, DType::kF32, {0, 3}).num_rows(), 0);
  EXPECT_FALSE(TensorView(data, DType::kF32, {2, 3}, 6).contiguous());
}

TEST(Buffer, IsZeroAlignedAndMovable) {
  auto made = Buffer::allocate(10000);
  ASSERT_TRUE(made);
  Buffer a = std::move(made).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % 4096, 0u);
  EXPECT_EQ(a.data()[9999], std::byte{0});
  a.data()[0] = std::byte{7};
  Buffer b = std::move(a);
  EXPECT_EQ(b.size(), 10000);
  EXPECT_EQ(b.data()[0], std::byte{7});
}

TEST(Buffer, TooMuchIsAnError) {
  const auto made = Buffer::allocate(int64_t{1} << 60);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::kOverloaded);
}

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(Bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(Bf16(1.0f + 1.0f / 256).bits, 0x3f80);  // a tie goes to the even neighbour
  EXPECT_EQ(Bf16(1.0f + 3.0f / 256).bits, 0x3f82);
  EXPECT_EQ(Bf16(std::nextafter(1.0f + 1.0f / 256, 2.0f)).bits, 0x3f81);
  EXPECT_EQ(Bf16(-0.0f).bits, 0x8000);
  EXPECT_TRUE(std::isinf(static_cast<float>(Bf16(std::numeric_limits<float>::max()))));
  EXPECT_TRUE(std::isnan(static_cast<float>(Bf16(std::numeric_limits<float>::quiet_NaN()))));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto v = Bf16::from_bits(static_cast<uint16_t>(bits));
    const auto f = static_cast<float>(v);
    if (!std::isnan(f)) {
      ASSERT_EQ(Bf16(f), v);
    }
  }
}

}  // namespace
}  // namespace carat

// Pictures of any small sizes and contents against a plain reading of the specification.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "media/resize.h"

namespace {

constexpr int kMaxSide = 70;

double cubic(double t) {
  t = std::abs(t);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((t - 5) * t + 8) * t * -0.5 + 2 : 0;
}

struct Axis {
  std::vector<std::vector<int16_t>> weights;
  std::vector<int> first;
  int precision = 0;
};

// vision.md section 2, word by word.
Axis make_axis(int in, int out) {
  const double scale = static_cast<double>(in) / out, support = scale >= 1 ? 2 * scale : 2,
               inverse = scale >= 1 ? 1 / scale : 1;
  Axis axis;
  std::vector<std::vector<double>> exact;
  double highest = 0;
  for (int i = 0; i < out; ++i) {
    const double center = scale * (i + 0.5);
    const int low = std::max(static_cast<int>(center - support + 0.5), 0);
    const int high = std::min(static_cast<int>(center + support + 0.5), in);
    std::vector<double> row;
    double total = 0;
    for (int j = 0; j < high - low; ++j) {
      row.push_back(cubic((j + low - center + 0.5) * inverse));
      total += row.back();
    }
    for (double& w : row) highest = std::max(highest, w /= total);
    exact.push_back(row);
    axis.first.push_back(low);
  }
  while (axis.precision < 22 && static_cast<int>(0.5 + highest * (1 << (axis.precision + 1))) < 1 << 15)
    ++axis.precision;
  for (const auto& row : exact) {
    axis.weights.emplace_back();
    for (const double w : row)
      axis.weights.back().push_back(static_cast<int16_t>(w * (1 << axis.precision) + (w < 0 ? -0.5 : 0.5)));
  }
  return axis;
}

uint8_t weigh(const Axis& axis, int i, const uint8_t* in, int stride) {
  int sum = 1 << (axis.precision - 1);
  const auto& weights = axis.weights[static_cast<size_t>(i)];
  for (size_t j = 0; j < weights.size(); ++j)
    sum += weights[j] * in[(axis.first[static_cast<size_t>(i)] + static_cast<int>(j)) * stride];
  return static_cast<uint8_t>(std::clamp(sum >> axis.precision, 0, 255));
}

std::vector<uint8_t> plain(const std::vector<uint8_t>& in, int width, int height, int out_width, int out_height) {
  std::vector<uint8_t> narrow = in;
  if (out_width != width) {
    const Axis axis = make_axis(width, out_width);
    narrow.clear();
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < out_width; ++x)
        for (int c = 0; c < 3; ++c) narrow.push_back(weigh(axis, x, &in[static_cast<size_t>(y * width * 3 + c)], 3));
  }
  if (out_height == height) return narrow;
  const Axis axis = make_axis(height, out_height);
  std::vector<uint8_t> out;
  for (int y = 0; y < out_height; ++y)
    for (int i = 0; i < out_width * 3; ++i)
      out.push_back(weigh(axis, y, &narrow[static_cast<size_t>(i)], out_width * 3));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 5) return 0;
  const auto side = [](uint8_t byte) { return 1 + byte % kMaxSide; };
  const int width = side(data[0]), height = side(data[1]), out_width = side(data[2]), out_height = side(data[3]);
  std::vector<uint8_t> pixels;
  for (int i = 0; i < width * height * 3; ++i) pixels.push_back(data[4 + static_cast<size_t>(i) % (size - 4)]);
  std::vector<uint8_t> out(static_cast<size_t>(out_width * out_height * 3));
  carat::resize_bicubic({width, height, pixels}, out_width, out_height, out);
  CARAT_CHECK(out == plain(pixels, width, height, out_width, out_height), "the fast resize differs from the plain one");
  return 0;
}

#include "media/mel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numbers>

#include "media/audio_input.h"

namespace carat {
namespace {

constexpr int kFrameLength = 320, kHop = 160, kPadding = 160;
constexpr int kFftLength = 512, kNumBins = kFftLength / 2 + 1;
constexpr double kHighestHertz = 8000, kFloor = 0.001;

using Complex = std::complex<double>;

// std::complex multiplies with checks for NaN that take most of the time.
Complex times(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

/// The lower half of the transform of 512 real numbers, by one of 256 complex ones: even samples are taken as real
/// parts, odd ones as imaginary parts.
class RealFft {
 public:
  RealFft() {
    for (size_t k = 0; k < kHalf; ++k) {
      const double angle = -2 * std::numbers::pi * static_cast<double>(k) / kFftLength;
      twiddle_[k] = {std::cos(angle), std::sin(angle)};
      size_t reversed = 0;
      for (size_t bit = 1, k_left = k; bit < kHalf; bit *= 2, k_left /= 2) reversed = 2 * reversed + k_left % 2;
      reversed_[k] = reversed;
    }
  }

  /// magnitude[k] = |sum_j x[j] exp(-2 pi i j k / 512)|
  void magnitudes(std::span<const float, kFftLength> x, std::span<double, kNumBins> magnitude) const {
    std::array<Complex, kHalf> z;
    for (size_t j = 0; j < kHalf; ++j)
      z[reversed_[j]] = {static_cast<double>(x[2 * j]), static_cast<double>(x[2 * j + 1])};
    for (size_t half = 1; half < kHalf; half *= 2)
      for (size_t begin = 0; begin < kHalf; begin += 2 * half)
        for (size_t j = 0; j < half; ++j) {
          const Complex turned = times(z[begin + half + j], twiddle_[j * (kHalf / half)]);
          z[begin + half + j] = z[begin + j] - turned;
          z[begin + j] += turned;
        }
    magnitude[0] = std::abs(z[0].real() + z[0].imag());
    magnitude[kHalf] = std::abs(z[0].real() - z[0].imag());
    for (size_t k = 1; k < kHalf; ++k) {
      const Complex mirrored = std::conj(z[kHalf - k]);
      const Complex even = 0.5 * (z[k] + mirrored), odd = times({0, -0.5}, z[k] - mirrored);
      const Complex bin = even + times(twiddle_[k], odd);
      magnitude[k] = std::sqrt(bin.real() * bin.real() + bin.imag() * bin.imag());
    }
  }

 private:
  static constexpr size_t kHalf = kFftLength / 2;
  std::array<Complex, kHalf> twiddle_;  // exp(-2 pi i k / 512)
  std::array<size_t, kHalf> reversed_;
};

/// A triangle's weights on the bins that it touches.
struct Filter {
  size_t first_bin = 0;
  std::vector<double> weights;
};

std::array<Filter, kMelBins> make_filters() {
  const auto to_mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const auto to_hertz = [](double mel) { return 700 * (std::pow(10.0, mel / 2595) - 1); };
  std::array<double, kMelBins + 2> corner;
  for (size_t i = 0; i < corner.size(); ++i)
    corner[i] = to_hertz(to_mel(kHighestHertz) * static_cast<double>(i) / (kMelBins + 1));
  std::array<Filter, kMelBins> filters;
  for (size_t j = 0; j < kMelBins; ++j)
    for (size_t b = 0; b < kNumBins; ++b) {
      const double hertz = kHighestHertz * static_cast<double>(b) / (kNumBins - 1);
      const double rise = (hertz - corner[j]) / (corner[j + 1] - corner[j]);
      const double fall = (corner[j + 2] - hertz) / (corner[j + 2] - corner[j + 1]);
      const double weight = std::min(rise, fall);
      if (weight <= 0) continue;
      if (filters[j].weights.empty()) filters[j].first_bin = b;
      filters[j].weights.push_back(weight);
    }
  return filters;
}

std::array<float, kFrameLength> make_window() {
  std::array<float, kFrameLength> window;
  for (size_t j = 0; j < kFrameLength; ++j)
    window[j] = static_cast<float>(0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(j) / kFrameLength));
  return window;
}

struct Tables {
  RealFft fft;
  std::array<Filter, kMelBins> filters = make_filters();
  std::array<float, kFrameLength> window = make_window();
};

const Tables& tables() {
  static const Tables t;
  return t;
}

}  // namespace

int64_t num_mel_frames(int64_t num_samples) {
  constexpr int64_t kFirst = kFrameLength + 1 - kPadding;  // the last sample of the first frame, and one more
  return num_samples < kFirst ? 0 : (num_samples - kFirst) / kHop + 1;
}

std::vector<float> log_mel_features(std::span<const float> samples) {
  const Tables& t = tables();
  const int64_t num_frames = num_mel_frames(static_cast<int64_t>(samples.size()));
  std::vector<float> features(static_cast<size_t>(num_frames) * kMelBins);
  std::array<float, kFftLength> frame{};
  std::array<double, kNumBins> magnitude;
  for (int64_t i = 0; i < num_frames; ++i) {
    for (int64_t j = 0; j < kFrameLength; ++j) {
      const int64_t at = i * kHop + j - kPadding;
      frame[static_cast<size_t>(j)] =
          at < 0 ? 0.0f : samples[static_cast<size_t>(at)] * t.window[static_cast<size_t>(j)];
    }
    t.fft.magnitudes(frame, magnitude);
    float* const out = features.data() + i * kMelBins;
    for (size_t m = 0; m < kMelBins; ++m) {
      double sum = 0;
      for (size_t b = 0; b < t.filters[m].weights.size(); ++b)
        sum += magnitude[t.filters[m].first_bin + b] * t.filters[m].weights[b];
      out[m] = static_cast<float>(std::log(sum + kFloor));
    }
  }
  return features;
}

}  // namespace carat

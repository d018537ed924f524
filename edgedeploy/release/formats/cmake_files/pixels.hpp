// From the pixels of a picture to a model's input. C++17; part of a package that edgedeploy made:
// do not edit. The algorithm: docs/preprocessing.md of edgedeploy.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "session.hpp"

namespace @NAMESPACE@ {

/// A decoded picture, upright, 8 bits per channel.
struct Pixels {
  const std::uint8_t* data;  ///< Rows without gaps; the caller's.
  int width;
  int height;
  int channels;  ///< 1: gray, 2: gray and alpha, 3: RGB, 4: RGBA.
};

namespace detail {

enum class Fit { stretch, letterbox, pad, crop };
enum class Resample { nearest, bilinear, bicubic, area };
enum class Colour { rgb, bgr, gray };
enum class Layout { nchw, nhwc };

/// How a picture becomes an input; 0 for a width that follows from the picture.
struct Picture {
  int height;
  int width;
  int fixed_width;
  Fit fit;
  int pad_value;
  Resample resample;
  Colour colour;
  Layout layout;
  float scale;
  std::vector<float> mean;
  std::vector<float> std;
};

/// Weights along one axis: whole numbers over one denominator.
struct Weights {
  std::size_t taps;
  std::vector<std::int64_t> index;
  std::vector<std::int64_t> weight;
  std::int64_t denominator;
};

/// The size of the input, the size that the picture is resized to, and where it goes.
struct Plan {
  std::int64_t height, width, new_height, new_width, top, left;
};

inline std::int64_t floored(std::int64_t value, std::int64_t by) {
  return value / by - (value % by < 0 ? 1 : 0);
}

/// Returns `size * numerator / denominator`, rounded half up, at least 1.
inline std::int64_t scaled(std::int64_t size, std::int64_t numerator, std::int64_t denominator) {
  return std::max<std::int64_t>(1, (2 * size * numerator + denominator) / (2 * denominator));
}

inline Plan plan_fit(std::int64_t h, std::int64_t w, const Picture& words) {
  Plan plan{words.height, words.width, 0, 0, 0, 0};
  if (plan.width == 0 && words.fit != Fit::stretch) plan.width = words.fixed_width;
  if (plan.width == 0) plan.width = scaled(w, plan.height, h);
  plan.new_height = plan.height;
  plan.new_width = plan.width;
  if (words.fit == Fit::stretch) return plan;
  const bool height_limits = plan.height * w <= plan.width * h;
  if (height_limits == (words.fit != Fit::crop)) {
    plan.new_width = scaled(w, plan.height, h);
  } else {
    plan.new_height = scaled(h, plan.width, w);
  }
  if (words.fit != Fit::pad) {
    plan.top = floored(plan.height - plan.new_height, 2);
    plan.left = floored(plan.width - plan.new_width, 2);
  }
  return plan;
}

/// Returns Keys' kernel (a = -3/4) at the four pixels around `rest / unit`, in 2^-14ths.
inline std::array<std::int64_t, 4> cubic_weights(std::int64_t rest, std::int64_t unit) {
  std::array<std::int64_t, 4> found{};
  const std::int64_t u = unit, cube = u * u * u;
  std::int64_t sum = 0;
  for (int k = 0; k < 4; ++k) {
    const std::int64_t d = std::abs(rest - (k - 1) * u);
    std::int64_t numerator = 0;
    if (d <= u) {
      numerator = (5 * d - 9 * u) * d * d + 4 * cube;
    } else if (d < 2 * u) {
      numerator = ((15 * u - 3 * d) * d - 24 * u * u) * d + 12 * cube;
    }
    found[k] = floored(numerator * 32768 + 4 * cube, 8 * cube);
    sum += found[k];
  }
  found[2 * rest < u ? 1 : 2] += 16384 - sum;
  return found;
}

inline Weights weights_of(std::int64_t n, std::int64_t m, Resample mode) {
  Weights made{1, {}, {}, 1};
  if (mode == Resample::bilinear) made = {2, {}, {}, 2 * m};
  if (mode == Resample::bicubic) made = {4, {}, {}, 16384};
  if (mode == Resample::area) made = {static_cast<std::size_t>((n + m - 1) / m + 1), {}, {}, n};
  for (std::int64_t i = 0; i < m; ++i) {
    const std::int64_t left = floored((2 * i + 1) * n - m, 2 * m);
    const std::int64_t rest = (2 * i + 1) * n - m - left * 2 * m;
    std::array<std::int64_t, 4> cubic{};
    if (mode == Resample::bicubic) cubic = cubic_weights(rest, 2 * m);
    for (std::size_t k = 0; k < made.taps; ++k) {
      const std::int64_t step = static_cast<std::int64_t>(k);
      std::int64_t at = (2 * i + 1) * n / (2 * m), weight = 1;
      if (mode == Resample::bilinear) {
        at = left + step;
        weight = k == 0 ? 2 * m - rest : rest;
      } else if (mode == Resample::bicubic) {
        at = left + step - 1;
        weight = cubic[k];
      } else if (mode == Resample::area) {
        at = i * n / m + step;
        const auto covered = std::min((at + 1) * m, (i + 1) * n) - std::max(at * m, i * n);
        weight = std::max<std::int64_t>(0, covered);
      }
      made.index.push_back(std::clamp<std::int64_t>(at, 0, n - 1));
      made.weight.push_back(weight);
    }
  }
  return made;
}

inline std::vector<std::uint8_t> channels_of(const Pixels& pixels, int channels) {
  if (pixels.width < 1 || pixels.height < 1 || pixels.channels < 1 || pixels.channels > 4) {
    throw Error("a picture has pixels of 1 to 4 channels");
  }
  const std::size_t count = static_cast<std::size_t>(pixels.width) * pixels.height;
  std::vector<std::uint8_t> found(count * channels);
  for (std::size_t at = 0; at < count; ++at) {
    const std::uint8_t* from = pixels.data + at * pixels.channels;
    const bool gray = pixels.channels < 3;
    const std::uint32_t r = from[0], g = from[gray ? 0 : 1], b = from[gray ? 0 : 2];
    if (channels == 3) {
      found[3 * at] = from[0];
      found[3 * at + 1] = static_cast<std::uint8_t>(g);
      found[3 * at + 2] = static_cast<std::uint8_t>(b);
    } else {
      const std::uint32_t luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
      found[at] = static_cast<std::uint8_t>(gray ? r : luma);
    }
  }
  return found;
}

inline std::vector<std::uint8_t> resize(std::vector<std::uint8_t> source, std::int64_t h,
                                        std::int64_t w, int channels, const Plan& plan,
                                        Resample mode) {
  if (h == plan.new_height && w == plan.new_width) return source;
  const Weights rows = weights_of(h, plan.new_height, mode);
  const Weights columns = weights_of(w, plan.new_width, mode);
  const std::int64_t denominator = rows.denominator * columns.denominator;
  std::vector<std::uint8_t> found;
  found.reserve(static_cast<std::size_t>(plan.new_height * plan.new_width) * channels);
  std::vector<std::int64_t> line(static_cast<std::size_t>(w) * channels);
  for (std::int64_t y = 0; y < plan.new_height; ++y) {
    std::fill(line.begin(), line.end(), 0);
    for (std::size_t k = y * rows.taps; k < (y + 1) * rows.taps; ++k) {
      const std::uint8_t* from = source.data() + rows.index[k] * w * channels;
      for (std::size_t at = 0; at < line.size(); ++at) line[at] += from[at] * rows.weight[k];
    }
    for (std::int64_t x = 0; x < plan.new_width; ++x) {
      for (int c = 0; c < channels; ++c) {
        std::int64_t total = 0;
        for (std::size_t k = x * columns.taps; k < (x + 1) * columns.taps; ++k) {
          total += line[columns.index[k] * channels + c] * columns.weight[k];
        }
        const std::int64_t value = floored(2 * total + denominator, 2 * denominator);
        found.push_back(static_cast<std::uint8_t>(std::clamp<std::int64_t>(value, 0, 255)));
      }
    }
  }
  return found;
}

/// Returns the values of the 256 pixel values for one channel of the input.
template <class T>
std::array<T, 256> table_of(const Picture& words, int channel) {
  std::array<T, 256> found{};
  for (int value = 0; value < 256; ++value) {
    // Kept from being fused with the next operation, which would not round in between.
    volatile float step = static_cast<float>(value);
    if (words.scale != 1.0F) step = step * words.scale;
    if (!words.mean.empty()) step = step - words.mean[words.mean.size() > 1 ? channel : 0];
    if (!words.std.empty()) step = step / words.std[words.std.size() > 1 ? channel : 0];
    found[value] = static_cast<T>(step);
  }
  return found;
}

/// Returns a model's input of the pixels of a picture.
template <class T>
Tensor<T> tensor_of(const Pixels& pixels, const Picture& words) {
  const int channels = words.colour == Colour::gray ? 1 : 3;
  const Plan plan = plan_fit(pixels.height, pixels.width, words);
  const auto small = resize(channels_of(pixels, channels), pixels.height, pixels.width, channels,
                            plan, words.resample);
  const bool first = words.layout == Layout::nchw;
  Tensor<T> made;
  made.shape = first ? std::vector<std::int64_t>{1, channels, plan.height, plan.width}
                     : std::vector<std::int64_t>{1, plan.height, plan.width, channels};
  made.values.resize(static_cast<std::size_t>(plan.height * plan.width) * channels);
  for (int c = 0; c < channels; ++c) {
    const auto table = table_of<T>(words, c);
    const int taken = words.colour == Colour::bgr ? 2 - c : c;
    for (std::int64_t y = 0; y < plan.height; ++y) {
      for (std::int64_t x = 0; x < plan.width; ++x) {
        const std::int64_t from_y = y - plan.top, from_x = x - plan.left;
        const bool inside = from_y >= 0 && from_y < plan.new_height && from_x >= 0 &&
                            from_x < plan.new_width;
        const int value = inside ? small[(from_y * plan.new_width + from_x) * channels + taken]
                                 : words.pad_value;
        const std::int64_t place =
            first ? (c * plan.height + y) * plan.width + x : (y * plan.width + x) * channels + c;
        made.values[place] = table[value];
      }
    }
  }
  return made;
}

}  // namespace detail

}  // namespace @NAMESPACE@

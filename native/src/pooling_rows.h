// The loops of pooling: one row of one image at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace jaxdl {

// The pixels of a window, or the windows over a pixel, from `begin` to before `end` along an axis.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Windows along one axis of an image.
struct Axis {
  Axis(int64_t side, int64_t windows, int64_t window, int64_t stride, int64_t before)
      : side(side), windows(windows), window(window), stride(stride), before(before) {
    for (int64_t number = 0; number < windows; ++number) {
      const int64_t start = number * stride - before;
      inside.push_back({std::max<int64_t>(0, -start), std::min(window, side - start)});
    }
    for (int64_t pixel = 0; pixel < side; ++pixel) {
      const int64_t reach = pixel + before;
      over.push_back({reach < window ? 0 : (reach - window) / stride + 1, std::min(windows, reach / stride + 1)});
    }
  }

  int64_t side, windows, window, stride, before;
  std::vector<Range> inside;  // for every window its places that lie inside the image
  std::vector<Range> over;    // for every pixel the windows that cover it
};

struct Geometry {
  int64_t channels;
  Axis rows, columns;

  // Where a pixel of an image starts, and a window of its result.
  int64_t Pixel(int64_t y, int64_t x) const { return (y * columns.side + x) * channels; }
  int64_t Window(int64_t row, int64_t column) const { return (row * columns.windows + column) * channels; }

  // How many pixels of the image a window has.
  float Count(int64_t row, int64_t column) const {
    return static_cast<float>(rows.inside[row].size() * columns.inside[column].size());
  }
};

struct PoolingRows {
  // The maximum of each window, and its place, counted in row order: the first of equal ones, a NaN where there is one.
  void (*max)(const Geometry&, int64_t row, const float* image, float* best, uint8_t* places);
  // What lies at given places of the windows; 0 where a place is outside of the image.
  void (*pick)(const Geometry&, int64_t row, const float* image, const uint8_t* places, float* picked);
  // The transpose: each pixel is the sum over the windows in which it is the one at the given place.
  void (*place)(const Geometry&, int64_t y, const float* values, const uint8_t* places, float* pixels);
  // The mean of the pixels of each window.
  void (*mean)(const Geometry&, int64_t row, const float* image, float* means);
  // The transpose: the number of each window, divided by how many pixels it has, is added to all of them.
  void (*spread)(const Geometry&, int64_t y, const float* values, float* pixels);
};

// The same code, compiled for several instruction sets.
extern const PoolingRows kBaselineRows;
#ifdef JAXDL_X86
extern const PoolingRows kAvx2Rows, kAvx512Rows;
#endif

}  // namespace jaxdl

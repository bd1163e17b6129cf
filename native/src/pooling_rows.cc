// Compiled once for every instruction set (CMakeLists.txt): JAXDL_ROWS is the name of this one's functions.
#include "pooling_rows.h"

#include <cstring>
#include <limits>

#define JAXDL_INLINED __attribute__((always_inline))
#define JAXDL_INLINE inline JAXDL_INLINED

namespace jaxdl {
namespace {

// Channels are computed in blocks as long as a register, by vectors of the compiler: GCC's and Clang's.
#if defined(__AVX512F__)
constexpr int kBlock = 16;
#elif defined(__AVX2__)
constexpr int kBlock = 8;
#else
constexpr int kBlock = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * kBlock)));
typedef int32_t Ints __attribute__((vector_size(4 * kBlock)));

// The first `size` numbers of a vector, to and from memory.
JAXDL_INLINE void Load(const float* from, int size, Floats& to) {
  if (size < kBlock) to = Floats{};
  std::memcpy(&to, from, sizeof(float) * size);
}
JAXDL_INLINE void Store(const Floats& from, int size, float* to) { std::memcpy(to, &from, sizeof(float) * size); }

// The same for places, which are bytes in memory. GCC has an instruction for a loop, but not for a conversion of vectors.
JAXDL_INLINE void Load(const uint8_t* from, int size, Ints& to) {
  int32_t wide[kBlock] = {};
  for (int k = 0; k < size; ++k) wide[k] = from[k];
  std::memcpy(&to, wide, sizeof(wide));
}
JAXDL_INLINE void Store(const Ints& from, int size, uint8_t* to) {
  for (int k = 0; k < size; ++k) to[k] = static_cast<uint8_t>(from[k]);
}

// Calls f(c, size) for the blocks of channels: their first one, and how many they are.
template <typename F>
JAXDL_INLINE void ForBlocks(int64_t channels, const F& f) {
  int64_t c = 0;
  for (; c + kBlock <= channels; c += kBlock) f(c, kBlock);
  if (c < channels) f(c, static_cast<int>(channels - c));
}

// Calls f(pixel, place) for the pixels of a window: where they start in the image, and their numbers in the window.
template <typename F>
JAXDL_INLINE void PixelsOf(const Geometry& g, int64_t row, int64_t column, const F& f) {
  const Range rows = g.rows.inside[row], columns = g.columns.inside[column];
  const int64_t y = row * g.rows.stride - g.rows.before, x = column * g.columns.stride - g.columns.before;
  for (int64_t i = rows.begin; i < rows.end; ++i)
    for (int64_t j = columns.begin; j < columns.end; ++j)
      f(g.Pixel(y + i, x + j), static_cast<int>(i * g.columns.window + j));
}

// Calls f(row, column, place) for the windows over a pixel, and the number that the pixel has in each.
template <typename F>
JAXDL_INLINE void WindowsOver(const Geometry& g, int64_t y, int64_t x, const F& f) {
  const Range rows = g.rows.over[y], columns = g.columns.over[x];
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t i = y + g.rows.before - row * g.rows.stride;
    for (int64_t column = columns.begin; column < columns.end; ++column) {
      const int64_t j = x + g.columns.before - column * g.columns.stride;
      f(row, column, static_cast<int>(i * g.columns.window + j));
    }
  }
}

void Max(const Geometry& g, int64_t row, const float* image, float* best, uint8_t* places) {
  for (int64_t column = 0; column < g.columns.windows; ++column, best += g.channels, places += g.channels) {
    ForBlocks(g.channels, [&](int64_t c, int size) JAXDL_INLINED {
      Floats greatest = Floats{} - std::numeric_limits<float>::infinity(), pixels;
      Ints place = Ints{} - 1;
      PixelsOf(g, row, column, [&](int64_t from, int here) JAXDL_INLINED {
        Load(image + from + c, size, pixels);
        const Ints takes = (pixels > greatest) | (pixels != pixels) | (place < 0);
        greatest = takes ? pixels : greatest;
        place = takes ? Ints{} + here : place;
      });
      Store(greatest, size, best + c);
      Store(place, size, places + c);
    });
  }
}

void Pick(const Geometry& g, int64_t row, const float* image, const uint8_t* places, float* picked) {
  for (int64_t column = 0; column < g.columns.windows; ++column, picked += g.channels, places += g.channels) {
    ForBlocks(g.channels, [&](int64_t c, int size) JAXDL_INLINED {
      Floats found = {}, pixels;
      Ints place;
      Load(places + c, size, place);
      PixelsOf(g, row, column, [&](int64_t from, int here) JAXDL_INLINED {
        Load(image + from + c, size, pixels);
        found = place == here ? pixels : found;
      });
      Store(found, size, picked + c);
    });
  }
}

void Place(const Geometry& g, int64_t y, const float* values, const uint8_t* places, float* pixel) {
  for (int64_t x = 0; x < g.columns.side; ++x, pixel += g.channels) {
    ForBlocks(g.channels, [&](int64_t c, int size) JAXDL_INLINED {
      Floats sum = {}, value;
      Ints place;
      WindowsOver(g, y, x, [&](int64_t row, int64_t column, int here) JAXDL_INLINED {
        Load(values + g.Window(row, column) + c, size, value);
        Load(places + g.Window(row, column) + c, size, place);
        sum += place == here ? value : Floats{};
      });
      Store(sum, size, pixel + c);
    });
  }
}

void Mean(const Geometry& g, int64_t row, const float* image, float* means) {
  for (int64_t column = 0; column < g.columns.windows; ++column, means += g.channels) {
    ForBlocks(g.channels, [&](int64_t c, int size) JAXDL_INLINED {
      Floats sum = {}, pixels;
      PixelsOf(g, row, column, [&](int64_t from, int) JAXDL_INLINED {
        Load(image + from + c, size, pixels);
        sum += pixels;
      });
      sum /= g.Count(row, column);
      Store(sum, size, means + c);
    });
  }
}

void Spread(const Geometry& g, int64_t y, const float* values, float* pixel) {
  for (int64_t x = 0; x < g.columns.side; ++x, pixel += g.channels) {
    ForBlocks(g.channels, [&](int64_t c, int size) JAXDL_INLINED {
      Floats sum = {}, value;
      WindowsOver(g, y, x, [&](int64_t row, int64_t column, int) JAXDL_INLINED {
        Load(values + g.Window(row, column) + c, size, value);
        sum += value * (1.0f / g.Count(row, column));
      });
      Store(sum, size, pixel + c);
    });
  }
}

}  // namespace

extern const PoolingRows JAXDL_ROWS;
const PoolingRows JAXDL_ROWS = {Max, Pick, Place, Mean, Spread};

}  // namespace jaxdl

// Max and average pooling of float32 images [batch, height, width, channels], with their gradients.
//
// Every function writes each number of its result once, in a fixed order: the results are the same bits whatever the
// number of threads.

#include <algorithm>
#include <cstdint>
#include <string>

#include "xla/ffi/api/ffi.h"

#include "parallel.h"
#include "pooling_rows.h"

namespace ffi = xla::ffi;

namespace jaxdl {
namespace {

using Images = ffi::Buffer<ffi::F32, 4>;
using Places = ffi::Buffer<ffi::U8, 4>;
using Integers = ffi::Span<const int64_t>;

constexpr int64_t kLargestWindow = 16;  // of 256 places, which a byte numbers

// The loops for this processor.
const PoolingRows& Rows() {
#ifdef JAXDL_X86
  static const PoolingRows& best = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                           __builtin_cpu_supports("avx512vl")
                                       ? kAvx512Rows
                                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kAvx2Rows
                                                                    : kBaselineRows;
  return best;
#else
  return kBaselineRows;
#endif
}

// Checks what comes from Python, and computes row after row: row(geometry, image, number) for the images' rows if
// `to_images`, else for those of the results.
template <typename Row>
ffi::Error Run(ffi::Span<const int64_t> images, ffi::Span<const int64_t> results, bool to_images, bool buffers,
               int64_t window, int64_t stride, Integers padding, int64_t threads, const Row& row) {
  auto wrong = [](const std::string& what) { return ffi::Error::InvalidArgument("jaxdl_native pooling: " + what); };
  if (padding.size() != 4) return wrong("padding must have 4 numbers");
  if (window < 1 || window > kLargestWindow) return wrong("window must be between 1 and 16");
  if (stride < 1 || stride > INT32_MAX / 4) return wrong("stride must be at least 1, and below 2^29");
  for (int64_t pad : padding)  // so that every window has a pixel of the images
    if (pad < 0 || pad >= window) return wrong("padding must be at least 0 and below window");
  for (const auto& shape : {images, results})
    for (int64_t side : shape)
      if (side < 1 || side > INT32_MAX) return wrong("every axis must have between 1 and 2^31 - 1 elements");
  if (threads < 1 || threads > 4096) return wrong("threads must be between 1 and 4096");
  if (!buffers) return wrong("a buffer has no memory");
  if (results[0] != images[0] || results[3] != images[3])
    return wrong("the images in and out must be as many, and have as many channels");
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t room = images[1 + axis] + padding[2 * axis] + padding[2 * axis + 1] - window;
    if (room < 0 || results[1 + axis] != room / stride + 1)
      return wrong("the images out must have the sides that the images in, window, stride and padding give");
  }
  const Geometry geometry = {images[3], Axis(images[1], results[1], window, stride, padding[0]),
                             Axis(images[2], results[2], window, stride, padding[2])};
  const int64_t rows = to_images ? images[1] : results[1];
  ParallelFor(images[0] * rows, threads, [&](int64_t number) { row(geometry, number / rows, number % rows); });
  return ffi::Error::Success();
}

bool Equal(ffi::Span<const int64_t> a, ffi::Span<const int64_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

ffi::Error PlacesDiffer() {
  return ffi::Error::InvalidArgument("jaxdl_native pooling: there must be a place for each number of the images out");
}

ffi::Error Max(Images images, ffi::Result<Images> best, ffi::Result<Places> places, int64_t window, int64_t stride,
               Integers padding, int64_t threads) {
  if (!Equal(best->dimensions(), places->dimensions())) return PlacesDiffer();
  const float* from = images.typed_data();
  float* to = best->typed_data();
  uint8_t* places_to = places->typed_data();
  return Run(images.dimensions(), best->dimensions(), false, from && to && places_to, window, stride, padding, threads,
             [=](const Geometry& g, int64_t image, int64_t row) {
               const int64_t start = g.Window(image * g.rows.windows + row, 0);
               Rows().max(g, row, from + g.Pixel(image * g.rows.side, 0), to + start, places_to + start);
             });
}

ffi::Error Pick(Images images, Places places, ffi::Result<Images> picked, int64_t window, int64_t stride,
                Integers padding, int64_t threads) {
  if (!Equal(picked->dimensions(), places.dimensions())) return PlacesDiffer();
  const float* from = images.typed_data();
  const uint8_t* places_from = places.typed_data();
  float* to = picked->typed_data();
  return Run(images.dimensions(), picked->dimensions(), false, from && to && places_from, window, stride, padding,
             threads, [=](const Geometry& g, int64_t image, int64_t row) {
               const int64_t start = g.Window(image * g.rows.windows + row, 0);
               Rows().pick(g, row, from + g.Pixel(image * g.rows.side, 0), places_from + start, to + start);
             });
}

ffi::Error Place(Images values, Places places, ffi::Result<Images> images, int64_t window, int64_t stride,
                 Integers padding, int64_t threads) {
  if (!Equal(values.dimensions(), places.dimensions())) return PlacesDiffer();
  const float* from = values.typed_data();
  const uint8_t* places_from = places.typed_data();
  float* to = images->typed_data();
  PreferHugePages(to, images->size_bytes());
  return Run(images->dimensions(), values.dimensions(), true, from && to && places_from, window, stride, padding,
             threads, [=](const Geometry& g, int64_t image, int64_t row) {
               const int64_t start = g.Window(image * g.rows.windows, 0);
               Rows().place(g, row, from + start, places_from + start,
                        to + g.Pixel(image * g.rows.side + row, 0));
             });
}

ffi::Error Mean(Images images, ffi::Result<Images> means, int64_t window, int64_t stride, Integers padding,
                int64_t threads) {
  const float* from = images.typed_data();
  float* to = means->typed_data();
  return Run(images.dimensions(), means->dimensions(), false, from && to, window, stride, padding, threads,
             [=](const Geometry& g, int64_t image, int64_t row) {
               Rows().mean(g, row, from + g.Pixel(image * g.rows.side, 0), to + g.Window(image * g.rows.windows + row, 0));
             });
}

ffi::Error Spread(Images values, ffi::Result<Images> images, int64_t window, int64_t stride, Integers padding,
                  int64_t threads) {
  const float* from = values.typed_data();
  float* to = images->typed_data();
  PreferHugePages(to, images->size_bytes());
  return Run(images->dimensions(), values.dimensions(), true, from && to, window, stride, padding, threads,
             [=](const Geometry& g, int64_t image, int64_t row) {
               Rows().spread(g, row, from + g.Window(image * g.rows.windows, 0),
                         to + g.Pixel(image * g.rows.side + row, 0));
             });
}

}  // namespace
}  // namespace jaxdl

#define JAXDL_EXPORT(name, function, buffers)                                                        \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name(XLA_FFI_CallFrame* frame) {  \
    static auto* handler = ffi::Ffi::Bind()                                                          \
                               buffers                                                               \
                               .Attr<int64_t>("window")                                              \
                               .Attr<int64_t>("stride")                                              \
                               .Attr<ffi::Span<const int64_t>>("padding")                            \
                               .Attr<int64_t>("threads")                                             \
                               .To(function)                                                         \
                               .release();                                                           \
    return handler->Call(frame);                                                                     \
  }

#define JAXDL_IMAGES ffi::Buffer<ffi::F32, 4>
#define JAXDL_PLACES ffi::Buffer<ffi::U8, 4>
JAXDL_EXPORT(jaxdl_max_pool, jaxdl::Max, .Arg<JAXDL_IMAGES>().Ret<JAXDL_IMAGES>().Ret<JAXDL_PLACES>())
JAXDL_EXPORT(jaxdl_max_pool_pick, jaxdl::Pick, .Arg<JAXDL_IMAGES>().Arg<JAXDL_PLACES>().Ret<JAXDL_IMAGES>())
JAXDL_EXPORT(jaxdl_max_pool_place, jaxdl::Place, .Arg<JAXDL_IMAGES>().Arg<JAXDL_PLACES>().Ret<JAXDL_IMAGES>())
JAXDL_EXPORT(jaxdl_avg_pool, jaxdl::Mean, .Arg<JAXDL_IMAGES>().Ret<JAXDL_IMAGES>())
JAXDL_EXPORT(jaxdl_avg_pool_spread, jaxdl::Spread, .Arg<JAXDL_IMAGES>().Ret<JAXDL_IMAGES>())

// 2-D convolutions of float32 by oneDNN, and their two gradients, as functions that XLA calls on the CPU.
//
// Images are [batch, height, width, channels], kernels [height, width, channels in / groups, channels out], in the
// order of their axes in memory. oneDNN computes on images as they are. Kernels are small: they are copied to the
// layout that oneDNN prefers, at every call.

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

#include "lru_cache.h"
#include "parallel.h"

namespace ffi = xla::ffi;
using dnnl::memory;

namespace jaxdl {
namespace {

constexpr size_t kKeptPrimitives = 512;  // of some 100 kB each: a ResNet-152 has fewer different convolutions

using Images = ffi::Buffer<ffi::F32, 4>;
using Kernel = ffi::Buffer<ffi::F32, 4>;
using Integers = ffi::Span<const int64_t>;

enum class Kind : int64_t { kForward, kInputGradient, kWeightGradient };

// One convolution: its shapes and settings.
struct Geometry {
  Kind kind;
  int64_t batch, height, width, channels;      // images in
  int64_t window_height, window_width;         // kernel
  int64_t out_height, out_width, features;     // images out
  int64_t stride[2], before[2], dilation[2];   // of rows and columns
  int64_t groups, threads;

  std::vector<int64_t> key() const {
    return {static_cast<int64_t>(kind), batch, height, width, channels, window_height, window_width, out_height,
            out_width, features, stride[0], stride[1], before[0], before[1], dilation[0], dilation[1], groups, threads};
  }
};

// What oneDNN needs for one convolution. Its functions may be called by several threads at once.
struct Convolution {
  dnnl::primitive primitive;
  dnnl::reorder reorder;  // of the kernel: to the preferred layout, or back from it for its gradient
  memory::desc images, kernel, results, preferred_kernel, scratch, reorder_scratch;
  bool reorders = false;
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Memory that a thread keeps between calls, as large as its largest use.
class Workspace {
 public:
  ~Workspace() { std::free(data_); }

  void* AtLeast(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = 0;
      data_ = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = bytes;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// While it lives, oneDNN takes so many threads for what this thread asks of it. It waits for ever for threads that OpenMP
// does not give: so they are fewer where the environment limits them, and OpenMP may not choose their number itself.
class Threads {
 public:
#ifdef _OPENMP
  explicit Threads(int64_t wanted) : before_(omp_get_max_threads()), dynamic_(omp_get_dynamic()) {
    const bool alone = omp_get_max_active_levels() < 1 || omp_in_parallel();
    count_ = alone ? 1 : std::min<int64_t>(wanted, omp_get_thread_limit());
    omp_set_dynamic(0);
    omp_set_num_threads(static_cast<int>(count_));
  }
  ~Threads() {
    omp_set_num_threads(before_);
    omp_set_dynamic(dynamic_);
  }

 private:
  int before_, dynamic_;
#else
  explicit Threads(int64_t wanted) : count_(wanted) {}
#endif

 public:
  int64_t count() const { return count_; }

 private:
  int64_t count_;
};

// A process is forked while no other thread holds the lock: in the child nobody would open it.
std::mutex cache_mutex;
void Lock() { cache_mutex.lock(); }
void Unlock() { cache_mutex.unlock(); }
const int registered = pthread_atfork(Lock, Unlock, Unlock);

// The description of a gradient. The order of its arguments changed in oneDNN 3.
template <typename Gradient, typename... Settings>
typename Gradient::primitive_desc Describe(const dnnl::convolution_forward::primitive_desc& forward,
                                           const dnnl::primitive_attr& attributes, const Settings&... settings) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Gradient::primitive_desc(Engine(), settings..., forward, attributes);
#else
  return typename Gradient::primitive_desc({settings...}, attributes, Engine(), forward);
#endif
}

std::shared_ptr<Convolution> Create(const Geometry& g) {
  using tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  const int64_t per_group = g.channels / g.groups, features_per_group = g.features / g.groups;
  const memory::desc images({g.batch, g.channels, g.height, g.width}, f32, tag::nhwc);
  const memory::desc results({g.batch, g.features, g.out_height, g.out_width}, f32, tag::nhwc);
  // As oneDNN counts, the axes of a kernel are [groups,] channels out, channels in, height, width.
  const int64_t row = per_group * g.features;
  memory::dims shape = {features_per_group, per_group, g.window_height, g.window_width};
  memory::dims steps = {1, g.features, g.window_width * row, row};
  if (g.groups > 1) {
    shape.insert(shape.begin(), g.groups);
    steps.insert(steps.begin(), features_per_group);
  }
  const memory::desc kernel(shape, f32, steps), preferred(shape, f32, tag::any);

  const memory::dims strides = {g.stride[0], g.stride[1]}, dilation = {g.dilation[0] - 1, g.dilation[1] - 1};
  const memory::dims before = {g.before[0], g.before[1]};
  // Below zero where the last rows or columns are under no window.
  const memory::dims after = {
      (g.out_height - 1) * g.stride[0] + (g.window_height - 1) * g.dilation[0] + 1 - g.height - g.before[0],
      (g.out_width - 1) * g.stride[1] + (g.window_width - 1) * g.dilation[1] + 1 - g.width - g.before[1]};

  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  constexpr auto training = dnnl::prop_kind::forward_training;
  const dnnl::engine& engine = Engine();
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::convolution_forward::primitive_desc forward(
      engine, training, direct, images, preferred, results, strides, dilation, before, after, attributes);
#else
  const dnnl::convolution_forward::primitive_desc forward(
      {training, direct, images, preferred, results, strides, dilation, before, after}, attributes, engine);
#endif

  auto made = std::make_shared<Convolution>();
  made->images = images, made->kernel = kernel, made->results = results;
  auto take = [&](dnnl::primitive primitive, const dnnl::primitive_desc& description, memory::desc kernel_used) {
    made->primitive = std::move(primitive);
    made->scratch = description.scratchpad_desc();
    made->preferred_kernel = kernel_used;
  };
  if (g.kind == Kind::kForward) {
    take(dnnl::convolution_forward(forward), forward, forward.weights_desc());
  } else if (g.kind == Kind::kInputGradient) {
    const auto backward = Describe<dnnl::convolution_backward_data>(
        forward, attributes, direct, images, preferred, results, strides, dilation, before, after);
    take(dnnl::convolution_backward_data(backward), backward, backward.weights_desc());
  } else {
    const auto backward = Describe<dnnl::convolution_backward_weights>(
        forward, attributes, direct, images, preferred, results, strides, dilation, before, after);
    take(dnnl::convolution_backward_weights(backward), backward, backward.diff_weights_desc());
  }
  if (made->preferred_kernel != kernel) {
    const bool back = g.kind == Kind::kWeightGradient;
    const dnnl::reorder::primitive_desc copy(engine, back ? made->preferred_kernel : kernel, engine,
                                             back ? kernel : made->preferred_kernel, attributes);
    made->reorder = dnnl::reorder(copy);
    made->reorder_scratch = copy.scratchpad_desc();
    made->reorders = true;
  }
  return made;
}

std::shared_ptr<Convolution> Find(const Geometry& geometry) {
  static auto& cache = *new LruCache<std::vector<int64_t>, Convolution>(kKeptPrimitives);
  const std::vector<int64_t> key = geometry.key();
  {
    const std::lock_guard<std::mutex> lock(cache_mutex);
    if (auto found = cache.Find(key)) return found;
  }
  auto made = Create(geometry);
  const std::lock_guard<std::mutex> lock(cache_mutex);
  if (auto found = cache.Find(key)) return found;  // another thread was faster
  cache.Insert(key, made);
  return made;
}

void Execute(Geometry geometry, float* images, float* kernel, float* results) {
  const Threads threads(Forked() ? 1 : geometry.threads);
  geometry.threads = threads.count();
  const std::shared_ptr<Convolution> found = Find(geometry);
  const Convolution& convolution = *found;
  static thread_local dnnl::stream stream(Engine());
  static thread_local Workspace kernel_space, scratch_space, reorder_space;
  auto held = [](const memory::desc& description, void* data) { return memory(description, Engine(), data); };

  const memory given = held(convolution.kernel, kernel);
  const memory used = convolution.reorders
      ? held(convolution.preferred_kernel, kernel_space.AtLeast(convolution.preferred_kernel.get_size()))
      : given;
  const memory scratch = held(convolution.scratch, scratch_space.AtLeast(convolution.scratch.get_size()));
  const memory reorder_scratch =
      held(convolution.reorder_scratch, reorder_space.AtLeast(convolution.reorder_scratch.get_size()));
  if (geometry.kind == Kind::kForward) PreferHugePages(results, convolution.results.get_size());
  if (geometry.kind == Kind::kInputGradient) PreferHugePages(images, convolution.images.get_size());
  const memory in = held(convolution.images, images), out = held(convolution.results, results);
  auto reorder = [&](const memory& from, const memory& to) {
    if (!convolution.reorders) return;
    convolution.reorder.execute(stream,
                                {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder_scratch}});
  };
  switch (geometry.kind) {
    case Kind::kForward:
      reorder(given, used);
      convolution.primitive.execute(stream, {{DNNL_ARG_SRC, in}, {DNNL_ARG_WEIGHTS, used}, {DNNL_ARG_DST, out},
                                             {DNNL_ARG_SCRATCHPAD, scratch}});
      break;
    case Kind::kInputGradient:
      reorder(given, used);
      convolution.primitive.execute(stream, {{DNNL_ARG_DIFF_SRC, in}, {DNNL_ARG_WEIGHTS, used},
                                             {DNNL_ARG_DIFF_DST, out}, {DNNL_ARG_SCRATCHPAD, scratch}});
      break;
    case Kind::kWeightGradient:
      convolution.primitive.execute(stream, {{DNNL_ARG_SRC, in}, {DNNL_ARG_DIFF_WEIGHTS, used},
                                             {DNNL_ARG_DIFF_DST, out}, {DNNL_ARG_SCRATCHPAD, scratch}});
      reorder(used, given);
      break;
  }
  stream.wait();
}

// Checks all that comes from Python, then computes.
ffi::Error Run(Kind kind, ffi::Span<const int64_t> images_shape, ffi::Span<const int64_t> kernel_shape,
               ffi::Span<const int64_t> results_shape, float* images, float* kernel, float* results, Integers strides,
               Integers padding, Integers dilation, int64_t groups, int64_t threads) {
  auto wrong = [](const std::string& what) { return ffi::Error::InvalidArgument("jaxdl_native convolution: " + what); };
  if (strides.size() != 2 || dilation.size() != 2 || padding.size() != 4)
    return wrong("strides and dilation must have 2 numbers, padding 4");
  for (size_t axis = 0; axis < 2; ++axis)
    if (strides[axis] < 1 || dilation[axis] < 1) return wrong("strides and dilation must be at least 1");
  for (int64_t pad : padding)
    if (pad < 0) return wrong("padding must be at least 0");
  for (const auto& shape : {images_shape, kernel_shape, results_shape})
    for (int64_t side : shape)
      if (side < 1 || side > INT32_MAX) return wrong("every axis must have between 1 and 2^31 - 1 elements");
  for (int64_t number : {strides[0], strides[1], dilation[0], dilation[1], padding[0], padding[1], padding[2],
                         padding[3]})
    if (number > INT32_MAX / 4) return wrong("strides, dilation and padding must be below 2^29");
  if (threads < 1 || threads > 4096) return wrong("threads must be between 1 and 4096");
  if (images == nullptr || kernel == nullptr || results == nullptr) return wrong("a buffer has no memory");

  const Geometry g = {kind, images_shape[0], images_shape[1], images_shape[2], images_shape[3], kernel_shape[0],
                      kernel_shape[1], results_shape[1], results_shape[2], results_shape[3],
                      {strides[0], strides[1]}, {padding[0], padding[2]}, {dilation[0], dilation[1]}, groups, threads};
  if (results_shape[0] != g.batch) return wrong("the images in and out must be as many");
  if (groups < 1 || g.channels % groups != 0 || g.features % groups != 0)
    return wrong("groups must divide the channels in and out");
  if (kernel_shape[2] != g.channels / groups || kernel_shape[3] != g.features)
    return wrong("the kernel's channels must be those of the images in, by groups, and of the images out");
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t covered = (kernel_shape[axis] - 1) * dilation[axis] + 1;
    const int64_t room = images_shape[1 + axis] + padding[2 * axis] + padding[2 * axis + 1] - covered;
    if (room < 0 || results_shape[1 + axis] != room / strides[axis] + 1)
      return wrong("the images out must have the sides that the images in, window, strides and padding give");
  }
  try {
    Execute(g, images, kernel, results);
  } catch (const std::exception& error) {  // of oneDNN, or no memory
    return ffi::Error::Internal(std::string("jaxdl_native convolution: ") + error.what());
  }
  return ffi::Error::Success();
}

float* Given(const ffi::Buffer<ffi::F32, 4>& buffer) { return const_cast<float*>(buffer.typed_data()); }

ffi::Error Forward(Images images, Kernel kernel, ffi::Result<Images> results, Integers strides, Integers padding,
                   Integers dilation, int64_t groups, int64_t threads) {
  return Run(Kind::kForward, images.dimensions(), kernel.dimensions(), results->dimensions(), Given(images),
             Given(kernel), results->typed_data(), strides, padding, dilation, groups, threads);
}

ffi::Error InputGradient(Images cotangent, Kernel kernel, ffi::Result<Images> gradient, Integers strides,
                         Integers padding, Integers dilation, int64_t groups, int64_t threads) {
  return Run(Kind::kInputGradient, gradient->dimensions(), kernel.dimensions(), cotangent.dimensions(),
             gradient->typed_data(), Given(kernel), Given(cotangent), strides, padding, dilation, groups, threads);
}

ffi::Error WeightGradient(Images images, Images cotangent, ffi::Result<Kernel> gradient, Integers strides,
                          Integers padding, Integers dilation, int64_t groups, int64_t threads) {
  return Run(Kind::kWeightGradient, images.dimensions(), gradient->dimensions(), cotangent.dimensions(), Given(images),
             gradient->typed_data(), Given(cotangent), strides, padding, dilation, groups, threads);
}

}  // namespace
}  // namespace jaxdl

#define JAXDL_EXPORT(name, function)                                                                  \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name(XLA_FFI_CallFrame* frame) {   \
    static auto* handler = ffi::Ffi::Bind()                                                           \
                               .Arg<ffi::Buffer<ffi::F32, 4>>()                                       \
                               .Arg<ffi::Buffer<ffi::F32, 4>>()                                       \
                               .Ret<ffi::Buffer<ffi::F32, 4>>()                                       \
                               .Attr<ffi::Span<const int64_t>>("strides")                             \
                               .Attr<ffi::Span<const int64_t>>("padding")                             \
                               .Attr<ffi::Span<const int64_t>>("dilation")                            \
                               .Attr<int64_t>("groups")                                               \
                               .Attr<int64_t>("threads")                                              \
                               .To(function)                                                          \
                               .release();                                                            \
    return handler->Call(frame);                                                                      \
  }

JAXDL_EXPORT(jaxdl_convolution, jaxdl::Forward)
JAXDL_EXPORT(jaxdl_convolution_input_gradient, jaxdl::InputGradient)
JAXDL_EXPORT(jaxdl_convolution_weight_gradient, jaxdl::WeightGradient)

extern "C" __attribute__((visibility("default"))) const char* jaxdl_onednn_version() {
  static const std::string version = [] {
    const dnnl_version_t* found = dnnl_version();
    return std::to_string(found->major) + "." + std::to_string(found->minor) + "." + std::to_string(found->patch);
  }();
  return version.c_str();
}

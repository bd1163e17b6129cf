// Loops over several threads, and the memory that they write.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jaxdl {

// Whether this process was forked: it has none of the threads of its parent, and OpenMP would wait for them for ever.
bool Forked();

// Asks the kernel to back memory that is about to be written by pages of 2 MB, where it has any. XLA may take the memory
// of a step anew for every step, and to bring it in by pages of 4 kB takes 512 times as many page faults.
void PreferHugePages(void* data, size_t bytes);

// Calls f(0), ..., f(count - 1), neighbours by the same thread. f throws nothing.
template <typename F>
void ParallelFor(int64_t count, int64_t threads, const F& f) {
  const int used = Forked() ? 1 : static_cast<int>(threads < count ? threads : count);
#pragma omp parallel for num_threads(used) schedule(static)
  for (int64_t number = 0; number < count; ++number) f(number);
  (void)used;
}

}  // namespace jaxdl

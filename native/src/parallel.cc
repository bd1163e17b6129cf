#include "parallel.h"

#include <pthread.h>
#include <sys/mman.h>

namespace jaxdl {
namespace {

bool forked = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

bool Forked() { return forked; }

void PreferHugePages(void* data, size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t huge = uintptr_t{1} << 21;
  const uintptr_t from = (reinterpret_cast<uintptr_t>(data) + huge - 1) & ~(huge - 1);
  const uintptr_t to = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(huge - 1);
  if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace jaxdl

// How the process handles memory that was freed.
#include <climits>  // defines __GLIBC__ where that is the C library
#ifdef __GLIBC__
#include <malloc.h>
#endif

// Keeps what is freed for the next use. Otherwise the C library gives large blocks back to the kernel at once: XLA frees
// the memory of a step at its end, and bringing its pages in anew took a quarter of a ResNet-20 step. Threads made from
// now on share one heap, the only one that can hold large blocks. Returns whether the C library took the settings.
extern "C" __attribute__((visibility("default"))) int jaxdl_keep_freed_memory() {
#ifdef __GLIBC__
  return mallopt(M_ARENA_MAX, 1) && mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, INT_MAX) &&
         mallopt(M_TOP_PAD, 1 << 26);
#else
  return 0;
#endif
}

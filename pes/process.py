"""What a process that computes sets once: BLAS threads, and what the allocator does with freed memory."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # glibc's malloc.h


@functools.lru_cache(maxsize=1)
def prepare_process() -> None:
    """Prepare this process for array work, once.

    BLAS gets one thread: workers are the parallelism, and more threads would split products and change their bits.
    Where the C library is glibc, freed arrays stay with the process: else every large temporary is returned to the
    system and its pages are zeroed again, ten times as many page faults in all. Threads that are to share in this
    must start afterwards.
    """
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, "blas")
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        library.mallopt(M_TOP_PAD, 64 << 20)
        library.mallopt(M_ARENA_MAX, 1)

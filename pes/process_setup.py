"""Settings of a computing process: the number of BLAS threads, and how the allocator treats freed memory."""

from __future__ import annotations

import ctypes
import functools

LARGE = 384  # rows and columns of a product that uses the whole buffer of OpenBLAS
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # glibc's malloc.h


@functools.lru_cache(maxsize=1)
def prepare_process() -> None:
    """Prepare this process for array work, once.

    BLAS gets one thread. The workers already run in parallel, and more BLAS threads would split products and change
    their bits. With glibc, freed arrays stay with the process. Otherwise every large temporary array goes back to the
    system and its pages are zeroed again, which makes ten times as many page faults. Call this before starting
    threads, because earlier threads do not get these settings.
    """
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, "blas")
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        library.mallopt(M_TOP_PAD, 64 << 20)
        library.mallopt(M_ARENA_MAX, 1)  # one arena, so that a thread can reuse memory that another has freed


def touch_product_buffer() -> None:
    """Use the whole buffer that OpenBLAS keeps for products in this thread, which takes some milliseconds.

    OpenBLAS prefetches beyond the part that small products use. On virtual machines, where nobody ever wrote to these
    pages, that makes products up to four times slower.
    """
    import numpy as np

    touched = np.ones((LARGE, LARGE), np.float32)
    np.matmul(touched, touched)

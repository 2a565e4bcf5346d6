"""Calls in a thread that nobody has to wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], seconds: float | None = None) -> T:
    """Return the result of a call in a thread of its own, or raise its error.

    A program that ends does not wait for the thread, as it does for those of an executor.

    Raises:
        TimeoutError: if it takes longer.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # so that a result that comes too late finds it open

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result.result(seconds)

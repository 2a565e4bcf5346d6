"""A progress bar where it is asked for; tqdm is imported here alone, and only then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], object]


def unseen(count: int) -> None:
    """Show nothing of `count` steps done."""


@contextmanager
def progress_bar(shown: bool, total: int, label: str) -> Iterator[Advance]:
    """Yield what is to be called with each number of steps done, of `total`."""
    if not shown:
        yield unseen
        return
    try:
        from tqdm import tqdm
    except ImportError:
        raise ValueError(
            "progress: expected the package tqdm to be installed (pip install tqdm), got none"
        ) from None
    with tqdm(total=total, desc=label, unit="step") as bar:
        yield bar.update

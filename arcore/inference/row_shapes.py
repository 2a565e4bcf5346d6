"""Shapes that callers may give rows in.

Example:
    >>> import torch
    >>> from arcore.events import Binary
    >>> [tuple(in_shape(torch.zeros(shape), Binary((1, 8, 9))).shape)
    ...  for shape in [(5, 72), (5, 8, 9), (5, 8, 9, 1), (5, 9, 8)]]
    [(5, 1, 8, 9), (5, 1, 8, 9), (5, 1, 8, 9), (5, 9, 8)]
"""

from typing import Any, TypeVar

from arcore.events import Event

Rows = TypeVar("Rows")


def in_shape(x: Rows, event: Event) -> Rows:
    """View rows, a tensor or an array, in an event's shape.

    Rows may be flat, and images or clips may lack their channel axis of 1, or have it last. Rows of
    another shape come back as they are, for `Event.check` to refuse.
    """
    given: Any = x
    rows: tuple[int, ...] = tuple(given.shape)[1:]
    if event.is_open or given.ndim < 2 or rows == event.shape:
        return x
    shape = event.extents
    has_channels = len(shape) > 2
    lacks_channel = has_channels and shape[-3] == 1 and rows == (*shape[:-3], *shape[-2:])
    if rows == (event.size,) or lacks_channel:
        given = given.reshape(len(given), *shape)
    elif has_channels and rows == (*shape[:-3], *shape[-2:], shape[-3]):
        given = given.swapaxes(-1, -3).swapaxes(-1, -2)
    return given  # type: ignore[no-any-return]

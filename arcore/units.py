"""Nats to bits/dim and back: the one place where units are converted."""

import math

from arcore.events import Event, Number

UNITS = ("nats", "bits_per_dim", "nats_per_frame", "nats_per_dim")


def nats_to(
    unit: str, nats: Number, event: Event, *, difference: bool = False, size: float | None = None
) -> Number:
    """Convert nats per event to a unit; only this module converts units.

    Arguments:
        unit: nats (per event), nats_per_frame (of a clip, or of steps (T, ...): nats / T),
            nats_per_dim (nats / D), or bits_per_dim, see `nats_to_bits_per_dim`.
        nats: per event.
        event: what was scored.
        difference: `nats` is a difference or a standard error, which bins do not shift.
        size: D of an event of open length, as in `nats_to_bits_per_dim`.

    Example:
        >>> from arcore.events import Binary, Gray
        >>> nats_to("nats_per_frame", 863.0, Gray((10, 1, 64, 64)))
        86.3
        >>> nats_to("nats_per_frame", 50.0, Binary((None, 88)), size=10 * 88)
        5.0
    """
    if unit == "bits_per_dim":
        return nats_to_bits_per_dim(nats, event, difference=difference, size=size)
    return nats / _parts(unit, event, size)


def to_nats(unit: str, value: Number, event: Event) -> Number:
    """Convert a value in a unit to nats per event, the inverse of `nats_to`."""
    if unit == "bits_per_dim":
        return bits_per_dim_to_nats(value, event)
    return value * _parts(unit, event)


def _parts(unit: str, event: Event, size: float | None = None) -> float:
    if unit not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, got {unit!r}")
    if unit == "nats":
        return 1
    dims = event.size if size is None else size
    if unit == "nats_per_dim":
        return dims
    if len(event.shape) != 4 and not event.is_open:
        expected = "nats_per_frame for clips (T, C, H, W) or events of open length"
        raise ValueError(f"unit: expected {expected}, got {event}")
    return dims / event.size_of_step


def nats_to_bits_per_dim(
    nats: Number, event: Event, *, difference: bool = False, size: float | None = None
) -> Number:
    """Convert nats per event to bits per dimension: nats / (D ln 2) - log2(bin_width).

    D counts sub-pixels; only a dequantised `Real` event has a bin width, which turns its density
    into a bound on bits of the levels.

    Arguments:
        nats: of one event or of many.
        event: what was scored.
        difference: whether `nats` is a difference or an error, which a bin width does not shift.
        size: D of an event of open length; of a mean over such events, their mean length.

    Example:
        >>> from arcore.events import Levels, Real
        >>> round(nats_to_bits_per_dim(64 * math.log(256), Levels(256, (1, 8, 8))), 6)
        8.0
        >>> nats_to_bits_per_dim(0.0, Real((2,), bin_width=1 / 16))  # uniform on [0, 1)
        4.0
    """
    dims = event.size if size is None else size
    return nats / (dims * math.log(2)) - (0.0 if difference else _bin_bits(event))


def bits_per_dim_to_nats(bits: Number, event: Event) -> Number:
    """Convert bits per dimension to nats per event: (bits + log2(bin_width)) D ln 2."""
    return (bits + _bin_bits(event)) * (event.size * math.log(2))


def _bin_bits(event: Event) -> float:
    return 0.0 if event.bin_width is None else math.log2(event.bin_width)

"""How many rows are coded side by side: each has a probability for every level of every step."""

from collections.abc import Iterator, Sequence

from arcore.events import Levels
from arcore.primitives.checks import require

CHUNK_DIMENSIONS = 1 << 22
LONGEST = 1 << 21  # steps of a row
USUAL_ROWS = 256
USUAL_ENTRIES = 1 << 24
MOST_ROWS = 1 << 16
MOST_ENTRIES = 1 << 29  # probabilities, which are kept until they are coded: 4 GiB


def usual(event: Levels, lengths: Sequence[int] | None) -> int:
    """Return how many rows to code side by side: 128 MiB of probabilities, of mean length."""
    mean = event.size if lengths is None else sum(lengths) // len(lengths)
    batch = min(USUAL_ROWS, max(1, USUAL_ENTRIES // (mean * event.num_levels)))
    while batch > 1 and event.num_levels * at_once(event.size, lengths, batch) > MOST_ENTRIES:
        batch //= 2
    return batch


def check_steps(name: str, extents: Sequence[int]) -> None:
    """Refuse rows of more steps than are coded."""
    require(max(extents) <= LONGEST, name, f"at most {LONGEST:,} steps", tuple(extents))


def check(names: tuple[str, str], batch: int, event: Levels, lengths: Sequence[int] | None) -> None:
    """Refuse a row, or rows side by side, that memory does not hold, naming which."""
    row = event.num_levels * (event.size if lengths is None else max(lengths))
    expected = f"rows of at most {MOST_ENTRIES:,} probabilities"
    require(row <= MOST_ENTRIES, names[0], expected, f"{row:,}")
    coded = event.num_levels * at_once(event.size, lengths, batch)
    fits = batch <= MOST_ROWS and max(coded, batch * event.size) <= MOST_ENTRIES
    expected = f"at most {MOST_ROWS:,} rows side by side, of {MOST_ENTRIES:,} probabilities in all"
    require(fits, names[1], expected, f"{batch:,}, of {coded:,}")


def at_once(size: int, lengths: Sequence[int] | None, batch: int) -> int:
    """Return the dimensions that are coded of the largest batch."""
    if lengths is None:
        return size * batch
    return max(sum(lengths[first : first + batch]) for first in range(0, len(lengths), batch))


def chunks(count: int, batch: int, size: int) -> Iterator[list[slice]]:
    """Cut rows into batches, and these into chunks of about `CHUNK_DIMENSIONS`."""
    rows = rows_of_chunk(batch, size)
    for first in range(0, count, rows):
        end = min(first + rows, count)
        yield [slice(start, min(start + batch, end)) for start in range(first, end, batch)]


def rows_of_chunk(batch: int, size: int) -> int:
    """Return the rows of a chunk, a whole number of batches."""
    return batch * max(1, CHUNK_DIMENSIONS // (batch * size))

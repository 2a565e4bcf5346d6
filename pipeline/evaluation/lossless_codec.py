"""Lossless codecs as baselines: the one runner for images, clips and sounds.

Each row is coded alone, as a file or stream of its own, and all rows as one. All bytes count,
headers too (which is most of what tiny images cost). Coded as one, a codec pays for one header and
learns from the rows before. Whatever is coded is decoded again and compared.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from arcore.events import Event, Levels, after_frames
from pipeline.core.errors import UserError, one_line
from pipeline.core.threads import on_all_cores
from pipeline.evaluation.result_records import CodecResult, Score

NATS_PER_BYTE = 8 * math.log(2)
TENTHS = 10  # parts of the rows, of which a codec that codes all together has its error
MISSING = (ImportError, NotImplementedError, KeyError, OSError, ValueError)


@dataclass(frozen=True, kw_only=True)
class LosslessCodec:
    """A lossless codec of arrays of uint8 levels.

    Arguments:
        label, settings: as tables print them.
        encode, decode: from an array and its event to the parts of a file or stream, and back. Of
            clips the parts are what the stream begins with, and a packet for each frame.
        alone: whether each row is coded by itself.
        together: whether all rows are coded as one.
        longest: side of a picture that it can code; 0 for any.
        applies: to events of which it can code rows.
    """

    label: str
    settings: str
    encode: Callable[[np.ndarray, Levels], Sequence[bytes]]
    decode: Callable[[Sequence[bytes], Levels], np.ndarray]
    alone: bool = True
    together: bool = True
    longest: int = 0
    applies: Callable[[Levels], bool] = lambda event: True

    def holds(self, side: int) -> bool:
        """Whether it can code a picture whose longer side has so many pixels."""
        return not 0 < self.longest < side

    def sizes(self, x: np.ndarray, num_levels: int, what: str) -> list[int]:
        """Return the bytes of each part of a coded array; `what` names it in an error."""
        event = Levels(num_levels, x.shape)
        parts = self.encode(x, event)
        if not np.array_equal(self.decode(parts, event), x):
            raise RuntimeError(f"{self.label}: {what} did not come back as it was")
        return [len(part) for part in parts]

    def sizes_alone(
        self, rows: Iterable[np.ndarray], num_levels: int, given: int = 0
    ) -> np.ndarray:
        """Return the bytes of each row, coded by itself, without the packets of given frames."""

        def size(numbered: tuple[int, np.ndarray]) -> list[int]:
            number, x = numbered
            return self.sizes(x, num_levels, f"test row {number}")

        sizes = on_all_cores(size, enumerate(rows))
        return np.array([first + sum(packets[given:]) for first, *packets in sizes])

    def measure(self, rows: Iterable[np.ndarray], event: Levels, given: int = 0) -> CodecResult:
        """Code each row alone; `given` frames at the beginning of clips are not counted."""
        sizes = self.sizes_alone(rows, event.num_levels, given)
        return self.result(int(sizes.sum()), len(sizes), sizes, after_frames(event, given))

    def result(
        self, total: int, num_rows: int, parts: np.ndarray, event: Event, joined: str = ""
    ) -> CodecResult:
        """Return what the codec needs, in nats, of the bytes of all rows.

        The error is of `parts`: bytes of single rows, or the mean in each of several parts.
        """
        label = self.label.replace(" (", f" as one {joined} (", 1) if joined else self.label
        error = float(parts.std(ddof=1)) / math.sqrt(len(parts)) * NATS_PER_BYTE
        score = Score.from_nats(total / num_rows * NATS_PER_BYTE, error, event)
        return CodecResult(
            label=label, settings=self.settings, num_rows=num_rows, bytes=total, score=score
        )


def in_tenths(rows: np.ndarray) -> list[np.ndarray]:
    """Part rows into ten as they follow each other."""
    return np.array_split(rows, min(TENTHS, len(rows)))


def require_working(codecs: Iterable[LosslessCodec], row: np.ndarray, num_levels: int) -> None:
    """Refuse a codec that the installed libraries lack, before hours of others."""
    for codec in codecs:
        try:
            codec.encode(row, Levels(num_levels, row.shape))
        except MISSING as error:
            raise UserError(
                f"{codec.label}: expected a library that has the codec, got {one_line(error)}; "
                "install its wheel from PyPI"
            ) from None


def measure_all(
    codecs: Iterable[LosslessCodec],
    rows: np.ndarray,
    event: Levels,
    together: Callable[[LosslessCodec], CodecResult],
    side: int,
    given: int = 0,
) -> list[CodecResult]:
    """Code rows (N, ..., H, W) uint8, N > 1, by every codec: each alone, then all together.

    Arguments:
        codecs: those of other events, or of smaller pictures, are left out.
        together: measures a codec on all rows as one picture or stream.
        side: the longer one of that picture.
        given: frames at the beginning of each clip, which are not counted.
    """
    found = [one for one in codecs if one.applies(event) and one.holds(max(rows.shape[-2:]))]
    require_working(found, rows[0], event.num_levels)
    alone = [codec.measure(rows, event, given) for codec in found if codec.alone]
    return alone + [together(one) for one in found if one.together and one.holds(side)]

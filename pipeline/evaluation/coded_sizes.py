"""The result of a codec, from the bytes that it needs."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from arcore.events import Event
from pipeline.evaluation.result_records import CodecResult, Score

TENTHS = 10
NATS_PER_BYTE = 8 * math.log(2)


class LabelledCodec(Protocol):
    """A codec with its words for tables."""

    @property
    def label(self) -> str:
        """Its name in tables, which says that it was measured here."""

    @property
    def settings(self) -> str:
        """Its settings, in words."""


def codec_result(
    codec: LabelledCodec,
    total: int,
    num_rows: int,
    bytes_per_row: np.ndarray,
    event: Event,
    as_one: str = "",
) -> CodecResult:
    """Return what a codec needs, in nats.

    Arguments:
        codec: of `CODECS` of images or of clips.
        total: bytes of all rows.
        num_rows: how many those are.
        bytes_per_row: of single rows, or the mean in each of several parts; the error is theirs.
        event: what is counted of a row.
        as_one: what all rows were coded as together; "" where each was coded alone.
    """
    error = float(bytes_per_row.std(ddof=1)) / math.sqrt(len(bytes_per_row))
    nats, nats_error = total / num_rows * NATS_PER_BYTE, error * NATS_PER_BYTE
    return CodecResult(
        label=codec.label.replace(" (", f" as one {as_one} (", 1) if as_one else codec.label,
        settings=codec.settings,
        num_rows=num_rows,
        bytes=total,
        score=Score.from_nats(nats, nats_error, event),
    )

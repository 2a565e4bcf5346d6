"""Recorded sums of decoded rows: what they are of, and what changes them."""

import hashlib

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets.base import SplitData
from reproductions.datasets.stand_ins import check_content

X = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
LABELS = np.array([3, 1])
SUM = hashlib.sha256(X.tobytes() + LABELS.astype("<i8").tobytes() + X.tobytes()).hexdigest()


def test_a_sum_is_of_rows_and_labels_part_by_part() -> None:
    for labels in (LABELS, LABELS.astype(">i8")):
        check_content("some", [SplitData(X, labels), SplitData(X)], SUM, "numpy")


@pytest.mark.parametrize(
    "parts",
    [
        [SplitData(X), SplitData(X, LABELS)],
        [SplitData(X, LABELS[::-1]), SplitData(X)],
        [SplitData(X, LABELS), SplitData(X + 1)],
        [SplitData(X, LABELS)],
    ],
)
def test_other_rows_or_labels_are_refused(parts: list[SplitData]) -> None:
    with pytest.raises(
        UserError, match=f"some: expected decoded rows of sha256 {SUM}, got .* by x"
    ):
        check_content("some", parts, SUM, "x")

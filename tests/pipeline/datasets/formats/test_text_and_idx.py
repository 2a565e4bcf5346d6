"""Files of bits and IDX files: round trips, and one line for each flaw."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets.formats.text_and_idx import read_bits, read_idx
from tests.support.idx_files import write_idx


def test_read_idx_round_trip(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "f", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "f", 3), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], r"f: truncated IDX file: expected 40 bytes for shape \(2, 3, 4\)"),
        (lambda b: b + b"0", "f: overlong IDX file"),
        (lambda b: b[:5], "f: truncated IDX file: expected a header of 16 bytes, got 5"),
        (lambda b: b"", "f: truncated IDX file"),
        (gzip.compress, "f: not an IDX file"),
    ],
)
def test_read_idx_names_file_and_reason(tmp_path: Path, change, message: str) -> None:
    write_idx(tmp_path / "f", np.zeros((2, 3, 4), np.uint8))
    (tmp_path / "f").write_bytes(change((tmp_path / "f").read_bytes()))
    with pytest.raises(UserError, match=message):
        read_idx(tmp_path / "f", 3)


def test_read_bits(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("0,1,1\n1,0,0\n")
    np.testing.assert_array_equal(read_bits(tmp_path / "f", 3, ","), [[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,1\n1,0", "f: truncated: .* got 1 whole rows and 3 bytes"),
        ("", "f: truncated: .* got 0 whole rows"),
        ("0,1,1\n1,2,0\n", "f: row 2, column 2: expected 0 or 1 and then ',' .* got '2,'"),
        ("0,1,1\n1 0,0\n", "f: row 2, column 1: .* got '1 '"),
        ("0,1,1,0\n1,0\n", "f: row 1, column 3: .* got '1,'"),
    ],
)
def test_read_bits_names_file_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(UserError, match=message):
        read_bits(tmp_path / "f", 3, ",")

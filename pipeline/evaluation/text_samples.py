"""Drawn and real text, as people can read it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

SUFFIX = ".text"
MOST_ROWS, MOST_BYTES = 4, 600
BETWEEN = "\n" + 40 * "-" + "\n"


def write(folder: Path, rows: Mapping[str, np.ndarray], lengths: np.ndarray) -> None:
    """Write the first rows of bytes (N, T), each to its length, into a file for each name."""
    for name, values in rows.items():
        texts = [
            readable(row[: min(length, MOST_BYTES)])
            for row, length in zip(values[:MOST_ROWS], lengths, strict=False)
        ]
        (folder / f"{name}{SUFFIX}").write_text(BETWEEN.join(texts) + "\n", encoding="utf-8")


def file_of(evaluation: Path, name: str) -> Path:
    """Return the file of real text, or of samples, of an evaluation."""
    return evaluation / "media" / f"{name}{SUFFIX}"


def are_in(evaluation: Path) -> bool:
    """Whether an evaluation has samples of text."""
    return file_of(evaluation, "samples").is_file()


def readable(levels: np.ndarray) -> str:
    r"""Return bytes as text; what is none becomes a question mark in a diamond.

    Example:
        >>> readable(np.array([72, 105, 10, 0, 195, 169, 255]))
        'Hi\n�é�'
    """
    text = levels.astype(np.uint8).tobytes().decode("utf-8", errors="replace")
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)

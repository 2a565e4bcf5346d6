"""Tables of what uses measured, from the records of the gallery.

Numbers whose name is "row: column" make a table of one model; others are a column each, and models
the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.records import read_object
from pipeline.reporting import use_sections, wording
from reproductions.publishing import picture_book
from reproductions.publishing.picture_book import GalleryPart

Table = tuple[list[str], list[list[str]]]


def levels(results: Path, experiment: str) -> Table:
    """Return what each level of noise of a model costs, in nats and in bits.

    Raises:
        UserError: for a missing or malformed record.
    """
    cells = []
    for number in part(results, experiment, "noise_levels").numbers:
        level, _, what = number.name.partition(": ")
        if number.unit == "nats" and number.stderr is not None:
            bits = (number.value / math.log(2), number.stderr / math.log(2))
            nats = wording.with_error(number.value, number.stderr)
            cells.append([level, what, nats, wording.with_error(*bits)])
    return ["level", "what", "nats", "bits"], cells


def of_one(results: Path, use: str, experiment: str) -> Table:
    """Return the numbers "row: column" of a use of one model.

    Raises:
        UserError: for a missing or malformed record.
    """
    rows: dict[str, dict[str, str]] = {}
    for number in part(results, experiment, use).numbers:
        row, _, column = number.name.partition(": ")
        rows.setdefault(row, {})[column] = use_sections.text_of(number)
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [[row, *(cells.get(column, "") for column in columns)] for row, cells in rows.items()]
    return [use, *columns], lines


def of_several(results: Path, use: str, experiments: Sequence[str]) -> Table:
    """Return a row for each model that has the use, a column for each of its numbers.

    Raises:
        UserError: for a missing or malformed record, or models of which other numbers are known.
    """
    parts = [part(results, experiment, use) for experiment in experiments]
    columns = [number.name for number in parts[0].numbers]
    lines = []
    for one in parts:
        if [number.name for number in one.numbers] != columns:
            raise UserError(f"{one.experiment}, {use}: expected the numbers {columns}")
        lines.append([f"`{one.experiment}`", *(use_sections.text_of(n) for n in one.numbers)])
    units = [f" ({number.unit})" if number.unit else "" for number in parts[0].numbers]
    header = [name + unit for name, unit in zip(columns, units, strict=True)]
    return ["experiment", *header], lines


def path_of(results: Path, experiment: str, use: str) -> Path:
    """Return where the gallery keeps the record of a use."""
    return results / "gallery" / experiment / f"{use}.json"


def part(results: Path, experiment: str, use: str) -> GalleryPart:
    """Read the record of a use.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    path = path_of(results, experiment, use)
    found: GalleryPart = picture_book.GalleryPart.from_dict(read_object(path), str(path))
    return found

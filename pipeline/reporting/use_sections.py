"""Uses of trained models on a page: numbers of all models side by side, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.reporting import gallery, templates, wording
from pipeline.reporting.templates import Cell, HtmlTable, Media
from pipeline.uses import use_records
from pipeline.uses.use_descriptions import USES
from pipeline.uses.use_records import Number, Shown, UseRecord

Made = tuple[UseRecord, Path]


@dataclass(frozen=True, kw_only=True)
class UseSection:
    """What a page has of one use."""

    title: str
    shows: str
    table: HtmlTable
    notes: list[tuple[str, str]]
    shown: list[tuple[str, list[Media]]]


def sections(dataset: str) -> list[UseSection]:
    """Return what a page says of the uses in `evaluation/<dataset>/uses`, nothing without any."""
    made = use_records.read_all(dataset, read_manifest(paths.shards(dataset)).sha256)
    return [
        _section(name, list(group), dataset)
        for name, group in groupby(made, key=lambda one: one[0].use)
    ]


def _section(name: str, made: Sequence[Made], dataset: str) -> UseSection:
    use = USES[name]
    names = {
        record.experiment: wording.short_name(record.experiment, dataset) for record, _ in made
    }
    notes = [
        (", ".join(names[record.experiment] for record, _ in group), text)
        for text, group in groupby(sorted(made, key=_notes), key=_notes)
    ]
    return UseSection(
        title=use.title,
        shows=use.shows,
        table=_table([record for record, _ in made], use.title, list(names.values())),
        notes=notes,
        shown=[
            (names[record.experiment], [_shown(record, folder, one) for one in record.shown])
            for record, folder in made
            if record.shown
        ],
    )


def _table(made: Sequence[UseRecord], title: str, models: Sequence[str]) -> HtmlTable:
    names = dict.fromkeys(number.name for record in made for number in record.numbers)
    found = [{number.name: number for number in record.numbers} for record in made]
    rows = [[Cell(name), *(_cell(numbers.get(name)) for numbers in found)] for name in names]
    return HtmlTable(f"{title}: numbers", ["measured", *models], rows)


def _cell(number: Number | None) -> Cell:
    return Cell("-") if number is None else Cell(text_of(number), number.unit)


def text_of(number: Number) -> str:
    """Print a number with its sign and error; an error of 0, of rows all alike, says nothing.

    Example:
        >>> text_of(Number(name="accuracy", value=0.95)), text_of(Number(name="a", value=12.0))
        ('0.950', '12.0')
    """
    if number.stderr:
        return wording.with_error(number.value, number.stderr, number.sign)
    digits = 3 if abs(number.value) < 10 else 1
    return f"{number.sign} {wording.rounded(number.value, digits)}".lstrip()


def _shown(record: UseRecord, folder: Path, shown: Shown) -> Media:
    path, caption = folder / shown.file, templates.sentence(shown.caption)
    if path.suffix != ".wav":
        return gallery.read_picture(path, f"{record.experiment}: {shown.caption}", caption)
    return Media(content=path.read_bytes(), alt=shown.caption, caption=caption, is_sound=True)


def _notes(one: Made) -> str:
    return one[0].notes

"""Uses of trained models on a page: numbers of all models side by side, and their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from pipeline.reporting import gallery, numbers, tables, templates, wording
from pipeline.reporting.comparison import Made, Report
from pipeline.reporting.templates import Cell, HtmlTable, Media
from pipeline.uses.use_descriptions import USES
from pipeline.uses.use_records import Shown, UseRecord


@dataclass(frozen=True, kw_only=True)
class UseSection:
    """What a page has of one use."""

    title: str
    shows: str
    table: HtmlTable
    notes: list[tuple[str, str]]
    shown: list[tuple[str, list[Media]]]


def sections(report: Report, frame: pd.DataFrame) -> list[UseSection]:
    """Return what a page says of the uses of a report and its numbers, nothing without any."""
    return [
        _section(name, list(group), numbers.used(frame, name), report.dataset)
        for name, group in groupby(report.uses, key=lambda one: one[0].use)
    ]


def _section(name: str, made: Sequence[Made], frame: pd.DataFrame, dataset: str) -> UseSection:
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
        table=_table(frame, use.title, names),
        notes=notes,
        shown=[
            (names[record.experiment], [_shown(record, folder, one) for one in record.shown])
            for record, folder in made
            if record.shown
        ],
    )


def _table(frame: pd.DataFrame, title: str, names: Mapping[str, str]) -> HtmlTable:
    cells = {
        (one["quantity"], one["experiment"]): Cell(tables.number_text(one), one["unit"])
        for _, one in frame.iterrows()
    }
    rows = [
        [Cell(quantity), *(cells.get((quantity, name), Cell(tables.NONE)) for name in names)]
        for quantity in frame["quantity"].unique()
    ]
    return HtmlTable(f"{title}: numbers", ["measured", *names.values()], rows)


def _shown(record: UseRecord, folder: Path, shown: Shown) -> Media:
    path, caption = folder / shown.file, templates.sentence(shown.caption)
    if path.suffix != ".wav":
        return gallery.read_picture(path, f"{record.experiment}: {shown.caption}", caption)
    return Media(content=path.read_bytes(), alt=shown.caption, caption=caption, is_sound=True)


def _notes(one: Made) -> str:
    return one[0].notes

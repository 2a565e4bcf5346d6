"""Uses of trained models on a page: numbers of all models side by side, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.reporting import gallery, markup, wording
from pipeline.reporting.markup import Cell, escape
from pipeline.uses import use_records
from pipeline.uses.use_descriptions import USES
from pipeline.uses.use_records import Number, UseRecord

Made = tuple[UseRecord, Path]


def sections(dataset: str) -> list[str]:
    """Return what a page says of the uses in `evaluation/<dataset>/uses`, nothing without any.

    Raises:
        UserError: naming a record that is malformed.
    """
    made = use_records.read_all(dataset, read_manifest(paths.shards(dataset)).sha256)
    parts = []
    for name, group in groupby(made, key=lambda one: one[0].use):
        parts += _section(name, list(group), dataset)
    return parts


def _section(name: str, made: Sequence[Made], dataset: str) -> list[str]:
    use = USES[name]
    parts = [f"<h3>{escape(use.title)}</h3>", f"<p>{escape(_sentence(use.shows))}</p>"]
    parts += _table([record for record, _ in made], use.title, dataset)
    for notes, group in groupby(sorted(made, key=_notes), key=_notes):
        names = ", ".join(_short(record, dataset) for record, _ in group)
        parts.append(f"<p>{markup.breakable(names)}: {escape(notes)}</p>")
    if any(one.file.endswith(".wav") for record, _ in made for one in record.shown):
        parts.append(f"<p>Sounds below {gallery.HEARD_SECONDS:g} s are repeated, with pauses.</p>")
    for position, (record, folder) in enumerate(made):
        if record.shown:
            opened = " open" if position == 0 else ""
            summary = markup.breakable(f"{_short(record, dataset)}: {use.title.lower()}")
            parts.append(f"<details{opened}><summary>{summary}</summary>")
            parts += [_shown(record, folder, number) for number in range(len(record.shown))]
            parts.append("</details>")
    return parts


def _table(made: Sequence[UseRecord], title: str, dataset: str) -> list[str]:
    """Return a table of a line for each number, a column for each model."""
    names = dict.fromkeys(number.name for record in made for number in record.numbers)
    found = [{number.name: number for number in record.numbers} for record in made]
    lines = [[Cell(name), *(_cell(numbers.get(name)) for numbers in found)] for name in names]
    header = ["measured", *(_short(record, dataset) for record in made)]
    return [markup.table(header, lines, f"{title}: numbers")] if lines else []


def _cell(number: Number | None) -> Cell:
    return Cell("-") if number is None else Cell(text_of(number), number.unit, number=True)


def text_of(number: Number) -> str:
    """Print a number with its sign and error; an error of 0, of rows all alike, says nothing.

    Example:
        >>> text_of(Number(name="accuracy", value=0.95)), text_of(Number(name="a", value=12.0))
        ('0.950', '12.0')
        >>> text_of(Number(name="accuracy of all", value=1.0, stderr=0.0))
        '1.000'
    """
    if number.stderr:
        return wording.with_error(number.value, number.stderr, number.sign)
    digits = 3 if abs(number.value) < 10 else 1
    return f"{number.sign} {wording.rounded(number.value, digits)}".lstrip()


def _shown(record: UseRecord, folder: Path, number: int) -> str:
    shown = record.shown[number]
    caption = escape(_sentence(shown.caption))
    if shown.file.endswith(".wav"):
        sound = gallery.read_sound(folder / shown.file)
        source = markup.data_uri("audio/wav", gallery.repeated(sound))
        label = escape(shown.caption)
        player = f'<audio controls preload="none" aria-label="{label}" src="{source}"></audio>'
        return markup.figure(player, caption)
    content = (folder / shown.file).read_bytes()
    return markup.figure(gallery.picture(content, f"{record.experiment}: {shown.caption}"), caption)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _short(record: UseRecord, dataset: str) -> str:
    return wording.short_name(record.experiment, dataset)


def _notes(one: Made) -> str:
    return one[0].notes

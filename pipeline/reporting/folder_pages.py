"""Pages beside the records that they show: `index.html` in a folder of each search or study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import UserError
from pipeline.reporting import markup
from pipeline.reporting.markup import Cell

log = logging.getLogger(__name__)

FILE = "index.html"


def write_each(above: Path, record: str, write: Callable[[Path], None]) -> list[Path]:
    """Write the page of each folder that has a record; return the pages.

    A folder that cannot be read is left out, with a warning.

    Arguments:
        above: the folder that these are in.
        record: name of their record.
        write: writes the page of one.
    """
    written = []
    for path in sorted(above.glob(f"[!.]*/{record}")):
        try:
            write(path.parent)
        except UserError as error:
            log.warning("warning: %s; left out", error)
        else:
            written.append(path.with_name(FILE))
    return written


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table of texts, in which all columns but the first are of values."""
    cells = [[Cell(first), *(Cell(text, number=True) for text in rest)] for first, *rest in rows]
    return markup.table(header, cells, caption)


def save(folder: Path, name: str, body: Sequence[str]) -> None:
    """Write a folder's page, which leads back to all reports.

    Raises:
        UserError: if the folder is gone.
    """
    back = markup.link("../../reports/index.html", "all reports")
    heading = f'<nav aria-label="Page">{back}</nav><h1>{markup.breakable(name)}</h1>'
    whole = [f"<header>{heading}</header>", "<main>", *body, "</main>"]
    try:
        atomic.write_text(folder / FILE, markup.page(f"{name} - arcore", whole))
    except FileNotFoundError:
        raise UserError(f"{folder}: removed meanwhile") from None

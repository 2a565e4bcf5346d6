"""Pages next to the records that they show: `index.html` in a folder of each search or study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import UserError
from pipeline.reporting import templates
from pipeline.reporting.templates import HtmlTable, Media, Terms

log = logging.getLogger(__name__)

FILE = "index.html"
Part = str | HtmlTable | Media


def write_each(above: Path, record: str, write: Callable[[Path], None]) -> list[Path]:
    """Write the page of each folder that has a record; return the pages.

    A folder that cannot be read is left out, with a warning.
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


def save(folder: Path, name: str, content: Sequence[Part], origin: Terms) -> None:
    """Write a folder's page, which leads back to all reports."""
    text = templates.render(templates.FOLDER, title=name, content=content, origin=origin)
    try:
        atomic.write_text(folder / FILE, text)
    except FileNotFoundError:
        raise UserError(f"{folder}: removed meanwhile") from None

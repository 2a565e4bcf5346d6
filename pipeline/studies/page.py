"""Pages of studies: one file each, its pictures inside."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, unknown_name
from pipeline.reporting import gallery, index, markup, wording
from pipeline.reporting.markup import Cell, escape
from pipeline.studies import records
from pipeline.studies.listing import KINDS
from pipeline.studies.records import StudyRecord

log = logging.getLogger(__name__)

FILE = "index.html"


def write_all() -> list[Path]:
    """Write the page of each study in `studies/`, and `reports/index.html`; return the pages.

    A study that cannot be read is left out, with a warning.
    """
    written = []
    for path in sorted(paths.study("").glob(f"[!.]*/{records.FILE}")):
        try:
            write(path.parent)
        except UserError as error:
            log.warning("warning: %s; left out", error)
        else:
            written.append(path.with_name(FILE))
    index.write()
    return written


def write(folder: Path) -> None:
    """Write the page of a study's folder beside its record.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    record = records.read(folder)
    if record.kind not in KINDS:
        raise unknown_name(f"kind of {folder / records.FILE}", record.kind, KINDS)
    kind, (header, rows) = KINDS[record.kind], records.read_table(folder)
    cells = [[Cell(first), *(Cell(text, number=True) for text in rest)] for first, *rest in rows]
    back = markup.link("../../reports/index.html", "all reports")
    body = [
        f'<header><nav aria-label="Page">{back}</nav><h1>{markup.breakable(record.study)}</h1>'
        "</header>",
        "<main>",
        f"<p>{escape(kind.compares[:1].upper() + kind.compares[1:])}.</p>",
        markup.table(header, cells, kind.title),
        f"<p>{escape(record.notes)}</p>",
        *(gallery.file(folder / shown.file, shown.caption) for shown in record.shown),
        *_origin(record),
        "</main>",
    ]
    try:
        atomic.write_text(folder / FILE, markup.page(f"{record.study} - arcore", body))
    except FileNotFoundError:
        raise UserError(f"{folder}: removed meanwhile") from None


def _origin(record: StudyRecord) -> list[str]:
    return markup.origin(
        [
            ("command", f"<code>{escape(record.command)}</code>"),
            ("settings", f"<code>{escape(str(record.settings))}</code>"),
            ("commit", f"<code>{escape(record.commit)}</code>"),
            ("data", f"{escape(record.dataset)}, <code>{escape(record.dataset_sha256)}</code>"),
            ("device", escape(record.device)),
            ("time", wording.duration(record.seconds)),
            ("files", f"{markup.link(records.TABLE, 'CSV')}, {markup.link(records.FILE, 'JSON')}"),
        ]
    )

"""Pages of studies: one file each, its pictures inside."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import unknown_name
from pipeline.reporting import folder_pages, gallery, index, markup, wording
from pipeline.reporting.markup import escape, link
from reproductions.studies import study_records
from reproductions.studies.kinds import KINDS
from reproductions.studies.study_records import StudyRecord

FILE = folder_pages.FILE


def write_all() -> list[Path]:
    """Write the page of each study in `studies/`, and `reports/index.html`; return the pages.

    A study that cannot be read is left out, with a warning.
    """
    written = folder_pages.write_each(paths.study(""), study_records.FILE, write)
    index.write()
    return written


def write(folder: Path) -> None:
    """Write the page of a study's folder beside its record.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    record = study_records.read(folder)
    if record.kind not in KINDS:
        raise unknown_name(f"kind of {folder / study_records.FILE}", record.kind, KINDS)
    kind, (header, rows) = KINDS[record.kind], study_records.read_table(folder)
    body = [
        f"<p>{escape(kind.compares[:1].upper() + kind.compares[1:])}.</p>",
        folder_pages.text_table(header, rows, kind.title),
        f"<p>{escape(record.notes)}</p>",
        *(gallery.file(folder / shown.file, shown.caption) for shown in record.shown),
        *_origin(record),
    ]
    folder_pages.save(folder, record.study, body)


def _origin(record: StudyRecord) -> list[str]:
    return markup.origin(
        [
            ("command", f"<code>{escape(record.command)}</code>"),
            ("settings", f"<code>{escape(str(record.settings))}</code>"),
            ("commit", f"<code>{escape(record.commit)}</code>"),
            ("data", f"{escape(record.dataset)}, <code>{escape(record.dataset_sha256)}</code>"),
            ("device", escape(record.device)),
            ("time", wording.duration(record.seconds)),
            ("files", f"{link(study_records.TABLE, 'CSV')}, {link(study_records.FILE, 'JSON')}"),
        ]
    )

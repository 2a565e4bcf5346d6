"""Pages of studies: one file each, its pictures inside."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import unknown_name
from pipeline.reporting import folder_pages, gallery, index, templates, wording
from pipeline.reporting.templates import Cell, Terms
from reproductions.studies import study_records
from reproductions.studies.kinds import KINDS

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
    content: list[folder_pages.Part] = [
        templates.sentence(kind.compares),
        templates.text_table(kind.title, header, rows),
        record.notes,
        *(gallery.read_picture(folder / shown.file, shown.caption) for shown in record.shown),
    ]
    origin: Terms = [
        ("command", record.command),
        ("settings", str(record.settings)),
        ("commit", record.commit),
        ("data", f"{record.dataset}, {record.dataset_sha256}"),
        ("device", record.device),
        ("time", wording.duration(record.seconds)),
        ("files", [Cell("CSV", link=study_records.TABLE), Cell("JSON", link=study_records.FILE)]),
    ]
    folder_pages.save(folder, record.study, content, origin)

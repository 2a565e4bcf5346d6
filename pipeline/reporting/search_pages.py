"""Pages of searches: one file each, its pictures inside."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.reporting import folder_pages, gallery, search_tables, templates, wording
from pipeline.reporting.search_tables import SearchFacts
from pipeline.reporting.templates import Cell, HtmlTable, Terms

RECORD = search_tables.RECORD
PICTURES = {
    "objective.png": "Validation nats of each trial over each parameter",
    "front.png": "Validation nats over seconds of 16 samples; numbered: unbeaten trials",
    "curves.png": "Lowest validation nats of each trial over its epochs",
}

TRIALS = "Trials, best first; mean ± standard error where trials differ in their seed alone"
UNBEATEN = "Trials that no other trial beats in both objectives, lowest nats first"


def write_all() -> list[Path]:
    """Write the page of each search in `searches/`; return the pages.

    A search that cannot be read is left out, with a warning.
    """
    return folder_pages.write_each(paths.search(""), RECORD, write)


def write(folder: Path) -> None:
    """Write the page of a search's folder next to its record."""
    record = search_tables.read_record(folder)
    header, rows = search_tables.trials(folder / "trials.csv", best_first=True)
    content: list[folder_pages.Part] = [
        _found(record),
        *_shares(folder, record.best_trial),
        *(
            gallery.read_picture(folder / file, caption)
            for file, caption in PICTURES.items()
            if (folder / file).is_file()
        ),
        templates.text_table(UNBEATEN if search_tables.TIMED in header else TRIALS, header, rows),
    ]
    folder_pages.save(folder, record.search, content, _origin(record))


def _found(record: SearchFacts) -> str:
    """Say what was tried and found."""
    entry = record.default_valid_nats
    text = templates.render(
        templates.SEARCH,
        **vars(record),
        best=wording.rounded(record.best_valid_nats, 2),
        entry="" if entry is None else wording.rounded(entry, 2),
    )
    return " ".join(text.split())


def _shares(folder: Path, best: int) -> list[HtmlTable]:
    """Return what the best trial had, and the shares in the variance; nothing without shares."""
    header, rows = search_tables.shares(folder, best)
    caption = "Share of each parameter by itself in the variance of the trials"
    return [templates.text_table(caption, header, rows)] if rows else []


def _origin(record: SearchFacts) -> Terms:
    command = search_tables.command_of(vars(record), record.search)
    files = {"trials": "trials.csv", "best settings": "best.yaml", "record": RECORD}
    return [
        *([("command", command)] if command else []),
        ("commit", record.commit),
        ("device", record.device or "not recorded"),
        ("time", wording.duration(record.seconds)),
        ("files", [Cell(what, link=file) for what, file in files.items()]),
    ]

"""Pages of searches: one file each, its pictures inside."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.core.records import read_object, value_of
from pipeline.reporting import folder_pages, gallery, search_tables, templates, wording
from pipeline.reporting.templates import HtmlTable

RECORD = search_tables.RECORD
PICTURES = {
    "objective.png": "Validation nats of each trial over each parameter",
    "front.png": "Validation nats over seconds of 16 samples; numbered: those none beats in both",
    "curves.png": "Lowest validation nats of each trial over its epochs",
}

TRIALS = "Trials, those that differ in their seed alone as one"
UNBEATEN = "Trials that none beats in both objectives"


def write_all() -> list[Path]:
    """Write the page of each search in `searches/`; return the pages.

    A search that cannot be read is left out, with a warning.
    """
    return folder_pages.write_each(paths.search(""), RECORD, write)


def write(folder: Path) -> None:
    """Write the page of a search's folder beside its record.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    record, where = read_object(folder / RECORD), str(folder / RECORD)
    name = value_of(record, "search", str, where)
    search_tables.check(folder)
    caption = UNBEATEN if record.get("front") else TRIALS
    content: list[folder_pages.Part] = [
        _found(record, where),
        *_shares(folder, value_of(record, "best_trial", int, where)),
        *(
            gallery.read_picture(folder / file, caption)
            for file, caption in PICTURES.items()
            if (folder / file).is_file()
        ),
        templates.text_table(caption, *search_tables.trials(folder / "trials.csv")),
    ]
    files = [("trials", "trials.csv"), ("best settings", "best.yaml"), ("record", RECORD)]
    folder_pages.save(folder, name, content, _origin(record, where), files)


def _found(record: dict[str, object], where: str) -> str:
    """Say what was tried and found."""
    model, dataset = (value_of(record, key, str, where) for key in ("model", "dataset"))
    counts = {key: value_of(record, key, int, where) for key in ("trials", "stopped", "failed")}
    said = f"{counts['trials']} trials of {model} on {dataset}"
    said += f", {counts['stopped']} of them stopped early" if counts["stopped"] else ""
    said += f", {counts['failed']} that could not be" if counts["failed"] else ""
    best = wording.rounded(value_of(record, "best_valid_nats", float, where), 2)
    said += (
        f". The best, trial {value_of(record, 'best_trial', int, where)}: {best} validation nats"
    )
    if record.get("default_valid_nats") is not None:
        own = value_of(record, "default_valid_nats", float, where)
        said += f"; the entry itself: {wording.rounded(own, 2)}"
    return said + "."


def _shares(folder: Path, best: int) -> list[HtmlTable]:
    """Return what the best trial had, and the shares in the variance; nothing without shares."""
    header, rows = search_tables.shares(folder, best)
    caption = "Parameters, by their share in the variance of the trials, each by itself"
    return [templates.text_table(caption, header, rows)] if rows else []


def _origin(record: dict[str, object], where: str) -> folder_pages.Terms:
    name = value_of(record, "search", str, where)
    command = search_tables.command_of(record, name)
    return [
        *([("command", command)] if command else []),
        ("commit", value_of(record, "commit", str, where)),
        ("device", str(record.get("device") or "not recorded")),
        ("time", wording.duration(value_of(record, "seconds", float, where))),
    ]

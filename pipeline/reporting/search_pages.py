"""Pages of searches next to their records: `index.html`, one file each, its pictures inside."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError
from pipeline.reporting import gallery, search_tables, templates, wording
from pipeline.reporting.search_tables import TIMED, SearchFacts
from pipeline.reporting.templates import Cell, Terms

log = logging.getLogger(__name__)

PICTURES = {
    "objective.png": "Validation nats of each trial over each parameter",
    "front.png": "Validation nats over seconds of 16 samples; numbered: unbeaten trials",
    "curves.png": "Lowest validation nats of each trial over its epochs",
}
TRIALS = "Trials, best first; mean ± standard error where trials differ in their seed alone"
UNBEATEN = "Trials that no other trial beats in both objectives, lowest nats first"
SHARES = "Share of each parameter by itself in the variance of the trials"


def write_all() -> list[Path]:
    """Write the page of each search in `searches/`; one that cannot be read is left out."""
    written = []
    for path in sorted(paths.search("").glob(f"[!.]*/{search_tables.RECORD}")):
        try:
            written.append(write(path.parent))
        except UserError as error:
            log.warning("warning: %s; left out", error)
    return written


def write(folder: Path) -> Path:
    """Write the page of a search's folder."""
    record = search_tables.read_record(folder)
    shares = search_tables.shares(folder, record.best_trial)
    trials = search_tables.trials(folder / "trials.csv", best_first=True)
    found = {file: caption for file, caption in PICTURES.items() if (folder / file).is_file()}
    text = templates.render(
        templates.SEARCH,
        record=record,
        best=wording.rounded(record.best_valid_nats, 2),
        entry=wording.rounded(record.default_valid_nats, 2) if record.default_valid_nats else "",
        shares=templates.text_table(SHARES, *shares),
        pictures=[gallery.read_picture(folder / file, found[file]) for file in found],
        trials=templates.text_table(UNBEATEN if TIMED in trials[0] else TRIALS, *trials),
        origin=_origin(record),
    )
    atomic.write_text(folder / "index.html", text)
    return folder / "index.html"


def _origin(record: SearchFacts) -> Terms:
    command = search_tables.command_of(vars(record), record.search)
    files = {"trials": "trials.csv", "best settings": "best.yaml", "record": search_tables.RECORD}
    return [
        *([("command", command)] if command else []),
        ("commit", record.commit),
        ("device", record.device or "not recorded"),
        ("time", wording.duration(record.seconds)),
        ("files", [Cell(what, link=file) for what, file in files.items()]),
    ]

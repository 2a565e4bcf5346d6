"""The page of a search: its charts by Plotly, whose script all pages share, and its tables."""

import logging
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, explained
from pipeline.reporting import search_figures, searches, templates, wording
from pipeline.reporting.searches import SearchFacts
from pipeline.reporting.templates import Cell, Terms

log = logging.getLogger(__name__)

TRIALS = "Trials, best first; mean ± standard error where trials differ in their seed alone"
UNBEATEN = "Trials that no other trial beats in both objectives, lowest nats first"
SHARES = "Share of each parameter by itself in the variance of the trials"


def write_all() -> list[Path]:
    """Write the page of each search in `searches/`; one that cannot be read is left out."""
    written = []
    for path in sorted((paths.root() / "searches").glob(f"[!.]*/{searches.RECORD}")):
        try:
            written.append(write(path.parent))
        except UserError as error:
            log.warning("warning: %s; left out", error)
    return written


def write(folder: Path) -> Path:
    """Write the page of a search's folder, and Plotly's script next to the folder."""
    from plotly.offline import get_plotlyjs

    record = searches.read_record(folder)
    parts = searches.shares(folder, record.best_trial)
    header, groups = searches.trials(folder / "trials.csv", best_first=True)
    default, is_timed = record.default_valid_nats, searches.TIMED in header
    values = header.index("validation nats")  # it and what follows come first, in sight
    lines = [[*line[values:], *line[:values]] for line in (header, *groups)]
    text = templates.render(
        templates.SEARCH,
        record=record,
        best=wording.rounded(record.best_valid_nats, 2),
        entry="" if default is None else wording.rounded(default, 2),
        shares=templates.text_table(SHARES, *parts),
        trials=templates.text_table(UNBEATEN if is_timed else TRIALS, lines[0], lines[1:]),
        origin=_origin(record),
        **_charts(folder, record.best_trial),
    )
    atomic.write_text(folder.with_name("plotly.min.js"), get_plotlyjs())
    atomic.write_text(folder / "index.html", text)
    return folder / "index.html"


def _charts(folder: Path, best: int) -> dict[str, object]:
    path, trials = folder / "curves.csv", searches.valued(folder / "trials.csv")
    trials = search_figures.with_kinds(trials, best)
    with explained(f"{folder}: expected numbers of trials, got", KeyError, ValueError):
        is_timed = "front" in trials and (trials["front"] == "yes").any()
        front = search_figures.over_seconds(trials) if is_timed else None
        columns = ("trial", "epoch", searches.NATS)  # records in results/ may have no curves
        read = searches.read_table(path, *columns) if path.is_file() else None
        curves = None if read is None else search_figures.over_epochs(read, trials)
    parameters = search_figures.over_parameters(trials)
    return {"parameters": parameters, "front": front, "curves": curves}


def _origin(record: SearchFacts) -> Terms:
    command = searches.command_of(vars(record), record.search)
    files = {"trials": "trials.csv", "best settings": "best.yaml", "record": searches.RECORD}
    return [
        *([("command", command)] if command else []),
        ("commit", record.commit),
        ("device", record.device or "not recorded"),
        ("time", wording.duration(record.seconds)),
        ("files", [Cell(what, link=file) for what, file in files.items()]),
    ]

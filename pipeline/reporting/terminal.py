"""Tables of reports, aligned for a terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.reporting import tables

CONTEXT_ROWS = 8
WIDTH = 120
LEAVES_OUT = (
    "source",
    "device",
    "coding",
    "settings",
    "model",
    "parameters",
    "difference",
    "coded",
)
LEAVES_OUT_LAST = ("train time", "members")


def show(datasets: Iterable[str] = ()) -> str:
    """Return the tables of existing reports, aligned for a terminal (sources left out).

    Arguments:
        datasets: which; all under `reports/` if empty.

    Raises:
        UserError: if one has no report, or is unknown.
    """
    existing = (paths.root() / "reports").glob("[!.]*/table.md")
    names = list(datasets) or sorted(path.parent.name for path in existing)
    if not names:
        raise UserError("reports: none yet; run `make repro` or `dvc repro`")
    shown = []
    for name in names:
        path = paths.report(name) / "table.md"
        if not path.is_file():
            catalog.load_config(name)  # an unknown one is named, with what is near it
            raise UserError(f"{path}: missing; run `python -m stages.report {name}`")
        shown.append(_terminal(path.read_text(encoding="utf-8"), path))
    return "\n\n".join(shown)


def _terminal(text: str, path: Path) -> str:
    lines: list[str] = []
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            if not set(line) <= set("|-"):
                table.append([tables.unescape(cell) for cell in cells])
            continue
        if table:
            first = not any(row.startswith("  ") for row in lines)
            kept = table if first else table[: 1 + CONTEXT_ROWS]
            lines += aligned(fitting(kept))
            if len(kept) < len(table):
                lines.append(
                    f"  ... and {len(table) - len(kept)} more in {path.relative_to(paths.root())}"
                )
            table = []
        if line:
            lines += textwrap.wrap(line.lstrip("# "), _width())
    return "\n".join(lines)


def _width() -> int:
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def fitting(table: list[list[str]]) -> list[list[str]]:
    """Leave columns out that say nothing, then others, until a terminal's width is enough.

    Example:
        >>> fitting([["experiment", "device", "test"], ["made", "a" * 99, "1" * 20]])
        [['experiment', 'test'], ['made', '11111111111111111111']]
    """
    columns = [list(column) for column in zip(*table, strict=True)]
    columns = [column for column in columns if set(column[1:]) != {"-"}]
    units = [column[0] for column in columns if column[0].startswith("test (")]
    width = _width()
    for name in (*LEAVES_OUT, *units[1:], *LEAVES_OUT_LAST):
        if sum(2 + max(map(len, column)) for column in columns) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    return [list(row) for row in zip(*columns, strict=True)]


def aligned(table: list[list[str]]) -> list[str]:
    """Return the lines of a table as a terminal shows them, its sources left out."""
    keep = [i for i, name in enumerate(table[0]) if name != "source"]
    widths = [max(len(row[i]) for row in table) for i in keep]
    rows = [
        "  " + "  ".join(row[i].ljust(w) for i, w in zip(keep, widths, strict=True)).rstrip()
        for row in table
    ]
    return [rows[0], "  " + "-" * (max(map(len, rows)) - 2), *rows[1:]]

"""What repeats each recorded search and part of the lecture; its commit, machine and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.records import read_object
from pipeline.reporting import wording

HEADER = ["record", "to repeat it", "commit", "machine", "time"]


def table(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return a row for each part of `results/lecture/` and each search of `results/searches/`.

    What an older record does not say is left empty.

    Raises:
        UserError: naming the file that is malformed.
    """
    rows, folder = [], results / "lecture"
    parts = {path.stem: path for kind in ("json", "csv") for path in folder.glob(f"*.{kind}")}
    for name, path in sorted(parts.items()):
        record = path.with_suffix(".json")
        found = read_object(record) if record.is_file() else {}
        link = f"[lecture/{name}](lecture/{path.name})"
        rows.append(_row(link, found.get("command"), found))
    for path in sorted((results / "searches").glob("*/search.json")):
        name = path.parent.name
        link = f"[{name}](searches/{name})"
        rows.append(_row(link, f"python -m stages.tune {name}", read_object(path)))
    return HEADER, rows


def _row(link: str, command: object, record: Mapping[str, object]) -> list[str]:
    seconds = record.get("seconds")
    took = wording.duration(float(seconds)) if isinstance(seconds, int | float) else ""
    return [link, _cell(command), _cell(record.get("commit")), str(record.get("device", "")), took]


def _cell(value: object) -> str:
    return f"`{value}`" if value else ""

"""Where the records of results/lecture.md come from: command, commit, machine and time of each."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.records import read_object
from pipeline.reporting import wording

HEADER = ["record", "command", "commit", "machine", "time"]


def table(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return a row for each search of `results/searches/`, and for each part of `results/lecture/`.

    What an older record does not say is left empty.

    Raises:
        UserError: naming the file that is malformed.
    """
    rows = []
    for path in sorted((results / "lecture").glob("*.json")):
        command = _cell(read_object(path).get("command", ""))
        rows.append(_row(path, f"lecture/{path.stem}", f"lecture/{path.name}", command))
    for path in sorted((results / "searches").glob("*/search.json")):
        name = path.parent.name
        rows.append(_row(path, name, f"searches/{name}", f"`python -m stages.tune {name}`"))
    return HEADER, rows


def _row(path: Path, name: str, link: str, command: str) -> list[str]:
    record = read_object(path)
    seconds = record.get("seconds")
    took = wording.duration(float(seconds)) if isinstance(seconds, int | float) else ""
    return [f"[{name}]({link})", command, _cell(record.get("commit", "")),
            str(record.get("device", "")), took]  # fmt: skip


def _cell(value: object) -> str:
    return f"`{value}`" if value else ""

"""What repeats each recorded search and study; its commit, machine and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.records import read_object
from pipeline.reporting import search_tables, wording
from reproductions.studies import study_records

HEADER = ["record", "to repeat it", "commit", "machine", "time"]


def table(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return a row for each study of `results/studies/` and each search of `results/searches/`.

    What an older record does not say is left empty.

    Raises:
        UserError: naming the file that is malformed.
    """
    rows = []
    for folder, file in (("studies", study_records.FILE), ("searches", search_tables.RECORD)):
        for path in sorted((results / folder).glob(f"[!.]*/{file}")):
            name, record = path.parent.name, read_object(path)
            command = record.get("command") or ""
            if folder == "searches":
                command = search_tables.command_of(record, name)
            rows.append(_row(f"[{name}]({folder}/{name})", command, record))
    return HEADER, rows


def _row(link: str, command: object, record: Mapping[str, object]) -> list[str]:
    return [
        link,
        _cell(command),
        _cell(record.get("commit")),
        str(record.get("device", "")),
        _took(record),
    ]


def _took(record: Mapping[str, object]) -> str:
    """Print how long a record took; the trials of a search too where these are more.

    They are where trials ran side by side, or before the search was last started.
    """
    seconds, trials = record.get("seconds"), record.get("trial_seconds")
    if not isinstance(seconds, int | float):
        return ""
    took = wording.duration(float(seconds))
    known = trials if isinstance(trials, list) else []
    spent = sum(float(one) for one in known)
    return f"{took} (trials {wording.duration(spent)})" if spent > 1.1 * seconds else took


def _cell(value: object) -> str:
    return f"`{value}`" if value else ""

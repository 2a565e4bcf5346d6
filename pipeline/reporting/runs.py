"""What repeats each recorded search and study; its commit, machine and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.records import read_object
from pipeline.experiments import naming
from pipeline.reporting import wording

HEADER = ["record", "to repeat it", "commit", "machine", "time"]


def table(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return a row for each study of `results/studies/` and each search of `results/searches/`.

    What an older record does not say is left empty.

    Raises:
        UserError: naming the file that is malformed.
    """
    rows = []
    for folder, file, stage in (
        ("studies", "study.json", "study"),
        ("searches", "search.json", "tune"),
    ):
        for path in sorted((results / folder).glob(f"[!.]*/{file}")):
            name, record = path.parent.name, read_object(path)
            command = command_of(record, stage, name)
            rows.append(_row(f"[{name}]({folder}/{name})", command, record))
    return HEADER, rows


def command_of(record: Mapping[str, object], stage: str, name: str) -> str:
    """Return the command of a record; of an older one that of its name, "" with overrides."""
    plain = "" if naming.is_variant(name) else f"python -m stages.{stage} {name}"
    return str(record.get("command") or plain)


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

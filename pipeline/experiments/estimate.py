"""How long everything takes, from the seconds that are recorded in `results/`."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.records import read_object

SECONDS = ("train_seconds", "evaluate_seconds", "sample_seconds", "seconds", "coded_seconds")
LONG = 600.0  # seconds of a dataset above which it is none of the short ones


def recorded(
    results: Path, searches: bool = True, mixtures: Collection[str] = ()
) -> Mapping[str, float]:
    """Return the recorded seconds of each dataset: experiments, folds, uses, searches and studies.

    Those of the training of a mixture are its members', which have records of their own.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    beside = ("searches/*/search.json", "studies/*/study.json") if searches else ()
    for kind in ("*/metrics.json", "gallery/*/*.json", *beside):
        for path in sorted(results.glob(kind)):
            timing = path.with_name("timing.json")
            found = read_object(path) | (read_object(timing) if timing.is_file() else {})
            keys = SECONDS[1:] if path.parent.name in mixtures else SECONDS
            given = {key: found.get(key) for key in keys}
            known = {key: value for key, value in given.items() if isinstance(value, int | float)}
            decoding = known.get("coded_seconds", 0)  # takes as long as encoding
            seconds[str(found.get("dataset"))] += sum(known.values()) + decoding
    return seconds


def notice(params: Mapping[str, Any]) -> str:
    """Return what `dvc repro` without a target runs, and the targets that do not take hours.

    It is the same on every machine: the seconds are those of the records.
    """
    datasets = [str(name) for name in params.get("datasets") or []]
    mixtures = params.get("mixtures") or {}
    seconds = recorded(paths.root() / "results", mixtures=mixtures)
    total = sum(seconds[name] for name in datasets)
    counts = {kind: len(params.get(kind) or {}) for kind in ("experiments", "searches", "studies")}
    size = ", ".join(
        [f"{len(datasets)} datasets", *(f"{count} {kind}" for kind, count in counts.items())]
    )
    lines = [f"What has changed of {size} runs: `dvc repro` without a target means that."]
    if total >= LONG:
        needed = recorded(paths.root() / "results", False, mixtures)  # by a report
        long = [name for name in datasets if needed[name] >= LONG]
        short = [name for name in datasets if name not in long]
        lines += [
            f"From nothing it is about {total / 3600:.1f} hours of a core or two (results/), most:",
            *(f"  {name}, {seconds[name] / 3600:.1f} hours" for name in long),
            *_not_counted(params),
            "Minutes each, and no more than they need (Ctrl-C, then):",
            *(f"  dvc repro report@{name} register@{name}" for name in short),
        ]
    return "\n".join(lines)


def _not_counted(params: Mapping[str, Any]) -> list[str]:
    """Name the searches whose seconds are not on record, and count such uses."""
    records = paths.root() / "results" / "searches"
    searches = params.get("searches") or {}
    missing = [str(name) for name in searches if not (records / name / "search.json").is_file()]
    named = f"and these searches, which have no record: {', '.join(missing)}"
    lines = textwrap.wrap(named, 120, break_on_hyphens=False) if missing else []
    gallery = paths.root() / "results" / "gallery"
    files = [
        gallery / name / f"{use}.json"
        for name, entry in (params.get("uses") or {}).items()
        if isinstance(entry, dict)
        for use in entry.get("uses") or {}
    ]
    unknown = sum(not path.is_file() or "seconds" not in read_object(path) for path in files)
    return [*lines, f"and {unknown} uses, whose seconds are not on record"] if unknown else lines

"""Say how long the reproductions take from nothing, by the seconds recorded in results/.

Example: python -m reproductions.estimate
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.records import read_object
from pipeline.core.yaml_settings import read_yaml
from stages import cli

PARAMS = "reproductions/params.yaml"
SECONDS = ("train_seconds", "evaluate_seconds", "sample_seconds", "seconds", "coded_seconds")
RECORDS = (
    "*/metrics.json", "gallery/*/*.json", "searches/*/search.json", "studies/*/study.json",
)  # fmt: skip


def recorded(results: Path, mixtures: Collection[str] = ()) -> Mapping[str, float]:
    """Return the recorded seconds of each dataset: experiments, folds, uses, searches and studies.

    Those of the training of a mixture are its members', which have records of their own.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for path in (path for kind in RECORDS for path in sorted(results.glob(kind))):
        timing = path.with_name("timing.json")
        found = read_object(path) | (read_object(timing) if timing.is_file() else {})
        keys = SECONDS[1:] if path.parent.name in mixtures else SECONDS
        given = {key: found.get(key) for key in keys}
        known = {key: value for key, value in given.items() if isinstance(value, int | float)}
        decoding = known.get("coded_seconds", 0)  # takes as long as encoding
        seconds[str(found.get("dataset"))] += sum(known.values()) + decoding
    return seconds


def unrecorded(params: Mapping[str, Any], results: Path) -> list[str]:
    """Return the searches and uses whose seconds are not recorded."""
    searches = [results / "searches" / name for name in params.get("searches") or {}]
    uses = [
        results / "gallery" / name / f"{use}.json"
        for name, entry in (params.get("uses") or {}).items()
        for use in (entry or {}).get("uses") or {}
    ]
    missing = [path for path in searches if not (path / "search.json").is_file()]
    missing += [path for path in uses if not (path.is_file() and "seconds" in read_object(path))]
    return [str(path) for path in missing]


def notice(params: Mapping[str, Any], results: Path) -> str:
    """Return how long all takes, and each dataset; the same on every machine."""
    seconds = recorded(results, params.get("mixtures") or {})
    hours = {str(name): seconds[str(name)] / 3600 for name in params.get("datasets") or []}
    lines = [f"From nothing about {sum(hours.values()):.1f} hours of a core or two (results/):"]
    lines += [f"  {name}, {spent:.1f} hours" for name, spent in hours.items()]
    if missing := unrecorded(params, results):
        lines.append(f"and {len(missing)} searches and uses, whose seconds are not recorded")
    lines.append("One dataset alone: dvc repro reproductions/dvc.yaml:report@<dataset>")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print."""
    argparse.ArgumentParser(
        prog="python -m reproductions.estimate",
        description="Say how long the reproductions take from nothing.",
    ).parse_args()
    print(notice(read_yaml(Path(PARAMS)), paths.results()), flush=True)


if __name__ == "__main__":
    cli.run(main)

"""Say how long the reproductions take from nothing, by the seconds recorded in results/.

Example: python -m reproductions.estimate
"""

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

    The training of a mixture is of its members, which have records of their own.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for path in (path for kind in RECORDS for path in results.glob(kind)):
        timing = path.with_name("timing.json")
        found: dict[str, Any] = read_object(path)
        found |= read_object(timing) if timing.is_file() else {}
        keys = SECONDS[1:] if path.parent.name in mixtures else SECONDS
        decoding = found.get("coded_seconds") or 0  # takes as long as encoding
        seconds[str(found.get("dataset"))] += sum(found.get(key) or 0 for key in keys) + decoding
    return seconds


def notice(params: Mapping[str, Any], results: Path) -> str:
    """Return how long all takes, and each dataset; the same on every machine."""
    seconds = recorded(results, params.get("mixtures") or {})
    hours = {str(name): seconds[str(name)] / 3600 for name in params.get("datasets") or []}
    lines = [f"From nothing about {sum(hours.values()):.1f} hours of a core or two (results/),"]
    lines += ["without searches and uses whose seconds are not recorded:"]
    lines += [f"  {name}, {spent:.1f} hours" for name, spent in hours.items()]
    return "\n".join([*lines, "One: python -m reproductions.reproduce report@<dataset>"])


def main() -> None:
    """Parse the command line and print."""
    argparse.ArgumentParser(
        prog="python -m reproductions.estimate",
        description="Say how long the reproductions take from nothing.",
    ).parse_args()
    print(notice(read_yaml(Path(PARAMS)), paths.results()), flush=True)


if __name__ == "__main__":
    cli.run(main)

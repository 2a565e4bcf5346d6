"""What `results/` keeps of a dataset, compared with published results, from the records alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.evaluation.reading import read_evaluated, read_kept_codecs
from pipeline.reporting import comparison, tables
from pipeline.reporting.comparison import Report
from pipeline.reporting.numbers import numbers


@dataclass(frozen=True)
class Recorded:
    """The records of a dataset."""

    report: Report
    frame: pd.DataFrame

    @property
    def markdown(self) -> str:
        """The page of the dataset."""
        return tables.markdown(self.report, self.frame)

    def texts(self, experiment: str) -> dict[str, str]:
        """Return the texts of one of our rows, or of a codec, by column."""
        return tables.texts(self.frame[self.frame["experiment"] == experiment])


Reader = Callable[[str], Recorded]  # by the name of a dataset


def reader(records: Path) -> Reader:
    """Return a function that reads the datasets of a folder as `read` does, each of them once."""
    return functools.cache(functools.partial(read, records=records))


def read(dataset: str, records: Path, codecs: Path | None = None) -> Recorded:
    """Read what is kept of a dataset; its codecs from another file where one is given."""
    kept = sorted(path.parent for path in records.glob(f"{dataset}-*/metrics.json"))
    if not kept:
        raise UserError(f"{records}/{dataset}-*: no record of an experiment")
    found = [read_evaluated(folder) for folder in kept]
    config = found[0].config
    described = config.content.get("dataset")
    if not isinstance(described, dict):
        raise UserError(f"{kept[0] / 'config.yaml'}: dataset: expected a mapping, got {described}")
    # Nothing is published of data of the user's own, whose files may be elsewhere.
    published_name = None if "kind" in described else catalog.get_dataset(described).published_name
    path = codecs or records / "codecs" / f"{dataset}.json"
    kept_codecs = read_kept_codecs(path, found[0].event, config.dataset_sha256)
    report = comparison.compare(dataset, found, published_name, kept_codecs)
    return Recorded(report, numbers(report))

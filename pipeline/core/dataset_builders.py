"""Which function builds each dataset: its conf file names it, or another package brings it.

A conf file's `builder` is `package.module:function`, or a module whose `DATASETS` has a function
for the dataset's name. Another package brings a dataset by an entry point of the group
`arcore.datasets`, whose name is the dataset's and whose value is likewise.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.records import read_yaml

BUILDER = "builder"  # key of a conf file
GROUP = "arcore.datasets"


@functools.cache
def elsewhere() -> Mapping[str, str]:
    """Return the builders of datasets that other packages bring, by name."""
    return {point.name: point.value for point in metadata.entry_points(group=GROUP)}


def builder_of(name: str, folder: Path) -> str | None:
    """Return the builder of a dataset; None for one of the user's files, or an unknown name.

    Arguments:
        name: of the dataset.
        folder: of the conf files.
    """
    named = conf(name, folder).get(BUILDER)
    return named if isinstance(named, str) else elsewhere().get(name)


def conf(name: str, folder: Path) -> Mapping[str, object]:
    """Return a dataset's conf file; nothing where it is missing or malformed.

    Loading it (`pipeline.datasets.catalog.load_config`) names the mistake.
    """
    try:
        return read_yaml(folder / f"{name}.yaml")
    except UserError:
        return {}


def names(folder: Path) -> list[str]:
    """Return the names of all datasets, sorted: those with a conf file, and of other packages."""
    return sorted({path.stem for path in folder.glob("*.yaml")} | elsewhere().keys())

"""Files of the groups of `pipeline/conf/` that a run takes, and its cluster without a model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.core.errors import UserError, one_line, require, unknown_name
from pipeline.experiments.schema import ClusterConfig, build

CONF = Path(__file__).parents[1] / "conf"
FILE_GROUPS = ("dataset", "cluster")


def default_cluster() -> str:
    """Name the file of the group cluster that is taken where no override says another."""
    return os.environ.get("ARCORE_CLUSTER") or "local"


def check_file(group: str, choice: str) -> None:
    """Check that a group has a file of a name.

    Raises:
        UserError: with the nearest names, if it has none.
    """
    known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if choice not in known:
        raise unknown_name(group, choice, known)


def sort_overrides(
    overrides: Sequence[str], groups: Collection[str]
) -> tuple[Mapping[str, str], list[str]]:
    """Tell overrides `group=choice` from those of single keys, which stay in order.

    Raises:
        UserError: for one that isn't `key=value`.

    Example:
        >>> sort_overrides(["cluster=gpu", "cluster.num_workers=2"], ("cluster",))
        ({'cluster': 'gpu'}, ['cluster.num_workers=2'])
    """
    choices, dotted = {}, []
    for override in overrides:
        key, separator, value = override.partition("=")
        require(bool(key and separator), "override", "key=value", override)
        if key in groups:
            choices[key] = value
        else:
            dotted.append(override)
    return choices, dotted


def load_cluster(overrides: Sequence[str]) -> ClusterConfig:
    """Return a cluster's configuration: the file of ARCORE_CLUSTER, and `cluster.key=value`.

    Keys of other sections are not looked at.

    Raises:
        UserError: for an unknown file, or an unknown or ill-typed key.

    Example:
        >>> load_cluster(["cluster.num_workers=2"]).num_workers
        2
    """
    choices, dotted = sort_overrides(overrides, ("cluster",))
    choice = choices.get("cluster", default_cluster())
    check_file("cluster", choice)
    try:
        group = OmegaConf.create({"cluster": OmegaConf.load(CONF / "cluster" / f"{choice}.yaml")})
        merged = OmegaConf.merge(group, OmegaConf.from_dotlist(dotted))
        plain = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, OSError) as error:
        raise UserError(f"cluster: {one_line(error)}") from None
    return build(ClusterConfig, plain["cluster"], "cluster")

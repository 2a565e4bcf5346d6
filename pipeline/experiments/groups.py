"""Files of the groups of `pipeline/conf/` that a run takes, and its cluster without a model."""

import functools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import explained, require, unknown_name
from pipeline.core.yaml_settings import overlaid, parse_overrides
from pipeline.experiments.schema import ClusterConfig, build

CONF = Path(__file__).parents[1] / "conf"
FILE_GROUPS = ("dataset", "cluster")


def sort_overrides(
    overrides: Sequence[str], groups: Collection[str]
) -> tuple[Mapping[str, str], list[str]]:
    """Tell overrides `group=choice` from overrides of single keys, which stay in order."""
    choices, dotted = {}, []
    for override in overrides:
        key, separator, value = override.partition("=")
        require(bool(key and separator), "override", "key=value", override)
        if key in groups:
            choices[key] = value
        else:
            dotted.append(override)
    return choices, dotted


def compose_cluster(choice: str | None) -> dict[str, Any]:
    """Return the settings {cluster: {...}} of a file of the group cluster, composed by Hydra.

    Without a choice ARCORE_CLUSTER names the file.
    """
    if choice is None:
        choice = os.environ.get("ARCORE_CLUSTER") or "local"
    known = sorted(path.stem for path in (CONF / "cluster").glob("*.yaml"))
    if choice not in known:
        raise unknown_name("cluster", choice, known)
    return {"cluster": _composed(str(CONF), choice)}


@functools.cache  # Hydra takes a tenth of a second
def _composed(folder: str, choice: str) -> dict[str, Any]:
    import hydra  # here: it is slow to import
    from omegaconf import OmegaConf

    # Hydra, OmegaConf and YAML raise many kinds
    with explained(f"pipeline/conf/cluster/{choice}.yaml:", Exception):
        with hydra.initialize_config_dir(folder, version_base="1.3"):
            composed = OmegaConf.to_container(hydra.compose(overrides=[f"+cluster={choice}"]))
    assert isinstance(composed, dict)
    return composed.get("cluster") or {}


def load_cluster(overrides: Sequence[str]) -> ClusterConfig:
    """Return a cluster's configuration: the file of ARCORE_CLUSTER, and `cluster.key=value`.

    Keys of other sections are not looked at.
    """
    choices, dotted = sort_overrides(overrides, ("cluster",))
    composed = compose_cluster(choices.get("cluster"))
    return build(ClusterConfig, overlaid(composed, parse_overrides(dotted))["cluster"], "cluster")

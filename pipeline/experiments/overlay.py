"""Settings of an entry of params.yaml with those of the command line over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.core.errors import UserError, one_line, require


def overlaid(entry: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, Any]:
    """Return an entry's settings with those of the command line over them.

    Arguments:
        entry: what params.yaml says.
        overrides: `key=value` each, a value being YAML.
        where: what errors call the entry.

    Raises:
        UserError: for an override that is no `key=value`, has no value or cannot be read.

    Example:
        >>> overlaid({"sizes": [8], "batch": {"rows": 2}}, ["batch.rows=4"], "studies.steps")
        {'sizes': [8], 'batch': {'rows': 4}}
    """
    for override in overrides:
        key, separator, _ = override.partition("=")
        require(bool(key and separator), "override", "key=value", override)
    try:
        asked = OmegaConf.from_dotlist([*overrides])
        for key in OmegaConf.missing_keys(asked):
            raise UserError(f"{key}: expected a value, got '???'")
        both = OmegaConf.merge(OmegaConf.create(dict(entry)), asked)
        plain = OmegaConf.to_container(both, resolve=True)
    except (
        OmegaConfBaseException,
        YAMLError,
        IndexError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise UserError(f"{where}: {one_line(error)}") from None
    return cast(dict[str, Any], plain)

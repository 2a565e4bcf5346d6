"""The datasets: one module for each family, with its source, its decoding and its protocol.

A new dataset is one module with a `DATASETS` table, one entry in `_MODULES` below and one file in
`pipeline/conf/dataset/`. A dataset of another package has the file alone, whose `builder` names the
function that builds the dataset, `package.module:function`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.core.errors import UserError, one_line, require, unknown_name
from pipeline.core.records import read_yaml
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData, SplitStream
from pipeline.datasets.clips import moving_digits, robotic_pushing
from pipeline.datasets.embedded import digits, digits_coarse, digits_pca, tones
from pipeline.datasets.images import binarized_mnist, cifar, idx_images, imagenet
from pipeline.datasets.sounds import spoken_digits
from pipeline.datasets.tables import csv_table, uci_binary
from pipeline.datasets.user import arrays, csv_file, image_folder, image_shards, wav_folder

__all__ = [
    "SPLITS",
    "Dataset",
    "RawFile",
    "SplitData",
    "SplitStream",
    "get_dataset",
    "list_datasets",
    "load_config",
]

CONF_FOLDER = Path(__file__).parents[1] / "conf" / "dataset"
BUILDER = "builder"  # key of a conf file
_MODULES = (
    digits,
    digits_coarse,
    digits_pca,
    binarized_mnist,
    idx_images,
    cifar,
    imagenet,
    moving_digits,
    robotic_pushing,
    uci_binary,
    csv_table,
    spoken_digits,
    tones,
)
_KINDS = image_folder.KINDS | image_shards.KINDS | arrays.KINDS | csv_file.KINDS | wav_folder.KINDS
_BUILDERS: dict[str, Callable[[Mapping[str, object]], Dataset]] = {
    name: build for module in _MODULES for name, build in module.DATASETS.items()
}


def list_datasets() -> list[str]:
    """List the names of the datasets that come with the project.

    Example:
        >>> "digits" in list_datasets()
        True
    """
    elsewhere = {path.stem for path in CONF_FOLDER.glob("*.yaml") if _builder_named(path)}
    return sorted(_BUILDERS.keys() | elsewhere)


def get_dataset(config: Mapping[str, object]) -> Dataset:
    """Build a dataset from its configuration.

    Arguments:
        config: `name` and the dataset's options; options left out have their defaults. A dataset
            of the user's own has a `kind` too (see docs/your-data.md).

    Example:
        >>> get_dataset({"name": "dna", "split": "as_distributed"}).event.shape
        (180,)

    Raises:
        UserError: for an unknown name, or an unknown or ill-typed option.
    """
    if not isinstance(config, Mapping) or "name" not in config:
        raise UserError(f"dataset: expected a mapping with the key name, got {config!r}")
    name = config["name"]
    if "kind" in config:
        return _user_dataset(name, config)
    if isinstance(name, str) and name in _BUILDERS:
        return _BUILDERS[name](config)
    elsewhere = _builder_named(CONF_FOLDER / f"{name}.yaml")
    if elsewhere is None:
        raise unknown_name("dataset", name, list_datasets())
    build: Callable[[Mapping[str, object]], Dataset] = EntryPoint(
        str(name), elsewhere, BUILDER
    ).load()
    return build(config)


def _builder_named(path: Path) -> str | None:
    """Return the function of another package that a conf file names, None without one."""
    if not path.is_file():
        return None
    try:
        builder = read_yaml(path).get(BUILDER)
    except UserError:  # a file that is not valid: asking for that very dataset names the mistake
        return None
    return builder if isinstance(builder, str) else None


def check_user_name(name: object, kind: str) -> None:
    """Check the name of a dataset of the user's own.

    Raises:
        UserError: for one that has other characters, or is that of a dataset of the project.
    """
    fits = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name)
    if not fits or name in list_datasets():
        raise UserError(
            f"dataset: expected a new name of letters, digits and '_' for one of kind "
            f"{kind}, got {name!r}"
        )


def _user_dataset(name: object, config: Mapping[str, object]) -> Dataset:
    kind = config["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise unknown_name("kind of dataset", str(kind), _KINDS)
    check_user_name(name, kind)
    return _KINDS[kind](config)


def load_config(name: str, overrides: Sequence[str] = ()) -> dict[str, object]:
    """Load `pipeline/conf/dataset/<name>.yaml` overlaid with `option=value` strings.

    Example:
        >>> load_config("dna", ["rows_per_shard=100"])["rows_per_shard"]
        100

    Raises:
        UserError: for an unknown dataset or an override that isn't `option=value`.
    """
    known = [path.stem for path in CONF_FOLDER.glob("*.yaml")]
    if name not in known:
        raise unknown_name("dataset", name, known)
    _check_overrides(name, overrides)
    try:
        asked = OmegaConf.from_dotlist(list(overrides))
        content = read_yaml(CONF_FOLDER / f"{name}.yaml")
        if "kind" in content:  # written by PyYAML (`own.adding`)
            config: object = content | cast(dict[object, object], OmegaConf.to_container(asked))
        else:
            merged = OmegaConf.merge(OmegaConf.load(CONF_FOLDER / f"{name}.yaml"), asked)
            config = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        given = f" with overrides {' '.join(overrides)}" if overrides else ""
        raise UserError(f"pipeline/conf/dataset/{name}.yaml{given}: {one_line(error)}") from None
    where = f"pipeline/conf/dataset/{name}.yaml"
    require(isinstance(config, dict), where, "a mapping", config)
    config = cast(dict[object, object], config)
    require(config.get("name") == name, f"{where}: name", repr(name), config.get("name"))
    return {str(key): value for key, value in config.items() if key != BUILDER}


def parse_overrides(name: str, overrides: Sequence[str]) -> dict[str, object]:
    """Parse `option=value` strings of a dataset.

    Example:
        >>> parse_overrides("flowers", ["height=64", "classes=[rose, tulip]"])
        {'height': 64, 'classes': ['rose', 'tulip']}

    Raises:
        UserError: for one that isn't `option=value`.
    """
    _check_overrides(name, overrides)
    try:
        plain = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)), resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise UserError(f"overrides {' '.join(overrides)}: {one_line(error)}") from None
    return {str(key): value for key, value in cast(dict[object, object], plain).items()}


def _check_overrides(name: str, overrides: Sequence[str]) -> None:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.isidentifier() or key in ("name", "kind"):
            raise UserError(
                f"override {override!r}: expected option=value with an option of dataset {name!r}"
            )

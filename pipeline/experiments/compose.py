"""Experiments from their sources: defaults, Hydra groups, the entry of params.yaml, overrides.

Defaults are written once, in dataclasses: a model's `Config`, `TrainerConfig`, `EvaluationConfig`
and `ClusterConfig`. A file of `pipeline/conf/` says what differs from them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.core import paths
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.datasets import catalog
from pipeline.experiments.schema import (
    ClusterConfig,
    EvaluationConfig,
    ExperimentConfig,
    TrainerConfig,
    build,
)

CONF = Path(__file__).parents[1] / "conf"
FILE_GROUPS = ("dataset", "cluster")
GROUPS = (*FILE_GROUPS, "model")
SECTIONS = ("dataset", "model", "trainer", "evaluation", "cluster")
ENTRY_KEYS = ("dataset", "model", "base", "model_overrides", "trainer", "evaluation")


def read_params(path: Path | None = None) -> dict[str, Any]:
    """Read params.yaml (from the working directory by default) as plain data.

    Raises:
        UserError: if it is missing or not valid YAML with a mapping of experiments.
    """
    path = path or Path("params.yaml")
    try:
        read = OmegaConf.load(path)
        loaded = OmegaConf.to_container(read, resolve=True, throw_on_missing=True)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none") from None
    except Exception as error:  # yaml and OmegaConf raise many kinds
        raise UserError(f"{path}: not valid: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("experiments"), dict):
        raise UserError(f"{path}: expected a mapping 'experiments', found none")
    experiments = {str(key): value for key, value in loaded["experiments"].items()}
    return {str(key): value for key, value in loaded.items()} | {"experiments": experiments}


def _known(group: str) -> list[str]:
    if group == "model":
        from arcore import zoo

        return zoo.list_models()
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _defaults(model: str) -> dict[str, Any]:
    from arcore import zoo  # here: it needs torch, which --help of a stage does not

    return {
        "model": {"name": model, **zoo.model_class(model).Config().to_dict()},
        "trainer": dataclasses.asdict(TrainerConfig()),
        "evaluation": dataclasses.asdict(EvaluationConfig()),
        "cluster": dataclasses.asdict(ClusterConfig()),
    }


def _compose(choices: Mapping[str, str]) -> DictConfig:
    for group, choice in choices.items():
        if choice not in _known(group):
            raise unknown_name(group, choice, _known(group))
    chosen = [f"+{group}={choices[group]}" for group in FILE_GROUPS]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        files = hydra.compose(overrides=chosen)
    return cast(DictConfig, OmegaConf.merge(_defaults(choices["model"]), files))


def read_entry(section: str, name: str) -> Mapping[str, Any]:
    """Return an entry of params.yaml, whose name must do for a folder.

    Arguments:
        section: experiments, searches or folds.
        name: its key.

    Raises:
        UserError: for an unknown name (with the nearest ones) or an entry that is no mapping.
    """
    kinds = {"experiments": "experiment", "searches": "search", "folds": "protocol of folds"}
    kind = kinds[section]
    known = read_params().get(section) or {}
    require(isinstance(known, dict), section, "a mapping", known)
    if name not in known:
        raise unknown_name(kind, name, known)
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
    require(fits, kind, "a name of letters, digits, '.', '_' and '-'", name)
    entry = known[name]
    require(isinstance(entry, dict), f"{section}.{name}", "a mapping", entry)
    return cast(Mapping[str, Any], entry)


def load(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Compose an experiment: defaults, Hydra's groups, its entry of params.yaml, overrides.

    Arguments:
        name: a key of `experiments` in params.yaml.
        overrides: `group=choice` (dataset, model, cluster) or `dotted.key=value`.

    Raises:
        UserError: for an unknown experiment, group choice or parameter (with the nearest names),
            and for a value of the wrong type or range.
    """
    entry = read_entry("experiments", name)
    for key in entry:
        if key not in ENTRY_KEYS:
            raise unknown_name(f"key of experiments.{name}", key, ENTRY_KEYS)
    return compose(name, f"experiments.{name}", entry, overrides)


def compose(
    name: str, where: str, entry: Mapping[str, Any], overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """Compose an experiment from an entry: defaults, groups, base, its overlays, overrides.

    Arguments:
        name: of the experiment.
        where: what errors call the entry.
        entry: dataset, model and, if they say anything, base, model_overrides, trainer, evaluation.
        overrides: as for `load`.

    Raises:
        UserError: as for `load`, and for a base that is missing or malformed.
    """
    choices = {"cluster": os.environ.get("ARCORE_CLUSTER", "local")}
    for group in ("dataset", "model"):
        given = entry.get(group)
        require(isinstance(given, str), f"{where}.{group}", "a name", given)
        choices[group] = cast(str, given)
    dotted = []
    for override in overrides:
        key, separator, value = override.partition("=")
        require(bool(key and separator), "override", "key=value", override)
        if key in GROUPS:
            choices[key] = value
        else:
            dotted.append(override)
    config = _compose(choices)
    overlays = {
        "model": entry.get("model_overrides") or {},
        "trainer": entry.get("trainer") or {},
        "evaluation": entry.get("evaluation") or {},
    }
    OmegaConf.set_struct(config, False)
    try:
        base = read_base(entry.get("base"), where)
        given = OmegaConf.from_dotlist(dotted)
        for key in OmegaConf.missing_keys(given):
            raise UserError(f"{key}: expected a value, got '???'")
        config = cast(DictConfig, OmegaConf.merge(config, base, overlays, given))
        plain = cast(
            dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        )
    except (
        OmegaConfBaseException,
        HydraException,
        YAMLError,
        IndexError,  # OmegaConf's, for a key like "["
        RecursionError,
    ) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None
    for key in plain:
        if key not in SECTIONS:
            raise unknown_name("parameter", key, SECTIONS)
    catalog.get_dataset(plain["dataset"])
    return ExperimentConfig(
        name=name,
        base=entry.get("base"),
        dataset=plain["dataset"],
        model=plain["model"],
        trainer=build(TrainerConfig, plain["trainer"], "trainer"),
        evaluation=build(EvaluationConfig, plain["evaluation"], "evaluation"),
        cluster=build(ClusterConfig, plain["cluster"], "cluster"),
    )


def read_base(base: Any, where: str) -> Any:
    """Read the YAML file that an experiment starts from: {model: {...}, trainer: {...}}."""
    if base is None:
        return {}
    require(isinstance(base, str), f"{where}.base", "the path of a YAML file", base)
    path = paths.root() / base
    try:
        loaded = OmegaConf.load(path if path.exists() else base)
    except FileNotFoundError:
        raise UserError(f"{where}.base: {base}: expected a file, found none; tune first?") from None
    except (OSError, YAMLError) as error:
        raise UserError(f"{where}.base: {base}: {' '.join(str(error).split())}") from None
    known = ("model", "trainer")
    for key in loaded if isinstance(loaded, DictConfig) else ["a list"]:
        if key not in known:
            raise unknown_name(f"key of {base}", key, known)
    return loaded

"""Experiments from their sources: defaults, Hydra groups, the entry of params.yaml, overrides.

Defaults are written once, in dataclasses: a model's `Config`, `TrainerConfig`, `EvaluationConfig`
and `ClusterConfig`. A file of `pipeline/conf/` says what differs from them.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.core import paths
from pipeline.core.errors import UserError, one_line, require, unknown_name
from pipeline.datasets import catalog
from pipeline.experiments import groups, naming
from pipeline.experiments.params_file import read_entry, read_params
from pipeline.experiments.schema import (
    ClusterConfig,
    EvaluationConfig,
    ExperimentConfig,
    TrainerConfig,
    build,
    member_defaults,
)

GROUPS = (*groups.FILE_GROUPS, "model")
SECTIONS = ("dataset", "model", "trainer", "evaluation", "cluster")
ENTRY_KEYS = (
    "dataset", "model", "base", "overrides", "model_overrides", "trainer", "evaluation",
)  # fmt: skip
MIXTURE_KEYS = ("dataset", "mixture", "pooled", "evaluation")


def _check_model(model: str) -> None:
    from arcore import zoo

    if model not in zoo.list_models():
        raise unknown_name("model", model, zoo.list_models())


def _defaults(model: str) -> dict[str, Any]:
    from arcore import zoo  # here: it needs torch, which --help of a stage does not

    defaults = {
        "model": {"name": model, **zoo.model_class(model).Config().to_dict()},
        "trainer": dataclasses.asdict(TrainerConfig()),
        "evaluation": dataclasses.asdict(EvaluationConfig()),
        "cluster": dataclasses.asdict(ClusterConfig()),
    }
    del defaults["trainer"]["validate_members"], defaults["evaluation"]["num_members"]
    return defaults


def _compose(choices: Mapping[str, str]) -> DictConfig:
    """Compose the defaults and the groups but the dataset's, which is not OmegaConf's to read."""
    groups.check_file("cluster", choices["cluster"])
    _check_model(choices["model"])
    try:
        with hydra.initialize_config_dir(str(groups.CONF), version_base="1.3"):
            files = hydra.compose(overrides=[f"+cluster={choices['cluster']}"])
        return cast(DictConfig, OmegaConf.merge(_defaults(choices["model"]), files))
    except (
        OmegaConfBaseException,
        HydraException,
        YAMLError,
        ValueError,
        TypeError,
        OSError,
    ) as error:
        where = f"pipeline/conf/cluster/{choices['cluster']}.yaml"
        raise UserError(f"{where}: {one_line(error)}") from None


def load(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Compose an experiment: defaults, Hydra's groups, its entry of params.yaml, overrides.

    A mixture is composed of its members' entries, see `load_mixture`.

    Overrides that change what is trained or how it is evaluated give it a name of its own
    (`pipeline.experiments.naming.variant`), so that it never stands for the entry.

    Arguments:
        name: a key of `experiments` or `mixtures` in params.yaml.
        overrides: `group=choice` (dataset, model, cluster) or `dotted.key=value`.

    Raises:
        UserError: for an unknown experiment, group choice or parameter (with the nearest names),
            and for a value of the wrong type or range.
    """
    if name in (read_params().get("mixtures") or {}):
        return load_mixture(name, overrides)
    entry = read_entry("experiments", name)
    where = f"experiments.{name}"
    for key in entry:
        if key not in ENTRY_KEYS:
            raise unknown_name(f"key of {where}", key, ENTRY_KEYS)
    config = compose(name, where, entry, overrides)
    if not overrides:
        return config
    ours, theirs = (_parts(one) for one in (compose(name, where, entry), config))
    weights = [o for o in overrides if _section(o) not in ("evaluation", "cluster")]
    results = [o for o in overrides if _section(o) != "cluster"]
    trained = name if ours[0] == theirs[0] else naming.variant(name, weights)
    evaluated = None if ours[1] == theirs[1] else naming.variant(name, results)
    return dataclasses.replace(config, name=trained, evaluated_as=evaluated)


def load_mixture(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Compose a mixture of experiments: its model has theirs as members, in the order named.

    Each member joins as it is evaluated: under so many of its masks or orderings.

    Arguments:
        name: a key of `mixtures` in params.yaml: {dataset, mixture: [experiment, ...], pooled,
            evaluation}.
        overrides: of the evaluation and the cluster, as for `load`.

    Raises:
        UserError: as for `load`, and for a member on another dataset or one that is named twice.
    """
    entry, where = read_entry("mixtures", name), f"mixtures.{name}"
    for key in entry:
        if key not in MIXTURE_KEYS:
            raise unknown_name(f"key of {where}", key, MIXTURE_KEYS)
    mixed = entry.get("mixture")
    fits = isinstance(mixed, list) and all(isinstance(one, str) for one in mixed)
    fits = fits and len(set(mixed or [])) == len(mixed or []) > 0
    require(fits, f"{where}.mixture", "a list of different experiments", mixed)
    pooled = entry.get("pooled", False)
    require(isinstance(pooled, bool), f"{where}.pooled", "true or false", pooled)
    for override in overrides:
        fits = _section(override) in ("evaluation", "cluster")
        require(fits, "override", "a key of evaluation or cluster, for a mixture", override)
    configs = [
        compose(member, f"experiments.{member}", read_entry("experiments", member))
        for member in mixed or []
    ]
    wanted = f"an experiment on {entry.get('dataset')!r}"
    for config in configs:
        fits = config.dataset["name"] == entry.get("dataset")
        require(fits, f"{where}.mixture: {config.name}", wanted, config.dataset["name"])
    shell = {"dataset": entry.get("dataset"), "model": configs[0].model["name"]}
    shell["evaluation"] = entry.get("evaluation")
    plain, changed = compose(name, where, shell), compose(name, where, shell, overrides)
    results = [o for o in overrides if _section(o) == "evaluation"]
    trainer = changed.trainer
    if any(config.trainer.precision == "float64" for config in configs):  # so are its weights
        trainer = dataclasses.replace(trainer, precision="float64")
    return dataclasses.replace(
        changed,
        trainer=trainer,
        mixture=tuple(config.name for config in configs),
        pooled=pooled,
        evaluated_as=None
        if changed.evaluation == plain.evaluation
        else naming.variant(name, results),
        model={
            "name": "pool" if pooled else "mixture",
            "members": [c.model | {"num_members": c.evaluation.num_members} for c in configs],
        },
    )


def _parts(config: ExperimentConfig) -> tuple[dict[str, object], object]:
    """What decides the weights, and what decides how they are evaluated."""
    plain = config.to_dict()
    evaluation = plain.pop("evaluation")
    return plain, evaluation


def _section(override: str) -> str:
    return override.partition("=")[0].partition(".")[0]


def compose(
    name: str,
    where: str,
    entry: Mapping[str, Any],
    overrides: Sequence[str] = (),
    start: Mapping[str, Any] | None = None,
) -> ExperimentConfig:
    """Compose an experiment from an entry: defaults, groups, base, its overlays, overrides.

    Arguments:
        name: of the experiment.
        where: what errors call the entry.
        entry: dataset, model and, if they say anything, base, model_overrides, trainer, evaluation.
        overrides: as for `load`.
        start: what `read_base` gave of the entry's base, where it was read before.

    Raises:
        UserError: as for `load`, for a base that is missing or malformed, and for a `model.name`
            that is another than the model chosen.
    """
    choices = {"cluster": groups.default_cluster()}
    for group in ("dataset", "model"):
        given = entry.get(group)
        require(isinstance(given, str), f"{where}.{group}", "a name", given)
        choices[group] = cast(str, given)
    chosen, dotted = groups.sort_overrides([*_own(entry, where), *overrides], GROUPS)
    choices = {**choices, **chosen}
    dataset = catalog.load_config(choices["dataset"])
    config = _compose(choices)
    overlays = {}
    for section, key in (("model", "model_overrides"), ("trainer",) * 2, ("evaluation",) * 2):
        overlays[section] = given = entry.get(key) or {}
        require(isinstance(given, Mapping), f"{where}.{key}", "a mapping", given)
    OmegaConf.set_struct(config, False)
    try:
        base = read_base(entry.get("base"), where) if start is None else start
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
        TypeError,  # and where a section is merged with a value
        ValueError,
        RecursionError,
    ) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None
    plain.setdefault("dataset", {})  # what overrides say of it
    for key in SECTIONS:
        require(isinstance(plain.get(key), dict), key, "a mapping", plain.get(key))
    named = plain["model"]["name"]  # dvc.yaml's dependencies are those of the model that is chosen
    expected = f"{choices['model']!r}, which 'model' chooses (by hand: model=<name>)"
    require(named == choices["model"], f"{where}: model.name", expected, named)
    plain["dataset"] = _over(dataset, plain["dataset"])  # OmegaConf would read `1e3` and "${" in it
    for key in plain:
        if key not in SECTIONS:
            asked = [o.partition("=")[0] for o in dotted if _section(o) == key]
            raise _unknown_parameter(asked[0] if asked else key, plain)
    catalog.get_dataset(plain["dataset"])
    plain = _over(member_defaults(plain["model"]), plain)
    return ExperimentConfig(
        name=name,
        base=entry.get("base"),
        dataset=plain["dataset"],
        model=plain["model"],
        trainer=build(TrainerConfig, plain["trainer"], "trainer"),
        evaluation=build(EvaluationConfig, plain["evaluation"], "evaluation"),
        cluster=build(ClusterConfig, plain["cluster"], "cluster"),
    )


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a nested mapping over another."""
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            value = _over(under, value)
        merged[key] = value
    return merged


def _unknown_parameter(key: str, plain: Mapping[str, Any]) -> UserError:
    """The error for a key outside the sections, with the parameters that end in it, or nearly."""
    known = {section: plain[section] for section in SECTIONS}
    paths_of = _dotted(known)
    inside = [path for path in paths_of if path.endswith(f".{key}")]
    if not inside:
        leaves = sorted({path.rpartition(".")[2] for path in paths_of})
        near = difflib.get_close_matches(key, leaves, n=1, cutoff=0.8)
        inside = [path for path in paths_of if near and path.endswith(f".{near[0]}")]
    if not inside or difflib.get_close_matches(key.partition(".")[0], SECTIONS, cutoff=0.7):
        return unknown_name("parameter", key.partition(".")[0], SECTIONS)
    meant = " or ".join(repr(path) for path in inside[:3])
    return UserError(f"unknown parameter {key!r}; did you mean {meant}?")


def _dotted(tree: Mapping[str, Any], above: str = "") -> list[str]:
    """The dotted names of all that a nested mapping holds, groups included."""
    found = []
    for key, value in tree.items():
        found.append(f"{above}{key}")
        if isinstance(value, dict):
            found += _dotted(value, f"{above}{key}.")
    return found


def _own(entry: Mapping[str, Any], where: str) -> list[str]:
    """The overrides that an entry itself lists, so that `dvc exp run -S` can set any parameter."""
    own = entry.get("overrides") or []
    fits = isinstance(own, list) and all(isinstance(one, str) for one in own)
    require(fits, f"{where}.overrides", "a list of key=value", own)
    for one in own:
        fits = _section(one) not in groups.FILE_GROUPS and one.partition("=")[0] != "model"
        require(fits, f"{where}.overrides", "keys of model, trainer or evaluation", one)
    return cast(list[str], own)


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
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{where}.base: {base}: {one_line(error)}") from None
    known = ("model", "trainer")
    for key in loaded if isinstance(loaded, DictConfig) else ["a list"]:
        if key not in known:
            raise unknown_name(f"key of {base}", key, known)
    return loaded

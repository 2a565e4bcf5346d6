"""Experiments from their sources: defaults, Hydra groups, the entry of params.yaml, overrides.

Defaults are written once, in dataclasses: a model's `Config`, `TrainerConfig`, `EvaluationConfig`
and `ClusterConfig`. A file of `pipeline/conf/` says what differs from them.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pipeline.core import paths
from pipeline.core.errors import UserError, require, shortened, unknown_name
from pipeline.core.records import flat, require_known
from pipeline.core.yaml_settings import overlaid, parse_overrides, read_yaml
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
BUILT = {"trainer": TrainerConfig, "evaluation": EvaluationConfig, "cluster": ClusterConfig}
SECTIONS = ("dataset", "model", *BUILT)
ENTRY_KEYS = ("dataset", "model", "base", "model_overrides", "trainer", "evaluation")
MIXTURE_KEYS = ("dataset", "mixture", "pooled", "symmetries", "evaluation")


def _hyperparameters(model: str) -> dict[str, Any]:
    """Return the defaults of a model's section, its name among them."""
    from arcore import zoo  # here: it needs torch, which other refusals do not

    if model not in zoo.list_models():
        raise unknown_name("model", model, zoo.list_models())
    try:
        kind = zoo.model_class(model)
    except ValueError as error:  # another package's, which cannot be imported
        raise UserError(f"model: {error}") from None
    defaults = {"name": model, **kind.Config().to_dict()}
    return cast("dict[str, Any]", json.loads(json.dumps(defaults)))


def _defaults() -> dict[str, Any]:
    """Return the defaults of all sections but the model's."""
    defaults: dict[str, Any] = {
        "dataset": {},
        "model": {},
        "trainer": dataclasses.asdict(TrainerConfig()),
        "evaluation": dataclasses.asdict(EvaluationConfig()),
        "cluster": dataclasses.asdict(ClusterConfig()),
    }
    del defaults["trainer"]["validate_members"], defaults["evaluation"]["num_members"]
    return cast("dict[str, Any]", json.loads(json.dumps(defaults)))


def load(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Compose an experiment: defaults, Hydra's groups, its entry of params.yaml, overrides.

    A mixture is composed of its members' entries, see `load_mixture`.

    Overrides that change what is trained or how it is evaluated give it a name of its own
    (`pipeline.experiments.naming.variant`), so that it never stands for the entry.
    """
    if name in (read_params().get("mixtures") or {}):
        return load_mixture(name, overrides)
    entry = read_entry("experiments", name)
    where = f"experiments.{name}"
    require_known(entry, ENTRY_KEYS, where)
    return _changed(name, where, entry, overrides)


def _changed(
    name: str, where: str, entry: Mapping[str, Any], overrides: Sequence[str]
) -> ExperimentConfig:
    """Compose an entry; what overrides change has a name of its own."""
    config = compose(name, where, entry, overrides)
    if not overrides:
        return config
    before, after = compose(name, where, entry).to_dict(), config.to_dict()
    evaluated = trained = None
    if before.pop("evaluation") != after.pop("evaluation"):
        evaluated = naming.variant(name, [o for o in overrides if _section(o) != "cluster"])
    if before != after:
        weights = [o for o in overrides if _section(o) not in ("evaluation", "cluster")]
        trained = naming.variant(name, weights)
    return dataclasses.replace(config, name=trained or name, evaluated_as=evaluated)


def load_mixture(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Compose a mixture of experiments: its model has theirs as members, in the order named.

    Each member joins as it is evaluated: under so many of its masks or orderings.
    """
    entry, where = read_entry("mixtures", name), f"mixtures.{name}"
    require_known(entry, MIXTURE_KEYS, where)
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
    changed = _changed(name, where, shell, overrides)
    trainer = changed.trainer
    if any(config.trainer.precision == "float64" for config in configs):  # so are its weights
        trainer = dataclasses.replace(trainer, precision="float64")
    return dataclasses.replace(
        changed,
        trainer=trainer,
        mixture=tuple(config.name for config in configs),
        pooled=pooled,
        model={
            "name": "pool" if pooled else "mixture",
            "members": [c.model | {"num_members": c.evaluation.num_members} for c in configs],
            **{key: entry[key] for key in ("symmetries",) if key in entry},
        },
    )


def _section(override: str) -> str:
    return override.partition("=")[0].partition(".")[0]


def compose(
    name: str,
    where: str,
    entry: Mapping[str, Any],
    overrides: Sequence[str] = (),
    start: Mapping[str, Any] | None = None,
) -> ExperimentConfig:
    """Compose an experiment from an entry: defaults, groups, base, its overlays, overrides."""
    choices = dict[str, str]()
    for group in ("dataset", "model"):
        given = entry.get(group)
        require(isinstance(given, str), f"{where}.{group}", "a name", given)
        choices[group] = cast(str, given)
    chosen, dotted = groups.sort_overrides(overrides, GROUPS)
    choices = {**choices, **chosen}
    layers = [
        {"dataset": catalog.load_settings(choices["dataset"])},
        groups.compose_cluster(choices.get("cluster")),
        read_base(entry.get("base"), where) if start is None else start,
        _overlays(entry, where),
        parse_overrides(dotted),
    ]
    plain = functools.reduce(overlaid, layers, _defaults())
    for section, kind in BUILT.items():  # first, since the model takes torch to check
        build(kind, plain[section], section)
    require(isinstance(plain["model"], dict), "model", "a mapping", plain["model"])
    plain["model"] = overlaid(_hyperparameters(choices["model"]), plain["model"])
    for key in plain:
        if key not in SECTIONS:
            asked = [o.partition("=")[0] for o in dotted if _section(o) == key]
            known = [*SECTIONS, *flat({section: plain[section] for section in SECTIONS})]
            raise unknown_name("parameter", (asked or [key])[0], known)
        require(isinstance(plain[key], dict), key, "a mapping", plain[key])
    named = plain["model"]["name"]  # dvc.yaml's dependencies are those of the model that is chosen
    expected = f"{choices['model']!r}, which 'model' chooses (by hand: model=<name>)"
    require(named == choices["model"], f"{where}: model.name", expected, named)
    searched = start is not None
    _check_hyperparameters(plain["model"], f"{where}: model" if searched else "model")
    catalog.get_dataset(plain["dataset"])
    plain = overlaid(member_defaults(plain["model"]), plain)
    return ExperimentConfig(
        name=name,
        base=entry.get("base"),
        dataset=plain["dataset"],
        model=plain["model"],
        trainer=build(TrainerConfig, plain["trainer"], "trainer"),
        evaluation=build(EvaluationConfig, plain["evaluation"], "evaluation"),
        cluster=build(ClusterConfig, plain["cluster"], "cluster"),
    )


def _check_hyperparameters(model: Mapping[str, Any], where: str) -> None:
    """Refuse what a model's `Config` does, without the shards that its event is read from."""
    from arcore import hyperparameters, zoo  # here, as above

    named = str(model["name"])
    given = {k: v for k, v in model.items() if isinstance(k, str) and k not in ("name", "event")}
    try:
        hyperparameters.build_hyperparameters(zoo.model_class(named).Config, given, named)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _overlays(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    overlays = {}
    for section, key in (("model", "model_overrides"), ("trainer",) * 2, ("evaluation",) * 2):
        overlays[section] = given = entry.get(key) or {}
        require(isinstance(given, Mapping), f"{where}.{key}", "a mapping", given)
    return overlays


def read_base(base: object, where: str) -> Mapping[str, Any]:
    """Read the YAML file that an experiment starts from: {model: {...}, trainer: {...}}."""
    if base is None:
        return {}
    require(isinstance(base, str), f"{where}.base", "the path of a YAML file", base)
    path = paths.root() / str(base)
    if not os.path.exists(path):  # also if no file can have such a name
        got = shortened(str(base))
        raise UserError(f"{where}.base: {got}: expected a file, found none; tune first?")
    loaded = read_yaml(path)
    require_known(loaded, ("model", "trainer"), str(base))
    return {key: value or {} for key, value in loaded.items()}

"""Typed configuration of a search: an experiment, a space around it, how it is searched."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

import torch
from pydantic import Field

from arcore.conditions import Classes
from pipeline.artifacts.artifact import Artifact
from pipeline.core.errors import UserError, require
from pipeline.core.records import require_known
from pipeline.core.yaml_settings import nested, overlaid, parse_overrides
from pipeline.data.manifest import Manifest
from pipeline.experiments import compose, groups, naming, params_file, schema
from pipeline.experiments.schema import Count, Positive, Seed
from pipeline.search.space import Parameter, parse_space
from pipeline.training.resolved import create_model, fit, resolve

NATS, SECONDS = OBJECTIVES = "valid_nats", "sampling_seconds"
ENTRY_KEYS = ("dataset", "model", "base", "model_overrides", "trainer", "space", "cluster")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How trials that promise little are stopped (ASHA; Li et al. 2018), or that none is.

    Attributes:
        name: asha or none.
        grace_epochs: no trial is stopped before.
        reduction_factor: at each rung, one in this many trials goes on.
    """

    name: Literal["asha", "none"] = "asha"
    grace_epochs: Count = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How a space is searched.

    Attributes:
        num_trials: draws; where the space has grids, draws for each point of the grid.
        searcher: optuna (TPE; Bergstra et al. 2011) or random, which grids need.
        scheduler: what stops trials early.
        seed: of the draws. With several trials at a time the order in which they end enters too.
        time_budget_minutes: no trial starts later and running ones are stopped; null for no limit.
        objectives: what is lowered: valid_nats, and optionally sampling_seconds, for which
            each trial is trained to its end by one worker.
    """

    num_trials: Count = 20
    searcher: Literal["optuna", "random"] = "optuna"
    scheduler: SchedulerConfig = dataclasses.field(default_factory=SchedulerConfig)
    seed: Seed = 0
    time_budget_minutes: Positive | None = None
    objectives: list[str] = dataclasses.field(default_factory=lambda: [NATS])

    def __post_init__(self) -> None:
        known = tuple(self.objectives) in (OBJECTIVES[:1], OBJECTIVES)
        expected = f"{[NATS]} or {list(OBJECTIVES)}"
        require(known, "objectives", expected, self.objectives)
        fits = len(self.objectives) == 1 or self.scheduler.name == "none"
        require(fits, "scheduler.name", "none with two objectives", self.scheduler.name)


PLAN_KEYS = tuple(field.name for field in dataclasses.fields(PlanConfig))


@dataclasses.dataclass(frozen=True)
class Search:
    """A search of params.yaml.

    Attributes:
        name: its key, or what overrides made of it (`pipeline.experiments.naming.variant`).
        entry: dataset, model, base, model_overrides, trainer: what a trial starts from.
        overrides: from the command line, for every trial.
        base: the experiment of the entry as it is.
        start: content of the file that the entry's `base` names, as it was when this was loaded.
        space, plan: what is searched, and how.
    """

    name: str
    key: str
    entry: Mapping[str, object]
    overrides: tuple[str, ...]
    base: schema.ExperimentConfig
    start: Mapping[str, object]
    space: tuple[Parameter, ...]
    plan: PlanConfig

    @property
    def total(self) -> int:
        """Number of trials."""
        grids = [len(p.values) for p in self.space if p.kind == "grid"]
        return self.plan.num_trials * math.prod(grids)

    def experiment(self, values: Mapping[str, object]) -> schema.ExperimentConfig:
        """Return the experiment of a trial from its values by parameter name.

        No file is read: a trial runs where the configuration of a dataset or cluster may be none.
        """
        where = f"searches.{self.key}"
        given = {"model": dict(self.base.model), "trainer": dataclasses.asdict(self.base.trainer)}
        plain = overlaid(given, nested(values))
        named, expected = plain["model"]["name"], f"{self.base.model['name']!r}, the entry's"
        require(named == self.base.model["name"], f"{where}: model.name", expected, named)
        derived = schema.member_defaults(plain["model"])
        stated = cast(Mapping[str, object], self.overlay(values)["trainer"])
        if "validate_members" not in stated:
            plain["trainer"] |= derived["trainer"]
        trainer = schema.build(schema.TrainerConfig, plain["trainer"], "trainer")
        weights = trainer.initial_weights
        require(not weights, "trainer.initial_weights", "null for a search", weights)
        count = derived["evaluation"]["num_members"]
        evaluation = dataclasses.replace(self.base.evaluation, num_members=count)
        return dataclasses.replace(
            self.base, model=plain["model"], trainer=trainer, evaluation=evaluation
        )

    def defaults(self) -> dict[str, object] | None:
        """Return the base experiment's own values, None if a draw could not give them."""
        values: dict[str, object] = {}
        for parameter in self.space:
            value: object = self.base.to_dict()
            for key in parameter.name.split("."):
                assert isinstance(value, dict), "the base was composed, so it has the parameter"
                value = value.get(key)  # what is null may be left out
            if not parameter.contains(value):
                return None
            values[parameter.name] = value
        return values

    def overlay(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return what an experiment needs as its `base` to train as the trial with these values."""
        given = {"model": self.entry.get("model_overrides"), "trainer": self.entry.get("trainer")}
        _, dotted = groups.sort_overrides(self.overrides, compose.GROUPS)
        fixed = {k: v for k, v in parse_overrides(dotted).items() if k in given}
        layers = ({k: v or {} for k, v in given.items()}, fixed, nested(values))
        return functools.reduce(overlaid, layers, dict(self.start))

    def config_hash(self, dataset_sha256: str) -> str:
        """Return a hash of what decides the search: experiment, data, space and plan."""
        plan = dataclasses.asdict(self.plan)
        if plan["objectives"] == [NATS]:  # as of before there was another
            del plan["objectives"]
        decisive = {
            "base": self.base.to_dict(),
            "space": [dataclasses.astuple(parameter) for parameter in self.space],
            "plan": plan,
            "dataset_sha256": dataset_sha256,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def check(self, manifest: Manifest) -> None:
        """Build the model, without memory, for each option and end of range of each parameter."""
        try:
            resolve(self.base, manifest)
        except UserError as error:
            raise UserError(f"searches.{self.key}: {error}") from None
        if SECONDS in self.plan.objectives:
            where = f"searches.{self.key}.objectives"
            with torch.device("meta"):
                kind = create_model(self.base.model, manifest.event).condition_kind
            wanted = "a model of no condition but a class to time its samples"
            fits = kind is None or isinstance(kind, Classes)
            require(fits, where, wanted, type(kind).__name__)
            workers = self.base.cluster.num_workers
            require(workers <= 1, "cluster.num_workers", f"at most 1 for {SECONDS}", workers)
        for parameter in self.space:
            for value in parameter.examples():
                try:
                    fit(self.experiment({parameter.name: value}), manifest)
                except UserError as error:
                    where = f"searches.{self.key}.space.{parameter.name}"
                    raise UserError(f"{where}: {json.dumps(value)}: {error}") from None


@dataclasses.dataclass(frozen=True)
class SearchRun:
    """A search under way, on the driver and in its trials.

    Attributes:
        config_hash: of all that decides the search.
        place: folder or URI of its trials, another one for each config hash.
        run_id: of MLflow, the parent of the trials' runs; None where the store cannot be reached.
        resources: of one trial.
        shards: where every host reaches them.
        code_sha256: of the driver's code; None where its source is not at hand.
    """

    search: Search
    manifest: Manifest
    config_hash: str
    place: str
    mlflow_experiment: str
    output: Artifact
    run_id: str | None = None
    resources: schema.ClusterConfig = schema.ClusterConfig()
    shards: str = ""
    code_sha256: str | None = None


def load_search(name: str, overrides: Sequence[str] = ()) -> Search:
    """Load a search of params.yaml, with overrides of its plan (`num_trials=4`) or experiment."""
    entry = dict(params_file.read_entry("searches", name))
    where = f"searches.{name}"
    require_known(entry, (*ENTRY_KEYS, *PLAN_KEYS), where)
    ours = [o for o in overrides if o.partition("=")[0].partition(".")[0] in PLAN_KEYS]
    cluster = entry.pop("cluster", None) or {}
    require(isinstance(cluster, dict), f"{where}.cluster", "a mapping", cluster)
    theirs = tuple(f"cluster.{key}={value}" for key, value in cluster.items())
    theirs += tuple(o for o in overrides if o not in ours)
    plan = {key: entry.pop(key) for key in PLAN_KEYS if key in entry}
    plan = overlaid(plan, parse_overrides(ours))
    space = parse_space(entry.pop("space", None), f"{where}.space")
    built = schema.build(PlanConfig, plan, where)
    if built.searcher != "random" and any(p.kind == "grid" for p in space):
        raise UserError(f"{where}.searcher: expected 'random' for a space with a grid")
    for override in theirs:
        key = override.partition("=")[0]
        require_known({key.partition(".")[0]: None}, (*PLAN_KEYS, *compose.SECTIONS), where)
        if any(parameter.name == key for parameter in space):
            raise UserError(f"{override}: expected what {where}.space does not draw")
    if len(built.objectives) > 1 and any(p.name == "trainer.seed" for p in space):
        raise UserError(f"{where}.space: trainer.seed: expected one seed with two objectives")
    start = compose.read_base(entry.get("base"), where)
    base = compose.compose(name, where, entry, theirs, start)
    decisive = [o for o in overrides if o.partition("=")[0].partition(".")[0] != "cluster"]
    title = naming.variant(name, decisive) if decisive else name
    return Search(title, name, entry, theirs, base, start, space, built)

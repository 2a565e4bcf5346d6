"""An experiment checked against its data, with every hyperparameter: all that decides a result."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch

from arcore import events, zoo
from arcore.events import Event
from arcore.model import AutoregressiveModel
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.data.manifest import Manifest
from pipeline.datasets import catalog
from pipeline.datasets.options import NOT_AFFECTING_ROWS, PLACES
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import initial_weights

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.float32,
    "auto": torch.float32,
    "float64": torch.float64,
}  # of weights


@dataclass(frozen=True)
class ResolvedConfig:
    """The content of a model's config.yaml, with all hyperparameters of the model."""

    experiment: ExperimentConfig
    model: Mapping[str, object]
    event: Event
    dataset_sha256: str
    initial_sha256: str | None = None  # of the weights that training starts from

    @property
    def config_hash(self) -> str:
        """The hash of all that decides the trained weights."""
        return self.experiment.config_hash(self.dataset_sha256, self.initial_sha256)

    def build(self) -> AutoregressiveModel:
        """Build the model without memory, of the dtype that its weights have."""
        with torch.device("meta"):
            model = create_model(self.model, self.event)
        return model.to(DTYPES[self.experiment.trainer.precision])

    def to_dict(self) -> dict[str, object]:
        """Return the content of config.yaml, as plain types."""
        described = self.experiment.to_dict() | {
            "base": self.experiment.base,
            "model": dict(self.model),
            "event": events.to_dict(self.event),
            "dataset_sha256": self.dataset_sha256,
        }
        if self.initial_sha256 is not None:
            described["initial_weights_sha256"] = self.initial_sha256
        return described


def resolve(config: ExperimentConfig, manifest: Manifest) -> ResolvedConfig:
    """Check an experiment against its shards, by building the model without memory."""
    check_shards(config.dataset, manifest)
    sha256 = initial_weights.sha256_of(config.trainer.initial_weights)
    return replace(fit(config, manifest), initial_sha256=sha256)


def fit(config: ExperimentConfig, manifest: Manifest) -> ResolvedConfig:
    """As `resolve`, whatever the shards were made of."""
    with torch.device("cpu" if config.pooled else "meta"):  # orderings of a pool are compared
        model = create_model(config.model, manifest.event)
    check_condition(model, manifest)
    check_frames(config, model, manifest)
    if manifest.has_holes and not model.gives_marginals:
        wanted = "one of any order (deep_nade, any_order_transformer), as cells are missing"
        raise UserError(f"model: expected {wanted}, got {config.model['name']}")
    members = max(config.trainer.validate_members or 1, config.evaluation.num_members or 1)
    if members > 1:
        try:
            model.ensemble(members)
        except ValueError as error:
            raise UserError(str(error)) from None
    hyperparameters = {"name": config.model["name"]} | model.hyperparameters.to_dict()
    return ResolvedConfig(config, hyperparameters, manifest.event, manifest.sha256)


def create_model(model: Mapping[str, object], event: Event) -> AutoregressiveModel:
    """Create a model from its configuration ({name, ...hyperparameters})."""
    hyperparameters = {key: value for key, value in model.items() if key != "name"}
    for key in hyperparameters:  # which Python would not take for a keyword of this function
        fits = isinstance(key, str) and key != "event"
        require(fits, "model", "the names of hyperparameters as keys", key)
    try:
        return zoo.create_model(str(model["name"]), event, **hyperparameters)
    except ValueError as error:
        raise UserError(f"model: {error}") from None


def check_shards(dataset: Mapping[str, object], manifest: Manifest) -> None:
    """Check that shards were made with a dataset's options, and of the files that overrides name.

    Options that an older manifest does not have are passed over. So is where the dataset's own
    configuration says that its files are: elsewhere on another host, and not read again.
    """
    options = asdict(catalog.get_dataset(dataset).options)
    wanted: dict[str, object] = json.loads(json.dumps(options))  # as the manifest has them
    found = manifest.options
    for key in sorted(wanted.keys() & found.keys() - NOT_AFFECTING_ROWS):
        if wanted[key] != found[key]:
            got = f"those made with {found[key]!r}"
            raise _other_shards(dataset, key, f"with {wanted[key]!r}", got)
    for key in PLACES:
        asked, made = dataset.get(key), found.get(key)
        if asked is None or (made is not None and _place(asked) == _place(made)):
            continue
        if asked != catalog.load_settings(str(dataset["name"])).get(key):
            got = "those that do not say" if made is None else f"those made of {made!r}"
            raise _other_shards(dataset, key, f"of {asked!r}", got)


def _place(given: object) -> str:
    return os.path.normpath(paths.root() / str(given))


def _other_shards(dataset: Mapping[str, object], key: str, expected: str, got: str) -> UserError:
    """Return the error that names an option and the command that makes shards with all of them."""
    name = str(dataset["name"])
    filed = catalog.load_settings(name)
    given = {key: value for key, value in dataset.items() if filed.get(key) != value}
    texts = (f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in given.items())
    command = " ".join(["python -m stages.preprocess", name, *map(shlex.quote, texts)])
    return UserError(f"dataset.{key}: expected shards made {expected}, got {got}; run {command}")


def check_frames(config: ExperimentConfig, model: AutoregressiveModel, manifest: Manifest) -> None:
    """Check that clips with given frames have a model that scores the rest."""
    if manifest.context_frames and not model.scores_parts:
        raise UserError(
            f"{config.name}: expected a model over clips for {manifest.dataset}, of which "
            f"{manifest.context_frames} frames are given, got {config.model['name']}"
        )


def check_condition(model: AutoregressiveModel, manifest: Manifest) -> None:
    """Check that a dataset's rows come with the condition that a model asks for."""
    for name, asked in model.hyperparameters.asked_conditions().items():
        known = manifest.conditions.get(name)
        if asked != known:
            expected = "null" if known is None else f"null or {known}"
            where = f"for dataset {manifest.dataset}"
            raise UserError(f"model.{name}: expected {expected}, got {asked}, {where}")

"""Trained models, from models/<experiment>/, and whether they are as their experiments are now."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import arcore
from arcore import saving
from pipeline.artifacts import reader
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, explained, one_line, require
from pipeline.core.records import flat, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.data.manifest import Manifest
from pipeline.datasets.options import NOT_HASHED
from pipeline.experiments import naming
from pipeline.experiments.params_file import read_entry, stages_of
from pipeline.experiments.schema import ADDED, ExperimentConfig, TrainerConfig, member_defaults
from pipeline.training import checkpoints
from pipeline.training.resolved import DTYPES, create_model, resolve
from pipeline.training.training_records import TrainingRecord

# what of config.yaml decides the weights
TRAINED = ("dataset", "model", "trainer", "initial_weights_sha256")


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights, and where they came from.

    Attributes:
        model: in evaluation mode, on the CPU.
        content: of config.yaml.
        record: of its training; None where DVC restored the folder from its cache.
    """

    model: arcore.AutoregressiveModel
    name: str
    dataset_sha256: str
    weights_sha256: str
    content: Mapping[str, Any]
    record: TrainingRecord | None


def load(experiment: str) -> TrainedModel:
    """Load a trained model from models/<experiment>/, as `pipeline.training.driver` wrote it."""
    folder = paths.model(experiment)
    for path in (folder / "config.yaml", folder / "model.safetensors"):
        if not path.is_file():
            raise UserError(
                f"{path}: expected the trained model of {experiment!r}, found none; "
                f"{_how_to_make(experiment)}"
            )
    return load_folder(folder)


def _how_to_make(experiment: str) -> str:
    """Say what makes a model; a `UserError` for one that params.yaml does not have."""
    entry, _, settings = experiment.partition(naming.SEPARATOR)
    made_by = stages_of(entry)[0]
    if made_by == "train" and not settings:
        read_entry("experiments", entry)
    alike = " with the same settings" if settings else ""
    return f"run python -m stages.{made_by} {entry}{alike}"


def load_folder(folder: Path) -> TrainedModel:
    """Load the model of such a folder, wherever it is."""
    arcore.tune_process(flush_denormals=False)  # whoever loads a model computes with it
    reader.check_files(folder, "restore the folder, or make it again")
    weights = folder / "model.safetensors"
    before = sha256_of(weights) if weights.is_file() else None
    try:
        content = read_yaml(folder / "config.yaml")
        where = str(folder / "config.yaml")
        model, name, sha256 = saving.create_within(weights, lambda: _described(content, where))
        record = TrainingRecord.of(folder)
    except UserError as error:
        raise UserError(f"{folder}: damaged model folder: {one_line(error)}") from None
    except ValueError as error:  # of the weights
        raise UserError(str(error)) from None
    checkpoints.load_weights(weights, model)
    check_weights(weights, str(before), str(folder))
    return TrainedModel(model.eval(), name, sha256, str(before), content, record)


def _described(
    content: Mapping[str, object], where: str
) -> tuple[arcore.AutoregressiveModel, str, str]:
    """Return the model that a config.yaml describes, its name, and the hash of its data."""
    hyperparameters = value_of(content, "model", dict, where)
    name = value_of(hyperparameters, "name", str, f"{where}: model")
    sha256 = value_of(content, "dataset_sha256", str, where)
    trainer = value_of(content, "trainer", dict, where) if "trainer" in content else {}
    precision = trainer.get("precision", "float32")
    require(
        precision in tuple(DTYPES), f"{where}: trainer.precision", str(tuple(DTYPES)), precision
    )
    with explained(f"{where}:", TypeError, ValueError):
        event = arcore.events.from_dict(value_of(content, "event", dict, where))
    return create_model(hyperparameters, event).to(DTYPES[precision]), name, sha256


def check_data(trained: TrainedModel, manifest: Manifest, where: str) -> None:
    """Refuse data that a model was not trained on."""
    if trained.dataset_sha256 != manifest.sha256:
        raise UserError(
            f"{where}: expected the data that it was trained on ({trained.dataset_sha256[:12]}), "
            f"got {manifest.sha256[:12]}; train it again"
        )


def check_weights(weights: Path, sha256: str, name: str) -> None:
    """Refuse weights, or a copy, that have another hash than before."""
    if sha256_of(weights) != sha256:
        raise UserError(f"{name}: trained again meanwhile; run this again")


def check_entry(config: ExperimentConfig, trained: TrainedModel, manifest: Manifest) -> None:
    """Check that a model was trained as its experiment is described now."""
    made = f"run python -m stages.{stages_of(config.name)[0]} {config.name}"
    if config.mixture and "weights" not in trained.content:
        raise UserError(f"models/{config.name}: expected weights fitted by stages.mix; {made}")
    where = f"models/{config.name}/config.yaml"
    members = {"members_sha256": {}, **trained.content}  # older ones have none
    for name, weights in value_of(members, "members_sha256", dict, where).items():
        path = paths.model(name) / "model.safetensors"
        if path.is_file() and sha256_of(path) != weights:
            raise UserError(
                f"models/{config.name}: expected a mixture of models/{name} as it is, got one of "
                f"what it was before; {made}"
            )
    defaults = _flat({"trainer": ADDED})  # which configurations leave out
    wanted = defaults | _flat(resolve(config, manifest).to_dict())
    found = _content_of(trained)
    if wanted["trainer.precision"] == "auto" and found.get("trainer.precision") != "float64":
        found["trainer.precision"] = "auto"  # which is either of the others
    if "initial_weights_sha256" not in wanted:  # the file is not here any more
        found.pop("initial_weights_sha256", None)
    passed_over = {f"dataset.{option}" for option in NOT_HASHED}
    passed_over |= {key for key in wanted.keys() - found if key.startswith("dataset.")}  # newer
    for key in sorted((wanted.keys() | found) - passed_over):
        if key.partition(".")[0] in TRAINED and wanted.get(key) != found.get(key):
            expected = f"expected {wanted.get(key)!r} as the experiment has it"
            got = f"got {found.get(key)!r}"
            raise UserError(f"models/{config.name}: {key}: {expected}, {got}; {made}")


def _content_of(trained: TrainedModel) -> dict[str, Any]:
    """What a config.yaml says, with the defaults of what it, being older, leaves out."""
    model = {"name": trained.name} | trained.model.hyperparameters.to_dict()
    trainer = asdict(TrainerConfig()) | member_defaults(model)["trainer"]
    defaults = _flat({"model": model, "trainer": trainer})
    return defaults | flat(trained.content)


def _flat(tree: dict[str, object]) -> dict[str, Any]:
    return flat(json.loads(json.dumps(tree)))  # as a file has it

"""Whether a model was trained as its experiment is described now."""

import json
from dataclasses import asdict
from typing import Any

from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.core.records import flat, value_of
from pipeline.data.manifest import Manifest
from pipeline.datasets.options import NOT_HASHED
from pipeline.experiments import params_file
from pipeline.experiments.schema import ADDED, ExperimentConfig, TrainerConfig, member_defaults
from pipeline.training.resolved import resolve
from pipeline.training.saved_models import TrainedModel

TRAINED = (
    "dataset",
    "model",
    "trainer",
    "initial_weights_sha256",
)  # what of config.yaml decides the weights


def check(config: ExperimentConfig, trained: TrainedModel, manifest: Manifest) -> None:
    """Check that a model was trained as its experiment is described now."""
    made = f"run python -m stages.{params_file.stages_of(config.name)[0]} {config.name}"
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
    found = _described(trained)
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


def _described(trained: TrainedModel) -> dict[str, Any]:
    """What a config.yaml says, with the defaults of what it, being older, leaves out."""
    model = {"name": trained.name} | trained.model.hyperparameters.to_dict()
    trainer = asdict(TrainerConfig()) | member_defaults(model)["trainer"]
    defaults = _flat({"model": model, "trainer": trainer})
    return defaults | flat(trained.content)


def _flat(tree: dict[str, object]) -> dict[str, Any]:
    return flat(json.loads(json.dumps(tree)))  # as a file has it

"""Whether a model was trained as its experiment is described now."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.core.errors import UserError
from pipeline.data.manifest import Manifest
from pipeline.datasets.base import UNDECISIVE
from pipeline.experiments import compose, params_file
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training.resolved import resolve

TRAINED = ("dataset", "model", "trainer")  # what of config.yaml decides the weights


def check(config: ExperimentConfig, content: Mapping[str, object], manifest: Manifest) -> None:
    """Check that a model was trained as its experiment is described now.

    Arguments:
        config: of the experiment.
        content: of the model's config.yaml.
        manifest: of its shards.

    Raises:
        UserError: naming the key that differs and the stage that makes the model anew.
    """
    made = f"run python -m stages.{params_file.stages_of(config.name)[0]} {config.name}"
    if config.mixture and "weights" not in content:
        raise UserError(f"models/{config.name}: expected weights fitted by stages.mix; {made}")
    wanted = compose.flat(json.loads(json.dumps(resolve(config, manifest).to_dict())))
    found = compose.flat(content)
    found.setdefault("trainer.train_rows", None)  # what is not written where it is all of them
    if wanted["trainer.precision"] == "auto" and found.get("trainer.precision") != "float64":
        found.pop("trainer.precision", None)  # auto is either of the others
    undecisive = {f"dataset.{option}" for option in UNDECISIVE}
    for key, value in found.items():
        decides = key.partition(".")[0] in TRAINED and key not in undecisive
        if decides and wanted.get(key) != value:
            expected = f"expected {wanted.get(key)!r} as the experiment has it"
            raise UserError(f"models/{config.name}: {key}: {expected}, got {value!r}; {made}")

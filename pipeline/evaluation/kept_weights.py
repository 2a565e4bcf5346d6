"""Weights that results/ keeps, with the record that they must be those of."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.evaluation import result_files
from pipeline.evaluation.result_records import Result
from pipeline.experiments import naming
from pipeline.training import saved_models
from pipeline.training.saved_models import TrainedModel

WEIGHTS = "model.safetensors"


def read_record(folder: Path) -> Result:
    """Read the record of a folder of results/.

    Raises:
        UserError: if there is none, or it is malformed.
    """
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder}: expected a record, found none")
    return result_files.read(folder)


def load(folder: Path) -> TrainedModel:
    """Load the weights next to a record.

    Raises:
        UserError: if no weights are kept, they are damaged, or others than the record's.
    """
    if not (folder / WEIGHTS).is_file():
        name = naming.experiment_of(folder.name)
        raise UserError(
            f"{folder}: no weights are kept; run python -m stages.train {name} and "
            f"python -m stages.evaluate {name}"
        )
    return saved_models.load_folder(folder)

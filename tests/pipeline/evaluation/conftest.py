"""A project with an untrained model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import arcore
from pipeline.data.manifest import read_manifest
from pipeline.training.training_records import TrainingRecord

EVENT = arcore.events.Binary((1, 8, 8))


def place(model, name: str, dataset: str = "digits_binary") -> None:
    save_file(model.state_dict(), "models/toy/model.safetensors")
    described = {
        "model": {"name": name} | model.hyperparameters.to_dict(),
        "event": arcore.events.to_dict(model.event),
        "dataset_sha256": read_manifest(f"data/shards/{dataset}").sha256,
    }
    Path("models/toy/config.yaml").write_text(yaml.safe_dump(described))


@pytest.fixture(name="place")
def placed():
    return place


@pytest.fixture
def project(workdir, few_digits):
    """A working directory with shards and an untrained MADE of three masks, `toy`."""
    shutil.copytree(few_digits, "data/shards/digits_binary")
    small = {"hidden": [8], "num_masks": 3}
    entry = {
        "dataset": "digits_binary",
        "model": "made",
        "model_overrides": small,
        "evaluation": {"num_members": 1},
    }
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    torch.manual_seed(0)
    model = arcore.create_model("made", EVENT, hidden=[8], num_masks=3).eval()
    folder = Path("models/toy")
    folder.mkdir(parents=True)
    place(model, "made")
    record = TrainingRecord(
        experiment="toy", run_id=None, mlflow_experiment="arcore-toy", num_parameters=1,
        train_seconds=1.0, device="cpu", num_workers=1, epochs=2, best_epoch=2, commit="abc",
    ).to_dict()  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    (folder / "history.csv").write_text("epoch,train_nats,valid_nats\n1,40.0,41.0\n2,39.0,\n")
    return model

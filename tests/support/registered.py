"""What train and evaluate leave behind, for the registry."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from safetensors.torch import save_file

import arcore
from arcore import saving
from pipeline.registry import pyfunc
from tests.support.measured_files import TRAINING, MeasuredFiles

EVENT = arcore.events.Levels(5, (1, 2, 3))


def experiment(
    name: str, model: str, valid_nats: float, members: int = 1, event=EVENT, **hyperparameters
):
    """Write what train and evaluate leave behind; return the model as it was evaluated."""
    torch.manual_seed(len(name))
    built = arcore.create_model(model, event, **hyperparameters)
    MeasuredFiles().evaluated(
        "toy", name, 8.0, event, "bits_per_dim", model, num_members=members, nats_stderr=0.1,
        bits_per_dim_stderr=arcore.units.nats_to_bits_per_dim(0.1, event), num_rows=7,
        valid_nats=valid_nats, num_parameters=None, train_seconds=None,
    )  # fmt: skip
    folder = Path("models", name)
    save_file(built.state_dict(), folder / "model.safetensors")
    saving.write_config(built, folder)
    config = {
        "name": name,
        "dataset": {"name": "toy"},
        "model": {"name": model, **built.hyperparameters.to_dict()},
        "event": arcore.events.to_dict(event),
        "evaluation": {"num_members": members},
        "dataset_sha256": "d" * 64,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "history.csv").write_text(
        "epoch,step,seconds,learning_rate,train_nats,valid_nats,valid_bits_per_dim\n"
        "1,10,0.5,0.1,9.0,9.1,2.2\n2,20,0.5,0.1,8.0,8.1,1.9\n"
    )
    training = {"experiment": name, "run_id": "0" * 32, "mlflow_experiment": "arcore-toy"}
    (folder / "training.json").write_text(json.dumps(TRAINING | training))
    return built.ensemble(members) if members > 1 else built


def exported(
    folder: Path, name: str, model: arcore.AutoregressiveModel, **evaluation: int
) -> pyfunc.ArcoreModel:
    """Return a model as it is loaded from what was exported of it."""
    arcore.save(model, folder)
    config = {
        "model": {"name": name, **model.hyperparameters.to_dict()},
        "event": arcore.events.to_dict(model.event),
        "evaluation": evaluation,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return imported(folder)


def imported(folder: Path) -> pyfunc.ArcoreModel:
    loaded = pyfunc.ArcoreModel()
    loaded.load_context(SimpleNamespace(artifacts={"model": str(folder)}, model_config=None))
    return loaded

"""What a training leaves beside its weights, as plain data."""

from __future__ import annotations

TRAINING: dict[str, object] = {
    "experiment": "any",
    "run_id": None,
    "mlflow_experiment": "arcore-any",
    "num_parameters": 10,
    "train_seconds": 3.0,
    "device": "cpu",
    "num_workers": 1,
    "epochs": 3,
    "best_epoch": 3,
    "commit": "abc",
    "epoch_seconds": [1.0, 2.0, 3.0],
}

"""What crosses the borders of a training comes back as it was, and nothing else is taken for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.training.training_records import (
    EpochRecord,
    Progress,
    TrainingRecord,
)

ROW = EpochRecord(epoch=2, step=20, seconds=1.5, learning_rate=0.1, train_nats=3.0)
RECORD = TrainingRecord(
    experiment="toy", run_id=None, mlflow_experiment="arcore-toy", num_parameters=1,
    train_seconds=1.0, device="cpu", num_workers=1, epochs=2, best_epoch=0, commit="abc",
)  # fmt: skip


def test_progress_comes_back_with_its_history() -> None:
    progress = Progress(epoch=2, step=20, history=[ROW, replace(ROW, epoch=3, valid_nats=2.0)])
    plain = json.loads(json.dumps(progress.to_dict()))
    assert math.isinf(progress.best_nats) and Progress.from_dict(plain) == progress


def test_a_record_is_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    path.write_text(json.dumps(RECORD.to_dict()))
    assert TrainingRecord.read(path) == RECORD
    plain = RECORD.to_dict()
    del plain["device"]
    path.write_text(json.dumps(plain))
    with pytest.raises(UserError, match=f"{path}: missing device"):
        TrainingRecord.read(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match="expected an object, got list"):
        TrainingRecord.read(path)

"""Trials of a search over the ordering of a MADE."""

from typing import Any

from pipeline.search.trials import TrialRecord
from pipeline.training.training_records import EpochRecord

ENTRY: dict[str, Any] = {
    "dataset": "digits_binary",
    "model": "made",
    "space": {"model.ordering": {"choice": ["raster", "snake"]}},
    "num_trials": 1,
}
EPOCH = EpochRecord(
    epoch=1, step=1, seconds=1.0, learning_rate=0.1, train_nats=9.0, valid_nats=9.0,
    best_valid_nats=9.0,
)  # fmt: skip


def record(number: int, status: str, *history: EpochRecord, **changes: Any) -> TrialRecord:
    values = {"model.ordering": "raster"}
    return TrialRecord(number=number, status=status, values=values, history=history, **changes)

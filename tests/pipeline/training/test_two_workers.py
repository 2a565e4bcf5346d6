"""Two workers of Ray Train against one."""

import os

import pytest

from pipeline.core.records import read_object
from pipeline.experiments import compose
from pipeline.tracking import mlflow_store
from pipeline.training import driver
from pipeline.training.training_records import read_history

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
MASKS = {"hidden": [32], "num_masks": 4, "order_agnostic": True}
PIXELVAE = {"encoder": [4, 4], "width": 4, "num_layers": 1, "latent_size": 2}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two CPUs")
@pytest.mark.parametrize(
    ("model", "options", "precision", "tolerance"),
    [
        pytest.param("made", MASKS, "float32", 1e-6, marks=pytest.mark.slow),
        ("pixelvae", PIXELVAE, "float64", 1e-12),
    ],
)
def test_two_workers_that_accumulate_match_one(
    own_ray, write_project, monkeypatch, model: str, options, precision: str, tolerance: float
) -> None:
    """Relative; workers sum gradients in another order than one, so float32 differs by rounding.

    Masks and noise are drawn alike; dropout is not, and none has any here.
    """
    monkeypatch.setattr(mlflow_store, "start_run", lambda *_, **__: None)
    # 96 rows: the last batch of an epoch has 15, so one worker has more than the other.
    trainer = {"max_epochs": 4, "batch_size": 27, "clip_norm": 5.0, "ema_decay": 0.5}
    trainer |= {"precision": precision}
    write_project(
        toy={"dataset": "digits_binary", "model": model}
        | {"model_overrides": options, "trainer": trainer}
    )
    curves = []
    for workers in (0, 2):
        parts = 3 if workers and precision == "float64" else 1  # the last one has fewer rows
        cluster = [f"cluster.num_workers={workers}", f"trainer.accumulate={parts}"]
        cluster.append("cluster.cpus_per_worker=1")
        folder = driver.train(compose.load("toy", cluster))
        curves.append(read_history(folder / "history.csv"))
        assert read_object(folder / "training.json")["num_workers"] == max(1, workers)
    assert len(curves[0]) == 4
    for one, two in zip(*curves, strict=True):
        assert one["step"] == two["step"] and one["learning_rate"] == two["learning_rate"]
        for key in ("train_nats", "valid_nats"):
            assert float(two[key]) == pytest.approx(float(one[key]), rel=tolerance)

"""Evaluation: every row counts once, under the protocol, and ensembles average probabilities."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import arcore
from pipeline import config, evaluation, shards
from pipeline.errors import UserError

EVENT = arcore.events.Binary((1, 8, 8))


@pytest.fixture
def project(tmp_path, monkeypatch, few_digits):
    """A working directory with shards and an untrained MADE of three masks, `toy`."""
    monkeypatch.chdir(tmp_path)
    for name in ("ARCORE_HOME", "ARCORE_CLUSTER", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(few_digits, "data/shards/digits_binary")
    entry = {"dataset": "digits_binary", "model": "made"}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    torch.manual_seed(0)
    model = arcore.create_model("made", EVENT, hidden=[8], num_masks=3).eval()
    folder = Path("models/toy")
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    described = {
        "model": {"name": "made"} | model.hyperparameters.to_dict(),
        "event": arcore.events.to_dict(EVENT),
        "dataset_sha256": shards.read_manifest("data/shards/digits_binary").sha256,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(described))
    record = {"run_id": None, "num_parameters": 1, "train_seconds": 1.0, "device": "cpu"}
    (folder / "training.json").write_text(json.dumps(record))
    (folder / "history.csv").write_text("epoch,train_nats,valid_nats\n1,40.0,41.0\n2,39.0,\n")
    return model


def evaluate(*overrides: str) -> dict:
    out = evaluation.evaluate(config.load_experiment("toy", overrides))
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("batch_size", [7, 23, 500])
def test_every_row_counts_once(project, batch_size: int) -> None:
    x = torch.from_numpy(shards.read_split("data/shards/digits_binary", "test").x)
    nats = -project.log_prob(x).detach().double()
    metrics = evaluate(f"evaluation.batch_size={batch_size}", "evaluation.num_samples=4")
    assert metrics["num_rows"] == 24
    assert metrics["nats"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert metrics["nats_stderr"] == pytest.approx(float(nats.std()) / math.sqrt(24), rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(metrics["nats"] / 64 / math.log(2))
    made = {path.name for path in Path("evaluation/digits_binary/toy").iterdir()}
    assert made == {"metrics.json", "scores.csv", "samples.png", "learning_curve.png"}


def test_an_ensemble_averages_probabilities(project) -> None:
    x = torch.from_numpy(shards.read_split("data/shards/digits_binary", "test").x)
    each = torch.stack([project.member(index).log_prob(x) for index in range(3)]).detach()
    nats = -(torch.logsumexp(each, 0) - math.log(3)).double().mean()
    metrics = evaluate("evaluation.num_members=3", "evaluation.num_samples=4")
    assert metrics["num_members"] == 3
    assert metrics["nats"] == pytest.approx(float(nats), rel=1e-6)


def test_more_members_than_masks_are_refused(project) -> None:
    with pytest.raises(UserError, match="toy: evaluation.num_members 4: index: expected a mask"):
        evaluate("evaluation.num_members=4")
    assert not Path("evaluation").exists()


def test_other_shards_are_refused(project) -> None:
    config_file = Path("models/toy/config.yaml")
    described = yaml.safe_load(config_file.read_text()) | {"dataset_sha256": "0" * 64}
    config_file.write_text(yaml.safe_dump(described))
    with pytest.raises(UserError, match=r"toy: expected shards .*\(000000000000\).* train it"):
        evaluate()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.yaml", "{", "damaged model folder"),
        ("config.yaml", "model: {}", "damaged model folder"),
        ("config.yaml", "3", "damaged model folder"),
        ("training.json", "{", "damaged model folder"),
        ("model.safetensors", "x", "not a readable safetensors file"),
    ],
)
def test_a_damaged_model_folder_is_one_line(project, name: str, text: str, message: str) -> None:
    Path("models/toy", name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        evaluate()
    assert "\n" not in str(caught.value)


def test_a_drawn_split_is_drawn_once_for_all(project) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    split = shards.Split(gray, None, "bernoulli", start=5)
    drawn = shards.dynamic_binarize(gray, np.arange(5, 15), 0, 0)
    expected = -project.log_prob(torch.from_numpy(drawn)).detach().double()
    for batch_size in (3, 10):
        torch.testing.assert_close(evaluation.scores(project, split, batch_size), expected)


def test_tiles() -> None:
    images = np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1)
    # Three images in two columns, each with a border of half the largest value.
    assert evaluation.tile(images).tolist() == [
        [1.5, 1.5, 1.5, 1.5, 1.5],
        [1.5, 1.0, 1.5, 2.0, 1.5],
        [1.5, 1.5, 1.5, 1.5, 1.5],
        [1.5, 3.0, 1.5, 1.5, 1.5],
        [1.5, 1.5, 1.5, 1.5, 1.5],
    ]
    assert evaluation.tile(np.zeros((5, 3, 4, 6), np.uint8)).shape == (2 * 5 + 1, 3 * 7 + 1, 3)


def test_mean_and_error() -> None:
    assert evaluation.mean_and_error(torch.tensor([1.0, 3.0])) == pytest.approx((2.0, 1.0))
    mean, error = evaluation.mean_and_error(torch.tensor([1.0]))
    assert mean == 1.0 and math.isnan(error)

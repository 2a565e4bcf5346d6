"""Maps as conditions, from shards by training and evaluation to a registered model's signature."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.loading import open_split
from pipeline.data.manifest import read_manifest
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets import base, catalog
from pipeline.datasets.base import SplitData
from pipeline.datasets.embedded import digits
from pipeline.evaluation import experiment_evaluation
from pipeline.experiments import compose
from pipeline.registry import exporting, pyfunc
from pipeline.training import driver, saved_models

SHARDS = Path("data/shards/digits_coarse")
SMALL = {"width": 4, "num_layers": 1, "condition_width": 3, "condition_shape": [1, 4, 4]}


@pytest.fixture
def project(home: Path) -> None:
    dataset = catalog.get_dataset({"name": "digits_coarse"})
    few = {
        split: SplitData(data.x[:60], data.labels[:60])
        for split, data in dataset.decode(Path()).items()
    }
    preprocessing.write(dataset, few, SHARDS)
    entry = {
        "dataset": "digits_coarse",
        "model": "gated_pixelcnn",
        "model_overrides": SMALL,
        "trainer": {"max_epochs": 1, "batch_size": 20},
        "evaluation": {"num_samples": 4},
    }
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))


def test_maps_reach_the_model(project: None) -> None:
    manifest = read_manifest(SHARDS)
    assert manifest.condition_shape == (1, 4, 4) and manifest.num_classes is None
    driver.train(compose.load("toy"))
    model = saved_models.load("toy").model.requires_grad_(False)
    test = shard_reader.read_split(SHARDS, "test")
    np.testing.assert_array_equal(test.labels, digits.coarse(test.x, 2))
    batch = next(open_split(SHARDS, "train", model, BatchPlan(batch_size=20)).epoch(0))
    assert batch.condition is not None and batch.condition.shape == (20, 1, 4, 4)
    np.testing.assert_array_equal(batch.condition, digits.coarse(batch.x.numpy(), 2))

    out = experiment_evaluation.evaluate(compose.load("toy"))
    x, maps = torch.from_numpy(test.x), torch.from_numpy(test.labels)
    nats = float(-model.log_prob(x, maps).mean())
    assert json.loads((out / "metrics.json").read_text())["nats"] == pytest.approx(nats, rel=1e-5)
    assert not torch.equal(model.log_prob(x, maps), model.log_prob(x, maps.flip(0)))

    served = pyfunc.ArcoreModel()
    served.model = model
    _, (events, params) = exporting._signature(model, {})
    assert np.isfinite(served.predict(None, events, params)["nats"]).all()
    given = {"vectors": maps[:3].flatten().tolist()}
    found = served.predict(None, test.x[:3], given)["nats"].to_numpy()
    np.testing.assert_allclose(found, -model.log_prob(x[:3], maps[:3]).detach(), rtol=1e-5)
    drawn = served.predict(None, test.x[:0], given | {"method": "sample", "num_samples": 3})
    assert drawn.shape == (3, 1, 8, 8)


def test_another_map_than_the_data_has_is_refused(project: None) -> None:
    with pytest.raises(UserError, match=r"model.condition_shape: expected null or \(1, 4, 4\)"):
        driver.train(compose.load("toy", ["model.condition_shape=[1,2,2]"]))


def test_maps_of_own_arrays(workdir: Path) -> None:
    generator = np.random.default_rng(0)
    x, maps = generator.integers(0, 4, (40, 1, 6, 6)), generator.normal(size=(40, 2, 3, 3))
    np.savez("pairs.npz", x=x, conditions=maps)
    options = {
        "name": "mine", "kind": "arrays", "path": "pairs.npz", "shape": [1, 6, 6],
        "num_levels": 4, "conditions": "conditions",
    }  # fmt: skip
    dataset = catalog.get_dataset(options | {"condition_shape": [2, 3, 3]})
    folder = preprocessing.write(dataset, dataset.decode(Path()), Path("shards"))
    manifest = read_manifest(folder)
    assert manifest.conditions["condition_shape"] == (2, 3, 3)
    splits = [shard_reader.read_split(folder, split) for split in base.SPLITS]
    found = np.concatenate([split.labels for split in splits])
    assert np.isclose(np.sort(found, axis=None), np.sort(maps.astype("f4"), axis=None)).all()
    for wrong in ({"condition_shape": [2, 3]}, {"condition_shape": [2, 3, 3], "condition_size": 1}):
        with pytest.raises(UserError, match="option condition_s"):
            catalog.get_dataset(options | wrong)

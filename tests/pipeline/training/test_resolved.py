"""What an experiment is refused for, or warned of, once its data is known."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from arcore.events import Binary, Gray
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from pipeline.experiments import compose, groups
from pipeline.training.resolved import create_model, resolve


def write_params(**entries: dict[str, object]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": entries}))


@pytest.fixture
def own(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The manifest of a dataset of one's own, whose conf file states where its array lies."""
    conf = workdir / "conf"
    shutil.copytree(groups.CONF, conf)
    monkeypatch.setattr(groups, "CONF", conf)
    monkeypatch.setattr(catalog, "CONF_FOLDER", conf / "dataset")
    np.save("there.npy", np.random.default_rng(0).integers(0, 3, (40, 4)))
    options = {"shape": [4], "num_levels": 3, "rows_per_shard": 100}
    config = {"name": "mine", "kind": "arrays", "path": "there.npy"} | options
    Path("conf/dataset/mine.yaml").write_text(yaml.safe_dump(config))
    write_params(toy={"dataset": "mine", "model": "made"})
    dataset = catalog.get_dataset(config)
    preprocessing.write(dataset, dataset.decode(Path()), paths.shards("mine"))
    return read_manifest(paths.shards("mine"))


def test_shards_of_other_files_do_not_stand_for_those_named(own: Manifest) -> None:
    shutil.copy("there.npy", "other.npy")
    with pytest.raises(UserError) as caught:
        resolve(compose.load("toy", ["dataset.path=other.npy"]), own)
    assert str(caught.value) == (
        "dataset.path: expected shards made of 'other.npy', got those made of 'there.npy'; "
        "run python -m stages.preprocess mine path=other.npy"
    )
    older = dataclasses.replace(own, options={})
    with pytest.raises(UserError, match="made of 'other.npy', got those that do not say; run"):
        resolve(compose.load("toy", ["dataset.path=other.npy"]), older)
    for same in ("there.npy", "./there.npy", str(Path("there.npy").resolve())):
        assert resolve(compose.load("toy", [f"dataset.path={same}"]), own)


def test_files_that_have_moved_since_are_not_missed(own: Manifest) -> None:
    text = Path("conf/dataset/mine.yaml").read_text()
    Path("conf/dataset/mine.yaml").write_text(text.replace("there.npy", "/elsewhere/there.npy"))
    assert resolve(compose.load("toy"), own)
    assert resolve(compose.load("toy"), dataclasses.replace(own, options={}))


@pytest.fixture
def clips(workdir: Path) -> Manifest:
    dataset = dataclasses.replace(
        catalog.get_dataset({"name": "moving_digits"}),
        event=Gray((6, 1, 8, 8)),
        context_frames=3,
    )
    digits = np.zeros((4, 2, 4, 4), np.uint8)
    splits = {split: SplitData(digits, None, "moving") for split in SPLITS}
    return read_manifest(preprocessing.write(dataset, splits, paths.shards("moving_digits")))


def test_a_model_of_whole_events_is_refused_before_it_is_trained_on_clips(clips: Manifest) -> None:
    write_params(toy={"dataset": "moving_digits", "model": "made"})
    bits = dataclasses.replace(clips, event=Binary(clips.event.shape))
    with pytest.raises(UserError) as caught:
        resolve(compose.load("toy"), bits)
    assert str(caught.value) == (
        "toy: expected a model over clips for moving_digits, of which 3 frames are given, got made"
    )
    assert resolve(compose.load("toy"), dataclasses.replace(bits, context_frames=0))


@pytest.mark.parametrize("key", ["event", 1])
def test_keys_that_are_no_hyperparameters_are_named(key: object) -> None:
    message = f"model: expected the names of hyperparameters as keys, got {key!r}"
    with pytest.raises(UserError, match=message):
        create_model({"name": "made", key: 2}, Binary((4,)))

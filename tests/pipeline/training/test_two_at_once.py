"""A second training or search of the same is refused before it touches anything of the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.artifacts import locks
from pipeline.core.errors import UserError
from pipeline.data.manifest import read_manifest
from pipeline.experiments import compose
from pipeline.search import spec, tuning
from pipeline.tracking import mlflow_store
from pipeline.training import driver
from pipeline.training.resolved import resolve


@pytest.fixture
def project(workdir: Path, few_digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def start_run(*_: object, **__: object) -> None:
        raise AssertionError("an MLflow run is touched")

    monkeypatch.setattr(mlflow_store, "start_run", start_run)
    shutil.copytree(few_digits, "data/shards/digits_binary")
    entry = {"dataset": "digits_binary", "model": "made"}
    search = entry | {"space": {"model.ordering": {"choice": ["raster", "snake"]}}}
    params = {"experiments": {"toy": entry}, "searches": {"toy": search}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return workdir


def test_a_second_training(project: Path) -> None:
    config = compose.load("toy")
    manifest = read_manifest("data/shards/digits_binary")
    name = f"toy-{resolve(config, manifest).config_hash[:12]}"
    with locks.held(locks.path_beside(str(project / ".arcore/train"), name), "training toy"):
        with pytest.raises(UserError, match="^training toy: expected to be alone"):
            driver.train(config, fresh=True)


def test_a_second_search(project: Path) -> None:
    manifest = read_manifest("data/shards/digits_binary")
    name = f"toy-{spec.load_search('toy').config_hash(manifest.sha256)[:12]}"
    with locks.held(locks.path_beside(str(project / ".arcore/tune"), name), "searching toy"):
        with pytest.raises(UserError, match="^searching toy: expected to be alone"):
            tuning.tune("toy", fresh=True)

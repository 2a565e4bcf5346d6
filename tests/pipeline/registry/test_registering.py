"""Registering where something is amiss: one fails, models are gone, another registry is set."""

from __future__ import annotations

import os
import shutil
import urllib.parse
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipeline.core.errors import UserError
from pipeline.registry import register
from pipeline.tracking import mlflow_store
from tests.support.registered import experiment


def artifacts(version: int) -> Path:
    """The folder that holds the files of a version."""
    uri = mlflow_store.client().get_model_version_download_uri("arcore-toy", str(version))
    return Path(urllib.parse.unquote(urllib.parse.urlparse(uri).path))


def test_a_better_champion_stays_while_its_files_do(home: Path) -> None:
    experiment("toy-good", "nade", valid_nats=8.0)
    experiment("toy-poor", "made", valid_nats=9.0)
    first = register.register_dataset("toy")
    good, poor = (first.experiments[name].version for name in ("toy-good", "toy-poor"))
    champion = register.Champion(experiment="toy-good", version=good)
    assert first.champions == {"arcore-toy": champion}

    shutil.rmtree("evaluation/toy/toy-good")
    again = register.register_dataset("toy")
    assert list(again.experiments) == ["toy-poor"]
    assert again.champions == {"arcore-toy": champion}
    store = mlflow_store.client()
    assert int(store.get_model_version_by_alias("arcore-toy", "champion").version) == good

    shutil.rmtree(artifacts(good))
    last = register.register_dataset("toy")
    assert last.champions == {"arcore-toy": register.Champion(experiment="toy-poor", version=poor)}
    assert int(store.get_model_version_by_alias("arcore-toy", "champion").version) == poor


def test_a_champion_that_another_validates_better_than_goes(home: Path) -> None:
    experiment("toy-poor", "made", valid_nats=9.0)
    register.register_dataset("toy")
    shutil.rmtree("evaluation/toy/toy-poor")
    experiment("toy-good", "nade", valid_nats=8.0)
    (champion,) = register.register_dataset("toy").champions.values()
    assert champion is not None and champion.experiment == "toy-good"


def test_a_model_that_was_trained_anew_meanwhile_is_not_registered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of = register.training_runs.run_of

    def late(*given: Any) -> str:
        experiment("toy-nade", "nade", valid_nats=9.0, hidden=3)
        return run_of(*given)

    experiment("toy-nade", "nade", valid_nats=9.0)
    monkeypatch.setattr(register.training_runs, "run_of", late)
    with pytest.raises(UserError, match="^toy-nade: trained anew meanwhile; run this again$"):
        register.register_dataset("toy")
    store = mlflow_store.client()
    where = store.get_experiment_by_name("arcore-toy").experiment_id
    assert list(store.search_model_versions("name = 'arcore-toy'")) == []
    assert list(store.search_logged_models([where])) == []


def test_the_registry_is_the_stores_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = f"sqlite:///{home}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", elsewhere)
    experiment("toy-nade", "nade", valid_nats=9.0)
    register.register_dataset("toy")
    found = mlflow_store.client().search_model_versions("name = 'arcore-toy'")
    assert [version.tags["experiment"] for version in found] == ["toy-nade"]
    assert not (home / "elsewhere.db").exists()
    assert os.environ["MLFLOW_REGISTRY_URI"] == mlflow.get_registry_uri() == elsewhere

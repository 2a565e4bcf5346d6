"""A project with small models that were trained in this process."""

import shutil
from pathlib import Path

import pytest

from pipeline.experiments import compose
from pipeline.training import driver
from tests.support.uses import EXPERIMENTS


@pytest.fixture(scope="session")
def trained(make_project) -> Path:
    project = make_project(EXPERIMENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.folder}/mlflow.db")
        for name in EXPERIMENTS:
            driver.train(compose.load(name))
    return project.folder


@pytest.fixture
def project(trained: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(trained, workdir / "project"))
    return Path.cwd()

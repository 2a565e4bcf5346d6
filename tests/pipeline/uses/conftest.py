"""A project with small models that were trained in this process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.experiments import compose
from pipeline.training import driver

TOY: dict[str, Any] = {"dataset": "digits_binary", "trainer": {"max_epochs": 1, "batch_size": 100}}
SMALL: dict[str, dict[str, Any]] = {
    "nade": {"hidden": 16},
    "made": {"hidden": [64], "num_masks": 2},
    "gated_pixelcnn": {"width": 4, "num_layers": 1, "head_width": 4, "num_classes": 10},
    "parallel_multiscale": {
        "base_size": 2, "width": 4, "num_blocks": 1, "base_width": 4, "base_layers": 1,
        "head_width": 4,
    },
    "pixelvae": {"encoder": [4], "width": 4, "num_layers": 1},
}  # fmt: skip
EXPERIMENTS = {
    f"toy-{name}": TOY | {"model": name, "model_overrides": small} for name, small in SMALL.items()
}


@pytest.fixture(scope="session")
def trained(make_project) -> Path:
    """The folder of the project."""
    project = make_project(EXPERIMENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.folder}/mlflow.db")
        for name in EXPERIMENTS:
            driver.train(compose.load(name))
    return project.folder


@pytest.fixture
def project(trained: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working directory."""
    monkeypatch.chdir(shutil.copytree(trained, workdir / "project"))
    return Path.cwd()


def list_uses(**uses: dict[str, dict[str, Any]]) -> None:
    """Write an entry of `uses` for each model of the project that is named."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["uses"] = {
        f"toy-{model}": {"dataset": "digits_binary", "model": model, "uses": listed}
        for model, listed in uses.items()
    }
    path.write_text(yaml.safe_dump(params))

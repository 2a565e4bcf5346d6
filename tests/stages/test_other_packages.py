"""A package elsewhere on Python's path that brings a model and a dataset, from data to report."""

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.places import ROOT
from tests.support import worked_example
from tests.support.projects import Project

COINS = '''
"""Throws of coins, each with the same face as the one before with a probability of 0.9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Binary
from pipeline.datasets.base import Dataset, SplitData
from pipeline.datasets.options import Options, parse_options

ROWS = {"train": 400, "valid": 50, "test": 100}


@dataclass(frozen=True, kw_only=True)
class Coins(Dataset):
    """Draws of the source."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Draw all splits."""
        generator = np.random.Generator(np.random.PCG64(0))
        turns = {split: generator.random((rows, 12)) < 0.1 for split, rows in ROWS.items()}
        return {s: SplitData((t.cumsum(1) % 2).astype(np.uint8)) for s, t in turns.items()}


def build(settings: Mapping[str, object]) -> Dataset:
    """Build the dataset of its settings."""
    return Coins(
        name="coins", family="coins", event=Binary((12,)), unit="nats", files=(),
        provenance="drawn", options=parse_options(Options, "coins", settings),
    )
'''
ENTRY_POINTS = """
[arcore.models]
markov_chain = chance.markov_chain:MarkovChain
missing = chance.nothing:Model
nade = chance.markov_chain:MarkovChain

[arcore.datasets]
coins = chance.coins:build
"""
EXPERIMENT = {
    "dataset": "coins",
    "model": "markov_chain",
    "trainer": {"max_epochs": 8, "optimizer": {"learning_rate": 0.1}},
    "evaluation": {"num_samples": 4},
}
ASK = """
import json, sys
import arcore
from arcore.models import name_of
from pipeline.core.stage_code import StageCode
model = arcore.load("models/coins-chain")
code = StageCode()
files = {key: sorted(code.hashes(key)) for key in ("train.markov_chain", "dataset.coins")}
print(json.dumps({
    "name": name_of(type(model)),
    "nade": type(arcore.create_model("nade", model.event)).__module__,
    "chance": {key: [f for f in found if f.startswith("chance/")] for key, found in files.items()},
    "hash": code.sha256("train.markov_chain"),
    "others": [f for f in files["train.markov_chain"] if f.startswith("arcore/models/")],
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, warm: dict[str, str]) -> Project:
    """A project whose Python path has the package, as if it were installed."""
    packages, folder = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("project")
    (packages / "chance").mkdir()
    (packages / "chance/__init__.py").touch()
    (packages / "chance/coins.py").write_text(COINS)
    (packages / "chance/markov_chain.py").write_text(worked_example.code_of(worked_example.MODEL))
    info = packages / "chance-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chance\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    experiments = {"coins-chain": EXPERIMENT, "coins-missing": {**EXPERIMENT, "model": "missing"}}
    params = {"datasets": ["coins"], "experiments": experiments}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    project = Project(folder, Path(f"{ROOT}{os.pathsep}{packages}"))
    project.warm = warm
    for stage, name in (
        ("fetch", "coins"), ("preprocess", "coins"), ("codecs", "coins"),
        ("train", "coins-chain"), ("evaluate", "coins-chain"), ("report", "coins"),
    ):  # fmt: skip
        done = project.stage(stage, name)
        assert done.returncode == 0, done.stderr
    return project


def test_a_model_and_a_dataset_of_another_package_go_all_the_way(project) -> None:
    report = (project.folder / "reports/coins/table.md").read_text()
    assert "coins-chain" in report
    metrics = project.json("metrics/coins-chain.json")
    assert 3 < metrics["value"] < 5, "the source has 3.9 nats, fair coins 8.3"


def test_their_code_is_hashed(project) -> None:
    done = project.run("python", "-c", ASK)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["name"] == "markov_chain"
    assert found["nade"] == "arcore.models.nade", "no package replaces a model of arcore"
    assert found["chance"] == {
        "train.markov_chain": ["chance/markov_chain.py"],
        "dataset.coins": ["chance/coins.py"],
    }
    assert found["others"] == ["arcore/models/__init__.py"]
    evaluated = project.json("evaluation/coins/coins-chain/metrics.json")
    assert evaluated["code_sha256"] is not None


def test_a_model_that_cannot_be_imported_is_named(project) -> None:
    done = project.stage("train", "coins-missing")
    assert done.returncode == 1
    assert "chance.nothing:Model" in done.stderr and len(done.stderr.splitlines()) == 1

"""README says what is there: its example runs, its targets, stages and models exist."""

from __future__ import annotations

import re

import pytest

import arcore
from pipeline.datasets import catalog
from pipeline.experiments import compose
from tests.places import ROOT

README = (ROOT / "README.md").read_text()


def test_the_first_example_runs(capsys) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    exec(compile(example.group(1), "README.md", "exec"), {})
    assert "bits/dim" in capsys.readouterr().out


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)", README))))
def test_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("stage", sorted(set(re.findall(r"python -m (stages\.[a-z]+)", README))))
def test_stages_exist(stage: str) -> None:
    assert (ROOT / (stage.replace(".", "/") + ".py")).exists()


def test_every_model_and_dataset_is_listed() -> None:
    for model in arcore.list_models():
        assert f"| `{model}` |" in README
    for dataset in catalog.list_datasets():
        assert f"`{dataset}`" in README or "binarized" in dataset
    known = compose.read_params(ROOT / "params.yaml")["experiments"]
    for name in re.findall(r"stages\.train ([a-z_]+-[a-z-]+)", README):
        assert name in known

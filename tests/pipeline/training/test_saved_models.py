"""Trained models are loaded as they were saved."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.evaluation import mixing
from pipeline.experiments import compose
from pipeline.tracking import mlflow_store
from pipeline.training import driver, saved_models

ENTRY = {
    "dataset": "digits_binary",
    "model": "nade",
    "model_overrides": {"hidden": 2},
    "trainer": {"max_epochs": 1, "precision": "float64"},
}


@pytest.mark.parametrize("pooled", [False, True])
def test_a_mixture_of_float64_is_one(workdir, few_digits, monkeypatch, pooled: bool) -> None:
    monkeypatch.setattr(mlflow_store, "start_run", lambda *_, **__: None)
    shutil.copytree(few_digits, "data/shards/digits_binary")
    experiments = {
        f"a{seed}": ENTRY | {"trainer": ENTRY["trainer"] | {"seed": seed}} for seed in (1, 2)
    }
    both = {"dataset": "digits_binary", "mixture": [*experiments], "pooled": pooled}
    params = {"experiments": experiments, "mixtures": {"both": both}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for name in experiments:
        driver.train(compose.load(name))
    mixing.mix(compose.load("both"))
    model = saved_models.load("both").model
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float64}

"""Trainings that start from the weights of another model."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import arcore
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.core.records import read_object
from pipeline.core.yaml_settings import read_yaml
from pipeline.data.manifest import read_manifest
from pipeline.experiments import compose
from pipeline.search.spec import load_search
from pipeline.tracking import mlflow_store
from pipeline.training import driver, saved_models
from pipeline.training.training_records import Failed
from tests.places import ROOT
from tests.support.refusals import refused

STILL = {"optimizer": {"name": "sgd", "learning_rate": 1e-30}, "max_epochs": 1}
OVERRIDES = ("trainer.max_epochs=1",)


@pytest.mark.parametrize("average", [{}, {"ema_decay": 0.5}])
def test_the_first_validation_is_that_of_the_given_weights(make_worker, average, capsys) -> None:
    first, tuned = make_worker(), make_worker()
    first.train(max_epochs=2)
    given = first.folder / "2/last.safetensors"
    tuned.initial = str(given), sha256_of(given)
    tuned.train(**STILL, **average)
    assert tuned.reports[0].valid_nats == first.reports[1].valid_nats
    assert (tuned.folder / "1/best.safetensors").read_bytes() == given.read_bytes()
    tuned.initial = str(given), "a" * 64
    with pytest.raises(UserError, match=r"expected the weights that this training .*, got '"):
        tuned.train(**STILL)
    tuned.resume = [first.folder / "1"]
    tuned.train(max_epochs=2)
    assert (tuned.folder / "2/last.safetensors").read_bytes() == given.read_bytes(), "ignored"


@pytest.fixture
def project(workdir: Path, write_project, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The entries of the page, of which the first is trained; what MLflow is told."""
    told: dict[str, object] = {}
    monkeypatch.setattr(mlflow_store, "start_run", lambda *_, params, **__: told.update(params))
    page = (ROOT / "docs/your-data.md").read_text().partition("## Fine-tuning")[2]
    entries = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["experiments"]
    write_project(**entries)
    driver.train(compose.load("pretrained", OVERRIDES))
    Path("models/pretrained--trainer.max_epochs-1").rename("models/pretrained")
    assert not any(
        "initial" in key for key in [*told, *read_yaml(Path("models/pretrained/config.yaml"))]
    )
    assert "initial" not in Path("models/pretrained/training.json").read_text()
    return told


def test_a_finetuned_model_tells_its_origin(project: dict[str, object]) -> None:
    folder = driver.train(compose.load("finetuned"))
    weights = Path("models/pretrained/model.safetensors")
    lineage = {"initial_weights": "models/pretrained", "initial_weights_sha256": sha256_of(weights)}
    assert lineage.items() <= read_object(folder / "training.json").items()
    key = "initial_weights_sha256"
    assert project[key] == read_yaml(folder / "config.yaml")[key] == lineage[key]
    assert project["trainer.initial_weights"] == "models/pretrained"
    manifest, trained = read_manifest("data/shards/digits_binary"), saved_models.load("finetuned")
    config = compose.load("finetuned")
    saved_models.check_entry(config, trained, manifest)
    before = driver.resolve(config, manifest).config_hash
    save_file({name: 2 * w for name, w in load_file(weights).items()}, weights)
    assert driver.resolve(config, manifest).config_hash != before
    with pytest.raises(UserError, match="finetuned: initial_weights_sha256: expected"):
        saved_models.check_entry(config, trained, manifest)
    weights.unlink()
    saved_models.check_entry(config, trained, manifest)


def test_workers_on_other_hosts_read_a_copy(project: dict[str, object], tmp_path: Path) -> None:
    config = compose.load("finetuned", [f"cluster.storage={tmp_path}", *OVERRIDES])
    assert driver.train(config)
    (copy,) = tmp_path.glob("initial/*.safetensors")
    assert copy.stem == sha256_of(Path("models/pretrained/model.safetensors"))


def save_other_shape(path: Path) -> None:
    event = arcore.events.Binary((1, 8, 8))
    arcore.save(arcore.create_model("made", event, hidden=[4]), path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "models/nothing",
            "expected a model's folder or a .safetensors file, got 'models/nothing'",
        ),
        ("models", "expected a model's folder or a .safetensors file, got 'models'"),
        (
            "wider",
            r"wider/model.safetensors: shape of .*: expected torch.Size\(\[.*, got torch.Size",
        ),
        ("other.safetensors", "weights of another architecture: a is not in the model"),
        ("cut.safetensors", "trainer.initial_weights: .*"),
        ("models/pretrained", "model.safetensors: expected the file that was written .*, got"),
        ("models/pretrained/last.safetensors", "model.safetensors: expected the file that was wri"),
    ],
)
def test_other_weights_are_refused(
    project: dict[str, object], monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    save_other_shape(Path("wider"))
    save_file({"a": torch.zeros(1)}, "other.safetensors")
    shutil.copy("other.safetensors", "cut.safetensors")
    os.truncate("cut.safetensors", 20)
    shutil.copy("other.safetensors", "models/pretrained/model.safetensors")
    monkeypatch.setattr(driver, "run_job", lambda *_: Failed("reached"))
    with refused(message):
        driver.train(compose.load("finetuned", [f"trainer.initial_weights={given}"]))
    with pytest.raises(UserError, match="reached"):
        driver.train(compose.load("finetuned", ["trainer.initial_weights=''"]))


def test_a_search_does_not_take_them(project: dict[str, object]) -> None:
    space = {"trainer.initial_weights": {"choice": ["models/pretrained"]}}
    entry = {"dataset": "digits_binary", "model": "made", "space": space}
    params = read_yaml(Path("params.yaml")) | {"searches": {"finetuned": entry}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match="trainer.initial_weights: expected null for a search"):
        load_search("finetuned").check(read_manifest("data/shards/digits_binary"))

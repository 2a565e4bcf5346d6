"""A first experiment on data of the user's own: an entry that composes, written once."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset, Sound
from pipeline.experiments import compose, layout, params_file
from pipeline.training import first_experiment
from tests.places import ROOT


@pytest.fixture(autouse=True)
def project(workdir: Path) -> None:
    (workdir / "params.yaml").write_text(layout.EMPTY)
    (workdir / "pipeline/conf").mkdir(parents=True)
    for name in ("dvc.yaml", "pipeline/conf/base.yaml"):
        (workdir / name).write_text((ROOT / name).read_text())


def dataset_of(event: Event) -> Dataset:
    return replace(catalog.get_dataset({"name": "digits"}), event=event, num_classes=3)


@pytest.mark.parametrize(
    ("event", "asked", "model", "told", "rows"),
    [
        (Binary((1, 8, 8)), None, "gated_pixelcnn", {"num_classes": 3}, 100),
        (Levels(4, (3, 32, 32)), "pixelcnn", "pixelcnn", {"num_classes": 3}, 21),
        (Binary((9,)), None, "made", {"num_classes": 3}, 100),
        (Binary((1, 4, 4)), "conv_nade", "conv_nade", {"num_classes": 3}, 100),
        (Real((3,)), None, "rnade", {"num_classes": 3}, 100),
    ],
)
def test_the_entry_composes(
    event: Event, asked: str | None, model: str, told: dict[str, object], rows: int
) -> None:
    lines = first_experiment.add(dataset_of(event), asked)
    name = f"digits-{model}"
    assert lines[-1] == "next: dvc repro local/dvc.yaml:report@digits"
    assert f"experiment {name}, 20 epochs, each about" in lines[0]
    config = compose.load(name)
    assert config.trainer.batch_size == rows
    entry = params_file.read_params()["experiments"][name]
    assert entry["model_overrides"] == told
    assert "report:" in Path("local/dvc.yaml").read_text()
    assert name in yaml.safe_load(Path("local/foreach.yaml").read_text())["experiments"]


@pytest.mark.parametrize(("rate", "window"), [(8000, 2048), (0, 512)])
def test_sounds_and_text_train_on_windows(rate: int, window: int) -> None:
    sound = Sound(rate, 300, 0, ("",), ())
    dataset = replace(dataset_of(Levels(256, (None,))), sound=sound, num_classes=None)
    first_experiment.add(dataset, None)
    trainer = params_file.read_params()["experiments"]["digits-wavenet"]["trainer"]
    assert trainer == {"max_epochs": 20, "batch_size": 8, "window": window}


def test_comments_and_entries_stay() -> None:
    first_experiment.add(dataset_of(Binary((9,))), "made")
    path = Path("local/params.yaml")
    path.write_text(path.read_text().replace("experiments:", "# mine\nexperiments:"))
    first_experiment.add(dataset_of(Binary((9,))), "nade")
    assert "# mine" in path.read_text()
    read = params_file.read_params()
    assert set(read["experiments"]) == {"digits-made", "digits-nade"}
    assert read["datasets"] == ["digits"]


def test_a_name_is_taken_once() -> None:
    dataset = dataset_of(Binary((9,)))
    first_experiment.add(dataset, "made")
    with pytest.raises(UserError, match="experiment: expected a new name, or --replace"):
        first_experiment.add(dataset, "made")
    first_experiment.add(dataset, "made", replace=True)
    Path("local/params.yaml").rename("params.yaml")
    with pytest.raises(UserError, match="experiment: expected a new name"):
        first_experiment.add(dataset, "made", replace=True)


@pytest.mark.parametrize("model", ["mde", "rnade"])
def test_a_model_that_does_not_fit_is_refused(model: str) -> None:
    with pytest.raises(UserError, match="experiment on digits: "):
        first_experiment.add(dataset_of(Binary((1, 8, 8))), model)
    assert not Path("local").exists()

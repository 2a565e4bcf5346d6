"""A first experiment on data of the user's own: an entry that composes, written once."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import arcore
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


GATED = {"head": "logistic_mixture", "width": 16}
OTHERS = ("pixelcnn", "conv_nade", "any_order_transformer")  # than those suggested


def dataset_of(event: Event) -> Dataset:
    return replace(catalog.get_dataset({"name": "digits"}), event=event, num_classes=3)


@pytest.mark.parametrize(
    ("event", "rows", "asked", "overrides", "batch_size", "epochs"),
    [
        (Binary((1, 8, 8)), 50_000, "gated_pixelcnn", {}, 100, 20),
        (Levels(4, (3, 32, 32)), 50_000, "pixelcnn", {}, 21, 20),
        (Binary((9,)), 50_000, "made", {}, 100, 20),
        (Binary((9,)), 142, "made", {}, 14, 182),
        (Binary((9,)), 20, "made", {"hidden": [64]}, 8, 667),
        (Binary((1, 4, 4)), 142, "conv_nade", {"hidden": [64, 64]}, 14, 55),
        (Levels(256, (1, 4, 4)), 142, "gated_pixelcnn", GATED, 14, 55),
        (Real((3,)), 1_000, "rnade", {}, 100, 200),
        (Binary((9,)), 142, "any_order_transformer", {"width": 16}, 14, 182),
    ],
)
def test_the_entry_composes_and_suits_the_number_of_rows(
    event: Event,
    rows: int,
    asked: str,
    overrides: dict[str, object],
    batch_size: int,
    epochs: int,
) -> None:
    dataset = dataset_of(event)
    assert asked in (first_experiment.suggested_model(dataset)[0], *OTHERS)
    lines = first_experiment.add(dataset, rows, None if asked not in OTHERS else asked)
    name = f"digits-{asked}"
    assert lines[-1] == "next: dvc repro local/dvc.yaml:report@digits"
    config = compose.load(name)
    assert (config.trainer.batch_size, config.trainer.max_epochs) == (batch_size, epochs)
    entry = params_file.read_params()["experiments"][name]
    assert entry["model_overrides"] == {"num_classes": 3} | overrides
    model = arcore.create_model(asked, event, **entry["model_overrides"])
    size = sum(parameter.numel() for parameter in model.parameters())
    words = f"experiment {name}, {size:,} parameters, {epochs} epochs"
    assert words + " at most" * (epochs > 20) + ", each about" in lines[0]
    assert config.trainer.patience == (20 if epochs > 20 else None)
    assert "report:" in Path("local/dvc.yaml").read_text()
    assert name in yaml.safe_load(Path("local/foreach.yaml").read_text())["experiments"]


@pytest.mark.parametrize(("rate", "window"), [(8000, 2048), (0, 512)])
def test_sounds_and_text_train_on_windows(rate: int, window: int) -> None:
    sound = Sound(rate, 300, 0, ("",), ())
    dataset = replace(dataset_of(Levels(256, (None,))), sound=sound, num_classes=None)
    first_experiment.add(dataset, 142, None)
    trainer = params_file.read_params()["experiments"]["digits-wavenet"]["trainer"]
    assert trainer == {"max_epochs": 20, "batch_size": 8, "window": window}


def test_comments_and_entries_stay() -> None:
    first_experiment.add(dataset_of(Binary((9,))), 142, "made")
    path = Path("local/params.yaml")
    path.write_text(path.read_text().replace("experiments:", "# mine\nexperiments:"))
    first_experiment.add(dataset_of(Binary((9,))), 142, "nade")
    assert "# mine" in path.read_text()
    read = params_file.read_params()
    assert set(read["experiments"]) == {"digits-made", "digits-nade"}
    assert read["datasets"] == ["digits"]


def test_a_name_is_taken_once() -> None:
    dataset = dataset_of(Binary((9,)))
    first_experiment.add(dataset, 142, "made")
    with pytest.raises(UserError, match="experiment: expected a new name, or --replace"):
        first_experiment.add(dataset, 142, "made")
    first_experiment.add(dataset, 142, "made", replace=True)
    Path("local/params.yaml").rename("params.yaml")
    with pytest.raises(UserError, match="experiment: expected a new name"):
        first_experiment.add(dataset, 142, "made", replace=True)


@pytest.mark.parametrize("model", ["mde", "rnade"])
def test_a_model_that_does_not_fit_is_refused(model: str) -> None:
    with pytest.raises(UserError, match="experiment on digits: "):
        first_experiment.add(dataset_of(Binary((1, 8, 8))), 142, model)
    assert not Path("local").exists()

"""Studies: what each kind says of small networks, where it goes, and what is refused."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import arcore
from pipeline.core.errors import UserError
from pipeline.training import saved_models
from pipeline.uses import use_context
from reproductions import study
from reproductions.publishing import recording
from reproductions.studies import (
    model_times,
    receptive_fields,
    run_studies,
    simple_models,
)
from tests.places import ROOT
from tests.support.few_rows import train_on_few

TRAINER = {"max_epochs": 1, "batch_size": 100}
MADE = {"model": "made", "model_overrides": {"hidden": [16]}, "trainer": TRAINER}
CLIPS = {
    "model_overrides": {
        "width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1, "head_width": 4,
    },
    "trainer": {"max_epochs": 1, "batch_size": 8},
}  # fmt: skip
STUDIES: dict[str, dict[str, Any]] = {
    "fields": {
        "study": "receptive_fields",
        "side": 9,
        "networks": {
            "two stacks": {"name": "gated_pixelcnn", "num_layers": 2, "first_kernel": 3},
            "one stack": {"name": "pixelcnn", "num_blocks": 2, "hidden": 4, "first_kernel": 3},
        },
    },
    "draws": {"study": "sampling_time", "models": ["made", "parallel_multiscale"], "sizes": [4, 8]},
    "steps": {"study": "step_time", "models": ["made"], "sizes": [4, 8]},
    "masks": {"study": "num_masks", "networks": {"MADE": MADE}, "masks": [1, 2]},
    "rows": {
        "study": "train_rows",
        "rows": [50, 100],
        "passes": 2,
        "networks": {"small": MADE | {"trainer": {"batch_size": 50}}},
    },
    "race": {
        "study": "race",
        "networks": {"narrow": MADE, "wide": MADE | {"model_overrides": {"hidden": [64]}}},
    },
    "simple": {"study": "simple_models", "shrinkages": [0.5, 1.0]},
    "question": {
        "study": "any_question",
        "networks": {
            "first": {"model": "deep_nade", "model_overrides": {"hidden": [8]}, "trainer": TRAINER},
            "last": {"model": "deep_nade", "model_overrides": {"hidden": [4]}, "trainer": TRAINER},
        },
        "masks": ["right"], "steps": [4], "num_rows": 3, "num_particles": 2, "num_masks": 1,
        "num_orders": 1,
    },
}  # fmt: skip


@pytest.fixture
def project(make_project, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_project({"toy": MADE | {"dataset": "digits_binary"}}).folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made}/mlflow.db")
    monkeypatch.chdir(made)
    monkeypatch.setattr(model_times.seconds_of, "__defaults__", (0.01,))
    _list({name: {"dataset": "digits_binary", **study} for name, study in STUDIES.items()})
    return Path.cwd()


def _list(studies: dict[str, Any]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"studies": studies}))


def _table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_entries_of_params_yaml_are_of_all_kinds() -> None:
    entries = yaml.safe_load((ROOT / "reproductions" / "params.yaml").read_text())["studies"]
    assert {entry["study"] for entry in entries.values()} == set(run_studies.STUDY_TYPES)


def test_receptive_fields_keep_the_order_and_show_the_blind_spot(project: Path) -> None:
    out = run_studies.run("fields")
    assert (out / "receptive_fields.png").is_file()
    rows = {row["network"]: row for row in _table(out)}
    before = 9 // 2 * 9 + 9 // 2
    assert {row["pixels before it"] for row in rows.values()} == {str(before)}
    event, even = arcore.events.Binary((1, 9, 9)), {}
    for title, network in STUDIES["fields"]["networks"].items():
        model = receptive_fields.randomise(arcore.create_model(event=event, **network))
        seen = receptive_fields.turned_over(model, 9)
        assert not seen.flatten()[before:].any()
        assert torch.equal(seen, receptive_fields.gradients(model, 9) > 0)
        assert int(seen.sum()) == int(rows[title]["seen by turning over"]) > 5
        assert rows[title]["by gradient"] == rows[title]["seen by turning over"]
        even[title] = torch.equal(seen[:4], seen[:4].flip(1))
    assert even == {"two stacks": True, "one stack": False}


def test_times_are_positive_and_evaluations_the_models(project: Path) -> None:
    rows = _table(run_studies.run("draws"))
    assert [row["image"] for row in rows] == ["4 x 4", "8 x 8"] * 2
    assert [row["evaluations"] for row in rows[:2]] == ["16", "64"]
    events = [arcore.events.Binary((1, side, side)) for side in (4, 8)]
    known = [arcore.create_model("parallel_multiscale", event).num_evaluations for event in events]
    assert [int(row["evaluations"]) for row in rows[2:]] == known
    assert all(float(row["seconds for 4"]) > 0 for row in rows)
    (row,) = _table(run_studies.run("steps"))
    assert float(row["4 x 4"]) > 0 and float(row["8 x 8"]) > 0


def test_masks_are_those_of_the_networks_that_were_trained(project: Path) -> None:
    rows = _table(run_studies.run("masks"))
    assert [(row["masks"], row["orderings"]) for row in rows] == [
        ("1", "the same"), ("2", "the same"), ("2", "one each")
    ]  # fmt: skip
    assert rows[0]["one of them"] == rows[0]["their mixture"]
    mean = [
        [float(row[key].split(" ± ")[0]) for key in ("one of them", "their mixture")]
        for row in rows
    ]
    assert all(mixed <= one for one, mixed in mean)
    trained = [saved_models.load_folder(path) for path in Path("models").glob("masks--*")]
    asked = [one.model.hyperparameters.to_dict() for one in trained]
    assert sorted((one["num_masks"], one["order_agnostic"]) for one in asked) == [
        (1, False), (2, False), (2, True)
    ]  # fmt: skip
    assert not list(Path("evaluation").glob("*")), "no report shows what a study trained"


def test_fewer_rows_are_passed_over_more_often(project: Path) -> None:
    out = run_studies.run("rows")
    rows = _table(out)
    assert [(row["rows learned from"], row["epochs"]) for row in rows] == [
        ("50", "4"),
        ("100", "2"),
    ]
    assert all(0 < float(row["test bits/dim"].split(" ± ")[0]) < 1.1 for row in rows)
    trained = [saved_models.load_folder(path) for path in Path("models").glob("rows--*")]
    asked = [one.content["trainer"] for one in trained]
    assert sorted((one["train_rows"], one["max_epochs"]) for one in asked) == [(50, 4), (100, 2)]
    assert (out / "train_rows.png").is_file()
    with pytest.raises(UserError, match="rows: expected at most the 1257 of the training set"):
        run_studies.run("rows", ["rows=[2000]"])


def test_a_race_ends_where_the_slowest_was_best(project: Path) -> None:
    rows = _table(run_studies.run("race"))
    goal = max(float(row["best validation nats"]) for row in rows)
    assert f"epochs to {goal:.2f}" in rows[0] and len(rows) == 2
    assert all(float(row["s to that"]) > 0 for row in rows)


def test_simple_models_score_what_they_say(project: Path) -> None:
    rows = {row["on digits_binary"]: row["bits/dim"] for row in _table(run_studies.run("simple"))}
    assert rows["uniform levels"] == "1"
    images = {
        name: torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (40, 1, 2, 2))).long()
        for seed, name in enumerate(("train", "valid", "test"))
    }
    share = (images["train"].double().sum() + 1) / (images["train"].numel() + 2)
    x = images["test"].double()
    wanted = -(x * share.log() + (1 - x) * (1 - share).log()).flatten(1).sum(1)
    torch.testing.assert_close(simple_models.histogram_nats(images, 2), wanted)
    settings = simple_models.SimpleModels(shrinkages=[0.01, 1.0])
    nats, shrinkage = simple_models.gaussian_nats(images, settings)
    assert shrinkage == 1.0, "levels are independent"
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: x.flatten(1) + torch.rand(40, 4, generator=generator).double()
        for name, x in images.items()
    }
    normal = torch.distributions.Normal(noisy["train"].mean(0), noisy["train"].std(0))
    torch.testing.assert_close(nats, -normal.log_prob(noisy["test"]).sum(1))


def test_any_question_is_answered_by_networks_and_by_the_filter(project: Path) -> None:
    out = run_studies.run("question")
    rows = _table(out)
    asked = [(row["network"], row["answered by"]) for row in rows]
    assert asked == [("first", "itself"), ("last", "itself"), ("last", "particle filter")]
    names = {path.name for path in Path("models").glob("question--*")}
    (name,) = (name for name in names if "first" in name)
    use, seen = use_context.load(name), torch.arange(8).expand(1, 8, 8) < 4
    nats = use.missing_nats(use.rows("test", 3), seen)
    assert float(rows[0]["nats"].split(" ± ")[0]) == pytest.approx(float(nats.mean()), abs=0.01)
    assert rows[0]["times the first"] == "1" and float(rows[2]["seconds"]) > 0
    assert all(0 <= float(row["covered by 50%"].split(" ± ")[0]) <= 1 for row in rows[:2])
    assert {path.name for path in out.glob("*.png")} == {"right.png", "steps.png"}


def test_given_frames_are_scored_by_each_network(tmp_path, migrated: Path, monkeypatch) -> None:
    trained = CLIPS | {"dataset": "moving_digits", "model": "video_pixel_baseline"}
    train_on_few(tmp_path, migrated, {"clips": trained}, 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    networks = {"baseline": CLIPS | {"model": "video_pixel_baseline"}}
    _list({
        "frames": {
            "dataset": "moving_digits", "study": "context_frames", "networks": networks,
            "frames": [1, 10],
        }
    })  # fmt: skip
    entropy, *rows = _table(run_studies.run("frames"))
    asked = [saved_models.load_folder(path) for path in Path("models").glob("frames--*")]
    assert {one.content["model"]["context_frames"] for one in asked} == {1, 10}
    columns = ("frames 2 to 20", "frames 11 to 20")
    assert [row["trained after"] for row in rows] == ["1", "10"]
    for column in columns:
        bound = float(entropy[column].split(" ± ")[0])
        assert all(float(row[column].split(" ± ")[0]) > bound > 0 for row in rows)
    with pytest.raises(UserError, match="frames: expected fewer than the 20 of a clip, got 20"):
        run_studies.run("frames", ["frames=[20]"])


def test_a_record_and_a_copy(project: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["study", "steps"])
    study.main()
    out = project / "studies/steps"
    assert capsys.readouterr().out == (out / "table.csv").read_text()
    record = json.loads((out / "study.json").read_text())
    assert record["command"] == "python -m reproductions.study steps" and record["seconds"] > 0
    assert record["settings"] == {"models": ["made"], "sizes": [4, 8], "batch_size": 4}
    own = run_studies.run("steps", ["sizes=[4]"])
    assert own.name.startswith("steps--") and list(_table(own)[0]) == ["ms a step", "4 x 4"]
    assert len(_table(out)[0]) == 3
    copied = recording.record_study("steps")
    assert {path.name for path in copied.iterdir()} == {"study.json", "table.csv"}
    shutil.rmtree(copied)
    (out / "table.csv").write_text("ms a step,4 x 4\nmade,0.001\n")  # as `dvc checkout` does
    with pytest.raises(
        UserError, match=r"study\.json: expected the record of table\.csv, got none"
    ):
        recording.record_study("steps")
    assert not copied.exists()


@pytest.mark.parametrize(
    ("study", "overrides", "message"),
    [
        ("step", [], "unknown study 'step'; did you mean 'steps'"),
        ("steps", ["size=[4]"], "unknown parameter of studies.steps 'size'; did you mean 'sizes'"),
        ("steps", ["sizes=[0]"], "sizes: expected one integer >= 1 or more"),
        ("steps", ["models=[mad]"], "unknown model 'mad'; did you mean 'made'"),
        (
            "masks",
            ["networks.MADE.modle=nade"],
            "unknown key of studies.masks.networks.MADE 'modle",
        ),
        (
            "masks",
            ["networks.MADE.overrides=[trainer.seed=1]"],
            "unknown key of studies.masks.networks.MADE 'overrides",
        ),
        (
            "race",
            ["networks.wide={model: pixelvae, model_overrides: null}"],
            "networks.wide: expected a model with an exact",
        ),
        ("race", ["networks.third=3"], "studies.race.networks.third: expected a mapping, got 3"),
        ("rows", ["rows=[20,100]"], "rows: expected at least a batch of 50 each, got 20"),
        (
            "fields",
            ["networks.more={name: nade, ordering: reverse}"],
            "networks.more: expected a model that goes from pixel to pixel in raster order",
        ),
        (
            "rows",
            ["networks.small.trainer.patience=2"],
            "networks.small.trainer.patience: expected null, so that all take as many steps, got 2",
        ),
        ("question", ["steps=[65]"], "steps: expected integers in [1, 64], got [65]"),
        ("question", ["masks=[rigth]"], "unknown mask 'rigth'; did you mean 'right'"),
        ("question", ["num_rows=0"], "num_rows: expected an integer >= 1, got 0"),
        ("question", ["networks.last.model=made"], "networks.last: expected a model of any order"),
        ("simple", ["seed=99999999999999999999"], "seed: expected an integer in [0, 2^31)"),
        ("simple", ["shrinkages=[0]"], "shrinkages: expected one number in [1e-05, 1] or more"),
    ],
)
def test_what_is_refused(project: Path, study: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        run_studies.run(study, overrides)
    assert message in str(refused.value)
    assert not list(Path("studies").glob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "races"}, "unknown kind of studies.steps 'races'; did you mean 'race'"),
        ({"study": None}, "studies.steps: study: expected a text, got None"),
        ({"dataset": "digts"}, "data/shards/digts/manifest.json: file not found"),
    ],
)
def test_entries_that_are_refused(project: Path, change: dict[str, Any], message: str) -> None:
    _list({"steps": {"dataset": "digits_binary", **STUDIES["steps"], **change}})
    with pytest.raises(UserError) as refused:
        run_studies.run("steps")
    assert message in str(refused.value)

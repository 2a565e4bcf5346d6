"""A number belongs to its weights, data, configuration and code, and is a number."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts import locks
from pipeline.core import paths, stage_code
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.data.manifest import read_manifest
from pipeline.evaluation import (
    experiment_evaluation,
    identity,
    measuring,
    reading,
)
from pipeline.experiments import compose
from pipeline.training import saved_models
from tests.support.other_shards import write_black

WEIGHTS = Path("models/toy/model.safetensors")
CONFIG = Path("models/toy/config.yaml")
RESULT = Path("evaluation/digits_binary/toy/metrics.json")


def change(path: Path, *keys: str, **values: Any) -> None:
    content = inner = yaml.safe_load(path.read_text())
    for key in keys:
        inner = inner[key]
    inner |= values
    path.write_text(yaml.safe_dump(content))


def change_entry(**values: Any) -> None:
    change(Path("params.yaml"), "experiments", "toy", **values)


@pytest.fixture
def result(project) -> dict:
    change_entry(evaluation={"num_samples": 2})
    experiment_evaluation.evaluate(compose.load("toy"))
    return json.loads(RESULT.read_text())


def change_weights(of: Callable[[Tensor], Tensor], each: bool = False) -> None:
    weights = {name: value.clone() for name, value in load_file(WEIGHTS).items()}
    names = [name for name, value in weights.items() if value.is_floating_point()]
    for name in names if each else names[:1]:
        weights[name] = of(weights[name])
    save_file(weights, WEIGHTS)


def test_metrics_say_what_they_belong_to(result: dict) -> None:
    assert result["weights_sha256"] == sha256_of(WEIGHTS)
    assert result["dataset_sha256"] == read_manifest("data/shards/digits_binary").sha256
    assert result["config_sha256"] == identity.config_sha256(compose.load("toy"))
    assert result["entry_sha256"] == identity.entry_sha256("toy")
    assert result["code_sha256"] == stage_code.code_sha256("evaluate", "made")
    assert stage_code.code_sha256("evaluate", "nade") not in (None, result["code_sha256"])
    assert result["num_valid_rows"] == 24
    (read,) = reading.read_results("digits_binary")
    assert read.result.code_sha256 == result["code_sha256"]


CHANGES: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda w: w.fill_(torch.nan), "expected finite weights, got 'NaN or inf"),
    (lambda w: w.fill_(torch.inf), "expected finite weights, got 'NaN or inf"),
    (lambda w: w.long(), "expected torch.float32, got torch.int64"),
    (lambda w: w.half(), "expected torch.float32, got torch.float16"),
    (lambda w: w > 0, "expected torch.float32, got torch.bool"),
    (lambda w: w.fill_(3e38), "toy: expected finite nats for each test row, got NaN or infin"),
]
FOREIGN: list[tuple[dict, str]] = [
    ({"experiment": "other"}, "metrics.json: experiment: expected toy, got 'other'"),
    ({"dataset": "mnist"}, "metrics.json: dataset: expected 'digits_binary', got 'mnist'"),
    ({"split": "train"}, "metrics.json: split: expected 'test', got 'train'"),
    ({"nats": float("inf")}, "metrics.json: nats: expected a finite number, got inf"),
    ({"nats_stderr": float("inf")}, "nats_stderr: expected a finite number, got inf"),
    ({"valid_nats": float("-inf")}, "valid_nats: expected a finite number, got -inf"),
    ({"weights_sha256": "0" * 64}, "toy: expected an output of models/toy as it is"),
    ({"dataset_sha256": "0" * 64}, "dataset_sha256: expected .* as the model was trained on"),
    (
        {"config_sha256": "0" * 64, "entry_sha256": "0" * 64},
        "evaluation/digits_binary/toy: expected a result of the exp",
    ),
]


def test_weights_without_a_result_leave_the_old_one(result: dict) -> None:
    before, weights = RESULT.read_bytes(), WEIGHTS.read_bytes()
    for of, message in CHANGES:
        WEIGHTS.write_bytes(weights)
        change_weights(of)
        with pytest.raises(UserError, match=message):
            experiment_evaluation.evaluate(compose.load("toy"))
        assert RESULT.read_bytes() == before
        assert [path.name for path in RESULT.parent.parent.iterdir()] == ["toy"]


def test_what_is_of_something_else_is_no_result(result: dict) -> None:
    RESULT.with_name("artifact.json").unlink()  # as an older version left it
    for changed, message in FOREIGN:
        RESULT.write_text(json.dumps(result | changed))
        with pytest.raises(UserError, match=message):
            reading.read_results("digits_binary")


def test_an_entry_that_changed_since_has_no_result(result: dict, caplog) -> None:
    change_entry(base=None, trainer={"max_epochs": 20})
    assert len(reading.read_results("digits_binary")) == 1, "it means the same"
    change_entry(trainer={"max_epochs": 3})
    with pytest.raises(UserError, match="run `python -m stages.train toy`"):
        reading.read_results("digits_binary")
    moved = {"toy": {"dataset": "digits", "model": "made"}}
    for experiments in (moved, {}):  # what DVC leaves of an entry that moved, or is gone
        Path("params.yaml").write_text(yaml.safe_dump({"experiments": experiments}))
        with pytest.raises(UserError, match="no evaluated experiment"):
            reading.read_results("digits_binary")
        assert "params.yaml has no such entry on digits_binary; left out" in caplog.text
        caplog.clear()
    Path("params.yaml").unlink()
    assert len(reading.read_results("digits_binary")) == 1, "which nothing contradicts"


def test_a_model_of_double_precision_is_evaluated_as_such(result: dict) -> None:
    change(CONFIG, trainer={"precision": "float64"})
    change_entry(trainer={"precision": "float64"})
    with pytest.raises(UserError, match="expected torch.float64, got torch.float32"):
        experiment_evaluation.evaluate(compose.load("toy"))
    change_weights(Tensor.double, each=True)
    experiment_evaluation.evaluate(compose.load("toy"))
    again = json.loads(RESULT.read_text())["nats"]
    assert again == pytest.approx(result["nats"], rel=1e-6) and again != result["nats"]


@pytest.mark.parametrize(
    ("asked", "had", "fits"), [("auto", "bfloat16", True), ("auto", "float64", False)]
)
def test_auto_is_either_precision_of_half_or_single(
    result: dict, asked: str, had: str, fits: bool
) -> None:
    change(CONFIG, trainer={"precision": had})
    if had == "float64":
        change_weights(Tensor.double, each=True)
    change_entry(trainer={"precision": asked})
    refused = pytest.raises(UserError, match=f"expected '{asked}' as the experiment has it")
    with contextlib.nullcontext() if fits else refused:
        experiment_evaluation.evaluate(compose.load("toy"))


def test_a_model_outlives_a_move_of_its_files_but_no_other_rows(result: dict) -> None:
    for options in ({"path": "elsewhere", "any_rendering": True}, {"coarse": True}):
        change(CONFIG, dataset={"name": "digits_binary", **options})
        refused = pytest.raises(UserError, match="dataset.coarse: expected None as the exp")
        with refused if "coarse" in options else contextlib.nullcontext():
            experiment_evaluation.evaluate(compose.load("toy"))


@pytest.mark.parametrize(
    ("key", "asked", "default"),
    [("model.activation", "tanh", "'relu'"), ("trainer.clip_norm", 3.0, "None")],
)
def test_what_an_older_config_leaves_out_has_its_default(
    result: dict, key: str, asked: object, default: str
) -> None:
    section, name = key.split(".")
    described = yaml.safe_load(CONFIG.read_text())
    described.get(section, {}).pop(name, None)
    CONFIG.write_text(yaml.safe_dump(described))
    experiment_evaluation.evaluate(compose.load("toy"))
    params = yaml.safe_load(Path("params.yaml").read_text())
    entry = params["experiments"]["toy"]
    place = "model_overrides" if section == "model" else section
    entry[place] = (entry.get(place) or {}) | {name: asked}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    message = f"models/toy: {key}: expected {asked!r} as the experiment has it, got {default}"
    with pytest.raises(UserError, match=message):
        manifest = read_manifest(paths.shards("digits_binary"))
        saved_models.check_entry(compose.load("toy"), saved_models.load("toy"), manifest)


def test_a_second_evaluation_is_refused_and_mixes_nothing(result: dict) -> None:
    before = RESULT.read_bytes()
    with locks.held(locks.path_of("evaluate-toy"), "evaluating toy"):
        with pytest.raises(UserError, match="^evaluating toy: expected to be alone"):
            experiment_evaluation.evaluate(compose.load("toy"))
    assert RESULT.read_bytes() == before


@pytest.mark.parametrize(
    ("make_anew", "what"),
    [
        (lambda: write_black(paths.shards("digits_binary")), "digits_binary"),
        (lambda: change_weights(lambda w: w + 1), "models/toy"),
    ],
    ids=["shards", "a training beside it"],
)
def test_what_is_made_anew_meanwhile_gives_no_result(
    result: dict, monkeypatch: pytest.MonkeyPatch, make_anew: Callable[[], None], what: str
) -> None:
    before, draw = RESULT.read_bytes(), measuring.drawn

    def made_anew(*given: Any, **named: Any) -> Any:
        found = draw(*given, **named)
        make_anew()
        return found

    monkeypatch.setattr(measuring, "drawn", made_anew)
    with pytest.raises(UserError, match=f"{what}: expected the content that this began with"):
        experiment_evaluation.evaluate(compose.load("toy"))
    assert RESULT.read_bytes() == before


def test_a_result_names_the_entry_and_the_code_that_it_began_with(
    result: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    excess, code = measuring.excess, ["a" * 64]

    def edited_meanwhile(*given: Any, **named: Any) -> Any:
        change_entry(trainer={"max_epochs": 3})
        code.append("b" * 64)
        return excess(*given, **named)

    monkeypatch.setattr(stage_code, "code_sha256", lambda *_: code[-1])
    monkeypatch.setattr(measuring, "excess", edited_meanwhile)
    experiment_evaluation.evaluate(compose.load("toy"))
    again = json.loads(RESULT.read_text())
    assert (again["entry_sha256"], again["code_sha256"]) == (result["entry_sha256"], "a" * 64)


def test_weights_that_are_replaced_while_they_are_loaded_are_refused(project, monkeypatch) -> None:
    load_weights = saved_models.checkpoints.load_weights

    def replaced_meanwhile(path: Path, model: torch.nn.Module) -> None:
        load_weights(path, model)
        change_weights(lambda w: w + 1)

    monkeypatch.setattr(saved_models.checkpoints, "load_weights", replaced_meanwhile)
    with pytest.raises(UserError, match="^models/toy: trained again meanwhile; run this again"):
        saved_models.load_folder(Path("models/toy"))

"""Folds: what is refused, and the result over them."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from arcore import events
from arcore.events import Real
from pipeline.artifacts import writer
from pipeline.core.errors import UserError
from pipeline.data import fetching
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from pipeline.datasets.tables.csv_table import RedWine
from pipeline.evaluation import cross_validation, identity
from pipeline.evaluation.result_records import MemberScore, Result, Score
from pipeline.experiments import compose, params_file
from pipeline.experiments.schema import ExperimentConfig
from pipeline.reporting.published import match, published_for
from tests.places import ROOT
from tests.support.refusals import killed_in_removing, raising

ONE = Result(
    experiment="x", dataset="red_wine", model="rnade", num_members=3, unit="nats", num_rows=160,
    num_split_rows=160, score=Score.from_nats(9.0, 0.5, Real((11,))), valid_nats=9.5,
    evaluate_seconds=0.04, train_seconds=3.75, sample_seconds=0.0076,
    member=MemberScore(member_nats=9.5, member_nats_stderr=0.5), device="cpu",
)  # fmt: skip


@pytest.fixture
def protocols(workdir: Path):
    """A function from an entry of `folds` to a working directory where `toy` is an experiment."""

    def make(entry: Any, dataset: str = "red_wine", model: str = "rnade") -> None:
        experiments = {"toy": {"dataset": dataset, "model": model}}
        params = {"experiments": experiments, "folds": {"toy": entry}}
        Path("params.yaml").write_text(yaml.safe_dump(params))

    return make


def test_folds_refuse_what_does_not_fit(protocols) -> None:
    protocols({"dataset": "digits", "model": "rnade"})
    with pytest.raises(UserError, match="folds.toy.dataset: expected 'red_wine', got 'digits'"):
        cross_validation.run("toy")
    protocols({"dataset": "red_wine"})
    with pytest.raises(UserError, match="folds.toy.model: expected 'rnade', got None"):
        cross_validation.run("toy")
    protocols({"dataset": "digits", "model": "made"}, "digits", "made")
    with pytest.raises(UserError, match="folds.toy: expected a dataset of several folds, got dig"):
        cross_validation.run("toy")
    protocols({"dataset": "red_wine", "model": "rnade"})
    with pytest.raises(UserError, match="unknown protocol of folds 'tyo'; did you mean 'toy'"):
        cross_validation.run("tyo")
    with pytest.raises(UserError, match=r"winequality-red.csv: file not found; run .*fetch red_w"):
        cross_validation.run("toy")
    assert not Path("evaluation").exists()


def test_the_project_names_published_counterparts_that_exist(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, entry in params_file.read_params()["folds"].items():
        dataset = catalog.get_dataset({"name": entry["dataset"]})
        assert dataset.num_folds > 1
        if entry["published"] is not None:
            match(published_for(dataset.published_name), entry["published"], name)


def test_a_result_over_folds_has_no_number_of_one_fold_alone() -> None:
    two = dataclasses.replace(ONE, score=Score.from_nats(10.0, 0.7, Real((11,))), num_rows=159)
    both = cross_validation.summary("x-folds", [ONE, two], {"model": "RNADE", "variant": "MoG"})
    wanted = Score.from_nats(9.5, 0.5, Real((11,)))  # deviation sqrt(1 / 2), over sqrt(2)
    assert both.score.to_dict() == pytest.approx(wanted.to_dict())
    assert both.member is None and both.valid_nats == 9.5
    written = both.to_dict()
    assert list(written)[-1] == "num_folds" and written["num_folds"] == 2
    assert (written["num_rows"], written["num_split_rows"]) == (319, 320)
    assert (written["train_seconds"], written["sample_seconds"]) == (7.5, 0.015)
    assert "member_nats" not in written and written["published_member"] is None


@pytest.fixture
def trained(protocols, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The experiment `toy`, whose folds are trained at once; which ones were, in order."""
    made: list[int] = []

    def fold(config: ExperimentConfig, fold: int, raw: Path, home: Path) -> Result:
        if not (home / "done").is_file():
            folder = home / "models" / config.name
            folder.mkdir(parents=True)
            event = events.to_dict(Real((11,)))
            content = {"dataset": {"fold": fold}, "event": event, "dataset_sha256": "d"}
            for name in cross_validation.MODEL_FILES:
                (folder / name).write_text(json.dumps(content))
            (home / "done").write_text("")
            made.append(fold)
        return ONE

    protocols({"dataset": "red_wine", "model": "rnade"})
    monkeypatch.setattr(cross_validation, "_fold", fold)
    monkeypatch.setattr(fetching, "verify_raw", lambda _: Path("raw"))
    return made


@pytest.mark.parametrize("error", [UserError("s3://b: no"), KeyboardInterrupt()], ids=repr)
def test_folds_are_kept_until_all_is_published(
    trained: list[int], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as away, pytest.raises(type(error)):
        away.setattr(writer, "publish", raising(error))
        cross_validation.run("toy")
    cross_validation.run("toy")
    assert trained == list(range(10)), "no fold is trained anew"
    assert list(Path(".arcore/folds").iterdir()) == []


def test_a_result_over_folds_is_of_the_experiment_as_it_is_now(trained: list[int]) -> None:
    out = cross_validation.run("toy")
    result = Result.read(out)
    identity.Entries.read().check(result)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["experiments"]["toy"]["trainer"] = {"max_epochs": 3}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"red_wine/toy-folds: .*; run `python -m stages.folds toy"):
        identity.Entries.read().check(result)


def test_a_kill_while_folds_are_removed_leaves_no_half_of_them(
    trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as midway, pytest.raises(SystemExit):
        midway.setattr(os, "replace", killed_in_removing)
        cross_validation.run("toy")
    assert not Path(".arcore/folds/toy").exists()
    cross_validation.run("toy")
    assert list(Path(".arcore/folds").iterdir()) == []


def test_a_fold_that_was_killed_in_its_evaluation_is_not_trained_anew(
    protocols, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocols({"dataset": "red_wine", "model": "rnade"})
    done: list[str] = []

    def evaluated(config: ExperimentConfig) -> None:
        done.append("evaluate")
        if done.count("evaluate") == 1:
            raise KeyboardInterrupt

    rows = SplitData(np.zeros((20, 11), np.float32))
    decoded = dict.fromkeys(SPLITS, rows)
    monkeypatch.setattr(RedWine, "decode", lambda *_: decoded)
    monkeypatch.setattr(cross_validation.driver, "train", lambda _: done.append("train"))
    monkeypatch.setattr(cross_validation.experiment_evaluation, "evaluate", evaluated)
    monkeypatch.setattr(Result, "read", lambda _: ONE)
    one = compose.load("toy")
    with pytest.raises(KeyboardInterrupt):
        cross_validation._fold(one, 0, Path("raw"), home / "fold")
    for _ in range(2):
        cross_validation._fold(one, 0, Path("raw"), home / "fold")
    assert done == ["train", "evaluate", "evaluate"]

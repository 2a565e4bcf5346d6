"""What a trial reports that was killed between its last epoch and the record of its end."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.tune
import torch
import yaml
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.tune.integration import ray_train

from pipeline.core import paths, private_apis
from pipeline.core.errors import SiteError, UserError
from pipeline.core.stage_code import Disagreement
from pipeline.data import preprocess
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import running, spec, tuning
from pipeline.search.trial_records import TrialRecord
from pipeline.training import driver
from pipeline.training.local_session import LocalSession
from pipeline.training.records import Failed, TrainingReport, outcome_to_dict
from pipeline.training.resolved import resolve
from pipeline.training.worker import run_job

VALUES = {"model.ordering": "raster"}
ENTRY: dict[str, Any] = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [8]},
    "trainer": {"max_epochs": 2, "batch_size": 50},
    "space": {"model.ordering": {"choice": ["raster", "snake"]}},
    "num_trials": 1,
}
DRAWN = {"model.ordering": json.dumps("raster"), "number": 1, "checkpoint": ""}


@pytest.fixture
def setting(
    workdir: Path, few_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> running.TrialSetting:
    """A search of trials of two workers, without Ray."""
    monkeypatch.setattr(ray_train, "TuneReportCallback", object)
    monkeypatch.setattr(private_apis, "own_groups", lambda *_: None)
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {}, "searches": {"toy": ENTRY}}))
    resources = ClusterConfig(num_workers=2, cpus_per_worker=1)
    return running.TrialSetting(
        search=spec.load_search("toy"),
        resources=resources,
        manifest=read_manifest(few_digits),
        shards=str(few_digits),
        place=str(workdir / "kept"),
    )


def train(setting: running.TrialSetting) -> None:
    """Leave the checkpoints of a training that came to its end."""
    resolved = resolve(setting.search.experiment(VALUES), setting.manifest)
    job = driver.make_job(resolved, threads=1, quiet=True, shards=setting.shards)
    session = LocalSession(f"{setting.place}/train-000001", torch.device("cpu"))
    run_job(job, session)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[TrainingReport]:
    """What Ray Tune is told; workers are not started."""
    found: list[TrainingReport] = []

    def report(plain: Mapping[str, object]) -> None:
        found.append(TrainingReport.from_dict(plain))

    def make_trainer(*_: object) -> None:
        raise UserError("workers start")

    monkeypatch.setattr(ray.tune, "report", report)
    monkeypatch.setattr(running, "make_trainer", make_trainer)
    return found


def test_a_trial_of_several_workers_with_nothing_left_reports_its_end(
    setting: running.TrialSetting, reports: list[TrainingReport]
) -> None:
    """Its workers would report nothing."""
    train(setting)
    running.run_trial(DRAWN, setting=setting)
    (report,) = reports
    assert report.finished and not report.problem and report.record is not None
    assert report.epoch == report.record.epoch == 2
    assert report.record.valid_nats is not None
    assert 0 < report.best_valid_nats <= report.record.valid_nats


@pytest.mark.parametrize("content", ["{", None], ids=["damaged", "none"])
def test_without_a_whole_checkpoint_of_the_end_its_workers_see_to_it(
    setting: running.TrialSetting, reports: list[TrainingReport], content: str | None
) -> None:
    if content is not None:
        train(setting)
        newest = max(Path(setting.place, "train-000001").iterdir())
        (newest / "state.json").write_text(content)
    running.run_trial(DRAWN, setting=setting)
    assert [report.problem for report in reports] == ["workers start"]


def test_workers_that_were_lost_are_no_fault_of_a_trial(
    setting: running.TrialSetting, reports: list[TrainingReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback then notes that it may be tried again."""

    class Trainer:
        def fit(self) -> None:
            raise WorkerGroupError("lost", {1: RuntimeError("a trace\nActorDiedError: its node")})

    monkeypatch.setattr(running, "make_trainer", lambda *_: Trainer())
    with pytest.raises(RuntimeError, match=r"^ActorDiedError: its node$"):
        running.run_trial(DRAWN, setting=setting)
    assert not reports


def test_shards_made_anew_are_no_fault_of_a_trial(
    setting: running.TrialSetting, reports: list[TrainingReport]
) -> None:
    """A rerun tries it again, and the search does not end well meanwhile."""
    dataset = catalog.get_dataset({"name": "digits_binary"})
    rows = SplitData(np.zeros((30, 1, 8, 8), np.uint8), np.zeros(30, np.int64))
    shards = preprocess.write(dataset, dict.fromkeys(SPLITS, rows), paths.shards("digits_binary"))
    resources = ClusterConfig(cpus_per_worker=1)
    alone = dataclasses.replace(setting, resources=resources, shards=str(shards))
    with pytest.raises(Disagreement, match="expected the shards that this training is of"):
        running.run_trial(DRAWN, setting=alone)
    assert not reports
    run = tuning.SearchRun(setting.search, setting.manifest, "", "", "", "", "")
    with pytest.raises(tuning.Interrupted, match=r"digits_binary was made anew meanwhile; rerun"):
        tuning._require_ended(run, [], 0.0)


def test_a_storage_that_is_away_is_no_fault_of_a_trial(
    setting: running.TrialSetting, reports: list[TrainingReport]
) -> None:
    alone = dataclasses.replace(setting, resources=ClusterConfig(cpus_per_worker=1))
    away = dataclasses.replace(alone, shards=str(Path(setting.place) / "away"))
    with pytest.raises(SiteError, match="manifest.json: file not found"):
        running.run_trial(DRAWN, setting=away)
    damaged = Path(shutil.copytree(setting.shards, "damaged"))
    first = next(damaged.glob("train-*.parquet"))
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    with pytest.raises(SiteError, match="corrupt shard"):
        running.run_trial(DRAWN, setting=dataclasses.replace(alone, shards=str(damaged)))
    assert not reports


def test_a_full_disk_is_no_fault_of_a_trial(
    setting: running.TrialSetting,
    reports: list[TrainingReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running, "_train_alone", full)
    alone = dataclasses.replace(setting, resources=ClusterConfig(cpus_per_worker=1))
    with pytest.raises(SiteError, match="No space left on device"):
        running.run_trial(DRAWN, setting=alone)
    assert not reports


def test_a_trial_too_large_for_its_accelerator_fails_by_itself(
    setting: running.TrialSetting,
    reports: list[TrainingReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def large(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(running, "_train_alone", large)
    alone = dataclasses.replace(setting, resources=ClusterConfig(cpus_per_worker=1))
    running.run_trial(DRAWN, setting=alone)
    assert [report.problem for report in reports] == ["CUDA out of memory."]


@pytest.mark.parametrize(
    "problem",
    [
        "pipeline.core.errors.SiteError: away",
        "RuntimeError: OSError: [Errno 28] No space left on device",
        "FileNotFoundError: [Errno 2] No such file or directory: 'kept'",
        "RuntimeError: Unable to set up cluster storage with the following settings:",
    ],
)
def test_a_search_does_not_end_well_while_storage_is_at_fault(
    setting: running.TrialSetting, problem: str
) -> None:
    run = tuning.SearchRun(setting.search, setting.manifest, "", "", "", "", "")
    lost = TrialRecord(number=1, status="failed", values=VALUES, problem=problem, lost=True)
    with pytest.raises(tuning.Interrupted, match="1 of 1 trials met a fault that is not theirs"):
        tuning._require_no_fault(run, [lost])
    own = dataclasses.replace(lost, problem="RuntimeError: shape '[3, 1]' is invalid")
    tuning._require_no_fault(run, [own])


def test_a_host_of_other_code_than_the_drivers_is_no_fault_of_a_trial(
    setting: running.TrialSetting, reports: list[TrainingReport]
) -> None:
    resources = ClusterConfig(cpus_per_worker=1)
    other = dataclasses.replace(setting, resources=resources, code_sha256="0" * 64)
    for ordering in ("raster", "of newer code"):
        drawn = DRAWN | {"model.ordering": json.dumps(ordering)}
        with pytest.raises(Disagreement, match="expected the code of the driver"):
            running.run_trial(drawn, setting=other)
    assert not reports


@pytest.mark.parametrize(("environment", "error"), [(True, SiteError), (False, None)])
def test_what_several_workers_met_is_told_apart(
    setting: running.TrialSetting,
    reports: list[TrainingReport],
    monkeypatch: pytest.MonkeyPatch,
    environment: bool,
    error: type[Exception] | None,
) -> None:
    class Trainer:
        def fit(self) -> SimpleNamespace:
            return SimpleNamespace(return_value=outcome_to_dict(Failed("why", environment)))

    monkeypatch.setattr(running, "make_trainer", lambda *_: Trainer())
    with pytest.raises(error, match="why") if error else nullcontext():
        running.run_trial(DRAWN, setting=setting)
    assert [report.problem for report in reports] == ([] if error else ["why"])

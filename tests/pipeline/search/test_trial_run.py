"""What a trial reports, also after a kill, and which faults are not its own."""

import dataclasses
import errno
import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune
import torch

from pipeline.artifacts import artifact
from pipeline.core import paths
from pipeline.core.errors import SiteError
from pipeline.core.stage_code import Disagreement
from pipeline.data.manifest import read_manifest
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import trial_run
from pipeline.search.spec import SearchRun
from pipeline.training import driver
from pipeline.training.resolved import resolve
from pipeline.training.training_records import Session
from tests.support import searches
from tests.support.other_shards import write_black
from tests.support.refusals import raising

ENTRY = searches.ENTRY | {
    "model_overrides": {"hidden": [8]},
    "trainer": {"max_epochs": 2, "batch_size": 50},
}
DRAWN = {"model.ordering": json.dumps("raster"), "number": 1, "known": 0}


OUTPUT = artifact.search("toy", "digits_binary", "python -m stages.tune toy")


@pytest.fixture
def setting(load, workdir: Path, few_digits: Path) -> SearchRun:
    """A search of trials of one worker, without Ray."""
    return SearchRun(
        load(), read_manifest(few_digits), "", str(workdir / "kept"), "", OUTPUT,
        resources=ClusterConfig(cpus_per_worker=1), shards=str(few_digits),
    )  # fmt: skip


Reports = list[Mapping[str, Any]]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    found: Reports = []
    monkeypatch.setattr(ray.tune, "report", found.append)
    return found


def test_a_trial_reports_what_the_search_may_not_know(setting: SearchRun, reports: Reports) -> None:
    """It was killed after its last epoch, and Ray Tune wants a result all the same."""
    trial_run.run_trial(DRAWN, run=setting)
    whole = list(reports)
    assert [(report["epoch"], report["finished"]) for report in whole] == [(1, False), (2, True)]
    for known, again in ((2, whole[1:]), (1, whole), (0, whole)):
        reports.clear()
        trial_run.run_trial(DRAWN | {"known": known}, run=setting)
        assert reports == again, "from the last epoch on that the search knows"
    # The checkpoint of the first epoch was written; its report never came.
    shutil.rmtree(Path(setting.place, "train-000001/checkpoint_000002"))
    reports.clear()
    trial_run.run_trial(DRAWN, run=setting)
    assert [report["epoch"] for report in reports] == [1, 2] and reports[0] == whole[0]
    assert reports[1]["best_valid_nats"] == whole[1]["best_valid_nats"]


@pytest.mark.parametrize("content", ["{", ""])
def test_a_damaged_checkpoint_of_the_end_falls_back(
    setting: SearchRun, reports: Reports, content: str
) -> None:
    trial_run.run_trial(DRAWN, run=setting)
    Path(setting.place, "train-000001/checkpoint_000002/state.json").write_text(content)
    reports.clear()
    trial_run.run_trial(DRAWN | {"known": 2}, run=setting)
    assert [report["epoch"] for report in reports] == [2] and reports[0]["finished"]


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_worker_is_no_fault_of_a_trial(
    setting: SearchRun, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The callback then notes that it may be tried again."""
    cause = "ActorDiedError: its node" if lost else None
    monkeypatch.setattr(trial_run, "_cause_of_loss", lambda ends: cause)
    actor = SimpleNamespace(train=SimpleNamespace(remote=lambda *_: None))
    monkeypatch.setattr(trial_run, "_start", lambda *_: actor)
    monkeypatch.setattr(trial_run, "_process_group", lambda *_: nullcontext())
    monkeypatch.setattr(trial_run, "TCPStore", lambda *_, **__: SimpleNamespace(port=1))
    monkeypatch.setattr(trial_run.ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    killed: list[object] = []
    monkeypatch.setattr(trial_run.ray, "kill", killed.append)
    job = driver.make_job(resolve(setting.search.base, setting.manifest), "", threads=1)
    session = Session(0, 3, torch.device("cpu"))
    reason = "^ActorDiedError: its node$" if lost else "^Connection closed by peer$"
    with pytest.raises(RuntimeError, match=reason):
        with trial_run.trial_workers(job, setting.resources, session):
            raise RuntimeError("Connection closed by peer")
    assert len(killed) == 2


def test_shards_made_anew_are_no_fault_of_a_trial(setting: SearchRun, reports: Reports) -> None:
    """A rerun tries it again."""
    shards = write_black(paths.shards("digits_binary"))
    alone = dataclasses.replace(setting, shards=str(shards))
    with pytest.raises(Disagreement, match="expected the shards that this training is of"):
        trial_run.run_trial(DRAWN, run=alone)
    assert not reports


def test_a_storage_that_is_away_is_no_fault_of_a_trial(
    setting: SearchRun, reports: Reports
) -> None:
    away = dataclasses.replace(setting, shards=str(Path(setting.place) / "away"))
    with pytest.raises(SiteError, match="manifest.json: file not found"):
        trial_run.run_trial(DRAWN, run=away)
    damaged = Path(shutil.copytree(setting.shards, "damaged"))
    first = next(damaged.glob("train-*.parquet"))
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    with pytest.raises(SiteError, match="corrupt shard"):
        trial_run.run_trial(DRAWN, run=dataclasses.replace(setting, shards=str(damaged)))
    assert not reports


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (OSError(errno.ENOSPC, "No space left"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
    ],
)
def test_a_full_disk_is_no_fault_of_a_trial_and_a_full_accelerator_is(
    setting: SearchRun, reports: Reports, monkeypatch, error: Exception, own: bool
) -> None:
    monkeypatch.setattr(trial_run, "_train", raising(error))
    with nullcontext() if own else pytest.raises(SiteError, match="No space left"):
        trial_run.run_trial(DRAWN, run=setting)
    assert [report["problem"] for report in reports] == [str(error)] * own


def test_a_host_of_other_code_than_the_drivers_is_no_fault_of_a_trial(
    setting: SearchRun, reports: Reports
) -> None:
    other = dataclasses.replace(setting, code_sha256="0" * 64)
    for ordering in ("raster", "of newer code"):
        drawn = DRAWN | {"model.ordering": json.dumps(ordering)}
        with pytest.raises(Disagreement, match="expected the code of the driver"):
            trial_run.run_trial(drawn, run=other)
    assert not reports

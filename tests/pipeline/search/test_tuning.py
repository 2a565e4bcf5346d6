"""What a search leaves as it was until it begins, and how its MLflow run ends."""

import contextlib
import functools
import json
import shutil
from pathlib import Path

import pytest

from pipeline.artifacts import locks, origin, writer
from pipeline.artifacts.writer import Work
from pipeline.cluster import connection
from pipeline.core import paths
from pipeline.core.errors import AskedToStop, UserError
from pipeline.data.manifest import read_manifest
from pipeline.search import outcome, spec, tuning
from pipeline.search.trials import TrialRecords
from pipeline.stage import Made, Projection
from pipeline.tracking import mlflow_store
from pipeline.tracking.tracked_run import TrackedRun
from tests.support import refusing_cluster
from tests.support.refusals import raising
from tests.support.searches import ENTRY, EPOCH, record  # noqa: F401


@pytest.fixture
def ended(load, few_digits: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A project with a search, no Ray and no MLflow; how runs were ended."""
    ends: list[str] = []
    shutil.copytree(few_digits, "data/shards/digits_binary")
    load()
    monkeypatch.setattr(connection, "connected", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(connection, "require_resources", lambda _: None)
    monkeypatch.setattr(tuning, "_environment", dict)
    monkeypatch.setattr(mlflow_store, "start_run", lambda *_, **__: "run")
    monkeypatch.setattr(TrackedRun, "update", lambda self, status, **_: ends.append(status))
    return ends


def kept_trials() -> Path:
    manifest = read_manifest(paths.shards("digits_binary"))
    config_hash = spec.load_search("toy").config_hash(manifest.sha256)
    return Path(".arcore/tune").absolute() / f"toy-{config_hash[:12]}"


def test_a_second_search_touches_nothing_of_the_first(ended: list[str], monkeypatch) -> None:
    refusing_cluster.forbid_runs(monkeypatch)
    kept = kept_trials()
    with locks.held(locks.path_beside(str(kept.parent), kept.name), "searching toy"):
        with pytest.raises(UserError, match="^searching toy: expected to be alone"):
            tuning.tune("toy", fresh=True)


@pytest.mark.parametrize("failing", refusing_cluster.FAILING)
def test_a_cluster_that_will_not_do_leaves_all_as_it_was(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    refusing_cluster.refuse(monkeypatch, failing)
    kept = kept_trials() / "trials"
    kept.mkdir(parents=True)
    with pytest.raises(UserError, match=refusing_cluster.MESSAGE):
        tuning.tune("toy", fresh=True)
    assert kept.is_dir() and ended == []


def test_trials_are_kept_until_the_search_is_published(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def fit(run: tuning.SearchRun, records: TrialRecords, _: object) -> None:
        monkeypatch.setattr(origin, "commit", lambda: "edited meanwhile")
        if not records.all():
            records.keep(record(1, "finished", EPOCH))

    def write(_: object, table: list[object], found: dict[str, object], folder: Path) -> None:
        (folder / "trials.csv").write_text("")
        (folder / "search.json").write_text(json.dumps(found))

    monkeypatch.setattr(tuning, "_fit", fit)
    monkeypatch.setattr(outcome, "write", write)
    monkeypatch.setattr(origin, "commit", lambda: "as it began")
    with monkeypatch.context() as failing, pytest.raises(UserError, match="s3://b: cannot write"):
        failing.setattr(writer, "publish", raising(UserError("s3://b: cannot write")))
        tuning.tune("toy")
    assert ended == ["FAILED"] and kept_trials().is_dir()
    assert json.loads(Path("searches/toy/search.json").read_text())["commit"] == "as it began"
    tuning.tune("toy")
    assert ended == ["FAILED", "FINISHED"] and not kept_trials().exists()
    assert "toy: best trial 1 of 1, validation 9.000 nats; wrote " in caplog.text


def test_a_search_without_trials_kept_is_a_run_of_its_own(ended: list[str], monkeypatch) -> None:
    """Its numbers would mix with those of trials that are gone."""
    asked: list[bool] = []

    def start_run(*_: object, fresh: bool, **__: object) -> str:
        asked.append(fresh)
        return "run"

    def fit(run: tuning.SearchRun, records: TrialRecords, _: object) -> None:
        records.keep(record(1, "unfinished", EPOCH))

    monkeypatch.setattr(mlflow_store, "start_run", start_run)
    monkeypatch.setattr(tuning, "_fit", fit)
    for _ in range(2):
        with pytest.raises(AskedToStop):
            tuning.tune("toy")
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("problem", "waits"),
    [
        ("pipeline.core.errors.SiteError: /mnt/shards: away", True),
        ("pipeline.core.stage_code.Disagreement: host b: other code", True),
        ("RuntimeError: OSError: [Errno 28] No space left on device", True),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'kept'", True),
        ("RuntimeError: Unable to set up cluster storage with the following settings:", True),
        ("ActorDiedError: it took all the memory", False),
        ("RuntimeError: shape '[3, 1]' is invalid", False),
    ],
)
def test_a_search_does_not_end_well_while_a_site_is_at_fault(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, problem: str, waits: bool
) -> None:
    """Else a storage that is away for a minute would take trials from the search for good."""

    def fit(run: tuning.SearchRun, records: TrialRecords, _: object) -> None:
        records.keep(record(1, "failed", problem=problem, lost=True))

    def write(run: tuning.SearchRun, _: object, work: Work) -> Made[None]:
        (work.folder / "trials.csv").write_text("")
        forget = functools.partial(shutil.rmtree, run.place)
        return Made(None, projection=Projection(), finish=forget)

    monkeypatch.setattr(tuning, "_fit", fit)
    monkeypatch.setattr(tuning, "_write", write)
    told = r"1 of 1 trials met a fault .* rerun to try"
    with pytest.raises(AskedToStop, match=told) if waits else contextlib.nullcontext():
        tuning.tune("toy")
    assert kept_trials().is_dir() == waits and ended == ["KILLED" if waits else "FINISHED"]

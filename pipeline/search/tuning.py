"""Searching hyperparameters with Ray Tune: the driver's side."""

import dataclasses
import functools
import logging
import os
import re
import shlex
import signal
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import SEAL
from pipeline.artifacts.writer import Work
from pipeline.cluster import connection, shared_storage
from pipeline.core import paths, stage_code, storage
from pipeline.core.errors import AskedToStop, explained
from pipeline.data.manifest import read_manifest
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import outcome
from pipeline.search.spec import SearchRun, load_search
from pipeline.search.trials import TrialRecord, TrialRecords, best
from pipeline.stage import Made, Projection
from pipeline.tracking import mlflow_store
from pipeline.training import driver
from pipeline.training.training_records import BEST

log = logging.getLogger(__name__)

# named in an error's last line, of a trial's own process or of another worker's
SITE = re.compile(r"\b(SiteError|Disagreement|OSError|Errno|Unable to set up cluster storage)\b")

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # nothing reads them, and NaN makes one complain
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # of Ray Tune's own state, which nothing reads
}


def tune(name: str, overrides: Sequence[str] = (), fresh: bool = False) -> Path:
    """Run a search of params.yaml and write searches/<name>/, or its name with the overrides.

    An interrupted search goes on from its trials' JSON files, unless it is to start `fresh`: trials
    that ended are kept, running ones continue from their checkpoints.
    """
    search = load_search(name, overrides)
    dataset = search.base.dataset["name"]
    manifest = read_manifest(paths.shards(dataset))
    config_hash = search.config_hash(manifest.sha256)
    command = shlex.join(["python", "-m", "stages.tune", name, *overrides])
    output = artifact.search(search.name, manifest.dataset, command)
    place = storage.join(shared_storage.storage_of(search.base.cluster), "tune")
    unfinished = place, f"{search.name}-{config_hash[:12]}"
    experiment = mlflow_store.experiment_of(dataset)
    run = SearchRun(search, manifest, config_hash, storage.join(*unfinished), experiment, output)
    shared = shared_storage.shared_storage(search.base.cluster)
    return stage.run(output, functools.partial(_tune, run, fresh), work=unfinished, storage=shared)


def _tune(run: SearchRun, fresh: bool, work: Work) -> Made[Path]:
    search = run.search
    search.check(run.manifest)
    records = TrialRecords(search, run.place)
    if not fresh:
        records.read()
    with connection.connected(_environment()):
        resources = trial_cluster(search.base.cluster)
        connection.require_resources(resources)
        is_new = fresh or not records.all()  # an unfinished run is that of other trials
        run = _start(run, work, is_new)
        _fit(run, records, resources)
        table = records.all()
        _require_ended(run, table, work.seconds)
    return _write(run, table, work)


def _start(run: SearchRun, work: Work, fresh: bool) -> SearchRun:
    """Start a search's MLflow run, or go on with it; forget its trials if asked to."""
    if fresh:
        storage.remove(run.place)
    space = {p.name: f"{p.kind} {list(p.values)}" for p in run.search.space}
    work.run_id = mlflow_store.start_run(
        run.mlflow_experiment,
        f"tune {run.search.name}",
        shared_storage.run_key(run.search.base.cluster, run.config_hash),
        params=space | dataclasses.asdict(run.search.plan),
        tags={"commit": work.commit, "dataset_sha256": run.manifest.sha256},
        fresh=fresh,
    )
    return dataclasses.replace(run, run_id=work.run_id)


def _environment() -> dict[str, str]:
    """Set Ray Tune's variables here; return the variables of all workers."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    return driver.worker_variables()


def _require_ended(run: SearchRun, table: Sequence[TrialRecord], seconds: float) -> None:
    """Check that all trials ended, or the time budget did.

    No trial may have failed because of storage, shards, hosts or code: a rerun tries those again.
    """
    search = run.search
    ended = sum(row.ended for row in table)
    budget = search.plan.time_budget_minutes
    in_time = budget is None or seconds < 60 * budget
    if ended < len(table) or (ended < search.total and in_time):
        raise AskedToStop(
            f"{search.name}: interrupted with {ended} of {search.total} trials ended, which are "
            "kept; rerun to go on"
        )
    faults = [record.problem for record in table if record.lost and SITE.search(record.problem)]
    if faults:
        raise AskedToStop(
            f"{search.name}: {len(faults)} of {len(table)} trials met a fault that is not "
            f"theirs; the others are kept, rerun to try those again: {faults[-1]}"
        )


def _write(run: SearchRun, table: Sequence[TrialRecord], work: Work) -> Made[Path]:
    search, folder = run.search, run.output.folder
    here = search.base.cluster.use_gpu and torch.cuda.is_available()  # a head may have none
    work.device = torch.device("cuda" if here else "cpu")
    origin = {"run_id": run.run_id, "mlflow_experiment": run.mlflow_experiment}
    record = outcome.summarize(search, table, **origin)
    outcome.write(search, table, record, work.folder)
    winner, count = best(table), len(table)
    found = f"best trial {winner.number} of {count}, validation {winner.value:.3f} nats"
    files = sorted({path.name for path in work.folder.iterdir()} | {SEAL, run.output.kind.origin})
    return Made(
        folder,
        said=[f"{search.name}: {found}; wrote {folder}"],
        metrics=outcome.summary(record),
        projection=Projection(values={BEST: min(row.value for row in table)}, files=files),
        finish=functools.partial(storage.remove, run.place),
    )


def trial_cluster(cluster: ClusterConfig) -> ClusterConfig:
    """Return the cluster of one trial: one CPU per worker unless configured; all workers needed."""
    cpus = cluster.cpus_per_worker or 1
    return dataclasses.replace(cluster, cpus_per_worker=cpus, min_workers=None)


def _fit(run: SearchRun, records: TrialRecords, resources: ClusterConfig) -> None:
    """Run the trials that have not ended; `records` knows all then, and MLflow the ended ones."""
    from ray import tune as ray_tune  # here: after the variables that Ray reads
    from ray.exceptions import RayError

    from pipeline.search.algorithms import TrialSource, scheduler_of
    from pipeline.search.callback import TrialLogger, log_runs, number_of
    from pipeline.search.trial_run import bundles, trainable

    search, before = run.search, records.all()
    scheduler = scheduler_of(search.plan.scheduler, before)
    source = TrialSource(search, before, scheduler)
    if before:
        log.info("%s: goes on with an interrupted search", search.name)
    if not source.left:
        log_runs(run, before)
        return
    dataset = search.base.dataset["name"]
    shards = shared_storage.publish_shards(search.base.cluster, paths.shards(dataset), dataset)
    code = stage_code.code_sha256("train", str(search.base.model["name"]))
    run = dataclasses.replace(run, resources=resources, shards=shards, code_sha256=code)
    budget, is_alone = search.plan.time_budget_minutes, connection.num_workers(resources) == 1
    filesystem, path = storage.filesystem(records.place)
    leave = functools.partial(os.kill, os.getpid(), signal.SIGINT)
    lost = f"{search.name}: the cluster was lost (what ended is kept, rerun to go on):"
    with warnings.catch_warnings(), connection.on_signal(leave), explained(lost, RayError):
        # Ctrl-C is Ray Tune's way to save the search and leave; its warnings are about itself.
        warnings.simplefilter("ignore")
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        # Not a Tuner, which pickles itself into the storage and unpickles errors from there.
        ray_tune.run(
            ray_tune.with_resources(
                trainable(run), ray_tune.PlacementGroupFactory(bundles(resources))
            ),
            name=f"attempt-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=filesystem,
            search_alg=source,
            scheduler=scheduler,
            num_samples=source.left,
            max_concurrent_trials=resources.max_concurrent_trials,
            time_budget_s=None if budget is None else 60 * budget,
            reuse_actors=is_alone,  # else the other workers end with it
            trial_dirname_creator=lambda trial: f"trial-{number_of(trial):06d}",
            max_failures=resources.max_failures,
            callbacks=[TrialLogger(run, records)],
            raise_on_failed_trial=False,
            verbose=0,
        )
    log_runs(run, records.all())

"""Searching hyperparameters with Ray Tune: the driver's side, and the function of a trial."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cluster import connection, shared_storage
from pipeline.core import paths, provenance, storage
from pipeline.core.errors import UserError, one_line
from pipeline.data import shard_reader
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import outcome
from pipeline.search.spec import Search, load_search
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training import driver

log = logging.getLogger(__name__)

METRIC, TIME = "best_valid_nats", "epoch"
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # what a kill may cost of the search's own state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "300",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}


def tune(name: str, overrides: Sequence[str] = (), fresh: bool = False) -> Path:
    """Run a search of params.yaml and write searches/<name>/.

    A search that was interrupted goes on: finished trials are kept, running ones continue from
    their checkpoints.

    Arguments:
        name: a key of `searches`.
        overrides: see `load_search`.
        fresh: forget an unfinished search of this very configuration.

    Raises:
        UserError: for a search that cannot be, a cluster too small, an interruption, or when no
            trial gave a finite validation value.
    """
    search = load_search(name, overrides)
    manifest = shard_reader.read_manifest(paths.shards(search.base.dataset["name"]))
    search.check(manifest)
    identity = search.identity(manifest.sha256)
    place = storage.join(shared_storage.storage_of(search.base.cluster), "tune")
    folder = f"{name}-{identity[:12]}"
    if fresh:
        storage.remove(storage.join(place, folder))
    experiment = f"arcore-{search.base.dataset['name']}"
    run_id = mlflow_store.start_run(
        experiment,
        f"tune {name}",
        identity,
        params={p.name: f"{p.kind} {list(p.values)}" for p in search.space}
        | dataclasses.asdict(search.plan),
        tags={"commit": provenance.commit(), "dataset_sha256": manifest.sha256},
    )
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    variables = connection.MALLOC | {"MLFLOW_TRACKING_URI": mlflow_store.tracking_uri()}
    if "ARCORE_HOME" in os.environ:
        variables["ARCORE_HOME"] = os.environ["ARCORE_HOME"]
    began = time.perf_counter()
    with connection.connected(variables):
        resources = trial_cluster(search.base.cluster)
        connection.require_resources(resources)
        results = _run(search, resources, manifest, place, folder, run_id, experiment, identity)
        table = outcome.read(search, results)
    logger = run_logger.RunLogger(run_id)
    ended = sum(row.status != "unfinished" for row in table)
    budget = search.plan.time_budget_minutes
    in_time = budget is None or time.perf_counter() - began < 60 * budget
    if ended < len(table) or (ended < search.total and in_time):
        logger.finish("KILLED")
        raise UserError(
            f"{name}: interrupted with {ended} of {search.total} trials ended, which are kept; "
            "rerun to go on"
        )
    record = {
        "run_id": run_id,
        "mlflow_experiment": experiment,
        "seconds": round(time.perf_counter() - began, 1),
        "commit": provenance.commit(),
    }
    try:
        out = outcome.write(search, table, record)
    except UserError:
        logger.finish("FAILED")
        raise
    for path in sorted(out.iterdir()):
        logger.artifact(path)
    logger.metrics({"best_valid_nats": outcome.best(table).value})
    logger.finish("FINISHED")
    shared_storage.publish(search.base.cluster, out, "search.json")
    storage.remove(storage.join(place, folder))
    return out


def trial_cluster(config: ClusterConfig) -> ClusterConfig:
    """Return the cluster of one trial: a CPU a worker, unless more are configured."""
    return dataclasses.replace(config, cpus_per_worker=config.cpus_per_worker or 1)


def concurrency(config: ClusterConfig, have: Mapping[str, float]) -> int:
    """Return how many trials of several workers fit a cluster at the same time, at least 1.

    The workers of such a trial are placed after the trial has started, so more trials would each
    hold a part of the workers that they need and wait for ever.

    Example:
        >>> concurrency(ClusterConfig(num_workers=2, cpus_per_worker=1), {"CPU": 5.0})
        2
    """
    fit = have.get("CPU", 0) // (config.num_workers * (config.cpus_per_worker or 1))
    if config.use_gpu:
        fit = min(fit, have.get("GPU", 0) // config.num_workers)
    return max(1, min(int(fit), config.max_concurrent_trials or int(fit)))


def _run(
    search: Search,
    resources: ClusterConfig,
    manifest: shard_reader.Manifest,
    place: str,
    folder: str,
    run_id: str | None,
    experiment: str,
    identity: str,
) -> Any:
    import ray
    from ray import tune as ray_tune
    from ray.exceptions import RayError

    from pipeline.search.callback import TrialLogger

    alone = resources.num_workers == 1
    trial = functools.partial(
        run_trial,
        search=search,
        resources=resources,
        manifest=manifest,
        place=storage.join(place, folder),
    )
    # The workers of a trial of several are Ray Train's; the trial itself only waits for them.
    needs = {"CPU": float(resources.cpus_per_worker or 1)} if alone else {"memory": 1.0}
    if alone and resources.use_gpu:
        needs["GPU"] = 1.0
    trainable = ray_tune.with_resources(trial, needs)
    limit = resources.max_concurrent_trials
    if not alone:
        limit = concurrency(resources, ray.cluster_resources())
    filesystem, path = storage.filesystem(place)
    with warnings.catch_warnings(), connection.on_sigterm(_interrupt):
        warnings.simplefilter("ignore")  # of Ray Tune's about itself
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        where = f"{path}/{folder}"
        if ray_tune.Tuner.can_restore(where, filesystem):
            log.info("%s: goes on with an interrupted search", search.name)
            tuner = ray_tune.Tuner.restore(
                where, trainable, resume_errored=True, storage_filesystem=filesystem
            )
        else:
            tuner = ray_tune.Tuner(
                trainable,
                param_space={parameter.name: parameter.domain() for parameter in search.space},
                tune_config=_tune_config(search, limit),
                run_config=ray_tune.RunConfig(
                    name=folder,
                    storage_path=path,
                    storage_filesystem=filesystem,
                    failure_config=ray_tune.FailureConfig(max_failures=resources.max_failures),
                    checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=2),
                    callbacks=[TrialLogger(search, run_id, experiment, identity)],
                    verbose=0,
                ),
            )
        try:
            return tuner.fit()
        except RayError as error:
            raise UserError(
                f"{search.name}: the cluster was lost (what ended is kept, rerun to go on): "
                f"{one_line(error)}"
            ) from error


def _tune_config(search: Search, limit: int | None) -> Any:
    import optuna
    from ray import tune as ray_tune
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = search.plan
    defaults = search.defaults()
    first = None
    if defaults is not None and not any(p.kind == "grid" for p in search.space):
        first = [{p.name: p.encode(defaults[p.name]) for p in search.space}]
    if plan.searcher == "optuna":
        algorithm = OptunaSearch(
            metric=METRIC, mode="min", seed=plan.seed, points_to_evaluate=first
        )
    else:
        algorithm = BasicVariantGenerator(
            points_to_evaluate=first, random_state=plan.seed, max_concurrent=0
        )
    scheduler = FIFOScheduler()
    if plan.scheduler.name == "asha":
        scheduler = AsyncHyperBandScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode="min",
            max_t=10**9,  # a trial's own max_epochs may be part of the space, and ends it
            grace_period=plan.scheduler.grace_epochs,
            reduction_factor=plan.scheduler.reduction_factor,
            brackets=plan.scheduler.brackets,
        )
    budget = plan.time_budget_minutes
    return ray_tune.TuneConfig(
        metric=None if plan.scheduler.name == "asha" else METRIC,
        mode=None if plan.scheduler.name == "asha" else "min",
        search_alg=algorithm,
        scheduler=scheduler,
        num_samples=plan.num_trials,
        max_concurrent_trials=limit,
        time_budget_s=None if budget is None else 60 * budget,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
    )


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)  # Ray Tune's way to save the search and leave


def run_trial(
    drawn: dict[str, Any],
    *,
    search: Search,
    resources: ClusterConfig,
    manifest: shard_reader.Manifest,
    place: str,
) -> None:
    """Train with the values of a trial and report to Ray Tune, in Ray Tune's process.

    A combination that cannot be, or whose loss is not finite, is reported as such; it does not
    fail the search.
    """
    from ray import tune as ray_tune

    logging.getLogger("ray").setLevel(logging.WARNING)  # it names each checkpoint
    values = {p.name: p.decode(drawn[p.name]) for p in search.space}
    try:
        config = dataclasses.replace(search.experiment(values), cluster=resources)
        described = driver.describe(config, manifest)
        trial_id = ray_tune.get_context().get_trial_id()
        job = driver.make_job(config, described, config.identity(manifest.sha256)) | {
            "threads": resources.cpus_per_worker,
            "quiet": True,
        }
        train = _train_alone if resources.num_workers == 1 else _train_together
        summary = train(job, resources, place, f"train-{trial_id}")
    except UserError as error:
        summary = {"error": str(error)}
    if "error" in summary:
        ray_tune.report({METRIC: math.inf, TIME: 1, "problem": summary["error"]})


def _train_alone(
    job: dict[str, Any], resources: ClusterConfig, place: str, name: str
) -> dict[str, Any]:
    from pipeline.training.sessions import TrialSession
    from pipeline.training.worker import Worker

    return Worker(job, TrialSession(resources.use_gpu)).run()


def _train_together(
    job: dict[str, Any], resources: ClusterConfig, place: str, name: str
) -> dict[str, Any]:
    import ray.train
    from ray.tune.integration.ray_train import TuneReportCallback

    trainer = driver.make_trainer(resources, job, place, name, [TuneReportCallback()])
    try:
        return dict(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        return {"error": driver.cause(error)}

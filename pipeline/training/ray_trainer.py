"""A job on Ray Train: its workers and their environment."""

from __future__ import annotations

import os

from pipeline.cluster import connection
from pipeline.core import allocator, private_apis, storage
from pipeline.core.threads import in_thread
from pipeline.experiments.schema import ClusterConfig
from pipeline.training.training_records import TrainingJob, TrainingOutcome

FOLDER = "ray"  # next to the checkpoints; Ray finds out there whether all nodes share the storage
START_SECONDS = 300  # for which Ray Train waits for its workers
ELASTIC_SECONDS = 10  # where fewer will do; see below


def fit(config: ClusterConfig, job: TrainingJob) -> TrainingOutcome:
    """Train a job, whose storage every node reaches, with restarts; return how it ended.

    In a thread, since in the main one Ray Train replaces our handler of Ctrl-C.
    """
    import ray.train

    from pipeline.cluster.network_interface import ByAddress
    from pipeline.training.worker import train_worker

    workers, patience = _num_workers(config)
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(patience))
    filesystem, path = storage.filesystem(job.checkpoints)
    trainer = private_apis.torch_trainer()(
        train_worker,
        train_loop_config={"job": job},
        torch_config=ByAddress(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": job.threads} | ({"GPU": 1} if config.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=FOLDER,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": _variables(job)},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    outcome: TrainingOutcome = in_thread(trainer.fit).return_value
    return outcome


def _num_workers(config: ClusterConfig) -> tuple[int | tuple[int, int], int]:
    """Return the workers that Ray Train starts, or a range of them, and how long it waits."""
    workers = connection.num_workers(config)
    if config.min_workers is None or config.min_workers >= workers:
        return workers, START_SECONDS
    # Ray counts the workers that fit once, then waits; a node just lost may still have counted.
    return (config.min_workers, workers), ELASTIC_SECONDS


def _variables(job: TrainingJob) -> dict[str, str]:
    """Return the environment variables of each worker's process."""
    variables = allocator.VARIABLES | {
        "MLFLOW_TRACKING_URI": job.tracking_uri,
        "OMP_NUM_THREADS": str(job.threads),
    }
    if "ARCORE_HOME" in os.environ:
        variables["ARCORE_HOME"] = os.environ["ARCORE_HOME"]
    return variables

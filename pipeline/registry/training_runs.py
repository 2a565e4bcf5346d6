"""The MLflow run of a training, which is rebuilt from the files where the store has lost it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from arcore import events
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.records import flat
from pipeline.data.manifest import Manifest
from pipeline.experiments.params_file import repro_command, stages_of
from pipeline.registry.candidates import Candidate
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training.training_records import read_history

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

HASH = "arcore.sha256"
_LONGEST = 1000  # characters of a table's numbers of levels
_CONTEXTS = {"train": "training", "valid": "validation", "test": "testing"}


def run_of(store: MlflowClient, dataset: str, candidate: Candidate) -> str:
    """Return the id of a training's run; where the store has lost it, of a rebuilt one."""
    from mlflow.exceptions import MlflowException

    training = candidate.evaluated.training
    if training is not None and training.run_id:
        try:
            run = store.get_run(training.run_id)
            if run.info.lifecycle_stage != "deleted":
                if run.info.status == "RUNNING":  # the store was away as the training ended
                    seconds, began = candidate.result.train_seconds, run.info.start_time
                    ended = None if seconds is None else began + int(1000 * seconds)
                    _complete(store, run.info.run_id, candidate, ended)
                return str(run.info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = training.mlflow_experiment if training else mlflow_store.experiment_of(dataset)
    where = mlflow_store.experiment_id(store, experiment)
    rebuilt = mlflow_store.find_runs(store, where, HASH, candidate.sha256)
    if rebuilt:
        return str(rebuilt[0].info.run_id)
    log.info("run of %s is not in this store; rebuilding it", candidate.name)
    return _rebuild(store, experiment, candidate)


def _rebuild(store: MlflowClient, experiment: str, candidate: Candidate) -> str:
    config = candidate.evaluated.config
    run_id = mlflow_store.start_run(
        experiment,
        candidate.name,
        f"rebuilt-{candidate.sha256}",
        flat(config.content),
        {
            "arcore.rebuilt": "true",
            "commit": candidate.commit or "unknown",
            "dataset_sha256": str(config.dataset_sha256),
        },
        seconds_ago=candidate.result.train_seconds or 0.0,
    )
    if run_id is None:
        raise UserError(f"MLflow store {store.tracking_uri} stopped answering")
    with run_logger.ended_by_errors(run_id):  # so that the next try goes on with it
        _complete(store, run_id, candidate)
        store.set_tag(run_id, HASH, candidate.sha256)
    return run_id


def _complete(
    store: MlflowClient, run_id: str, candidate: Candidate, ended: int | None = None
) -> None:
    """Log what a run lacks of its training, and end it."""
    logger = run_logger.RunLogger(run_id, str(store.tracking_uri))
    _log_again(logger, candidate)
    if not logger.failures:
        logger.finish(ended=ended)
    if logger.failures:
        raise UserError(
            f"{candidate.name}: expected its run {run_id} to be logged whole, got errors of the "
            "MLflow store; run this again"
        )


def describe(store: MlflowClient, run_id: str, candidate: Candidate, manifest: Manifest) -> None:
    """Give a run its dataset, with the digest of each split, its source and a description.

    MLflow keeps one of each, so that a second call changes nothing. A run has its status and its
    end as before.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag

    folder = paths.shards(manifest.dataset)
    inputs = [
        DatasetInput(
            Dataset(
                name=f"{manifest.dataset} ({split})",
                digest=info.sha256[:36],  # as many as MLflow takes
                source_type="local",
                source=json.dumps({"uri": folder.as_uri()}),
                schema=json.dumps({"event": events.to_dict(manifest.event)}),
                profile=json.dumps({"num_rows": info.rows, "dataset_sha256": manifest.sha256}),
            ),
            [InputTag("mlflow.data.context", _CONTEXTS.get(split, "testing"))],
        )
        for split, info in manifest.splits.items()
    ]
    store.log_inputs(run_id, inputs)
    tags = mlflow_store.source_tags(
        f"python -m stages.{stages_of(candidate.name)[0]} {candidate.name}", candidate.commit
    ) | {"mlflow.note.content": summary(candidate)}
    store.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def summary(candidate: Candidate) -> str:
    """Say in one line what a model is and scores."""
    result, score = candidate.result, candidate.result.score
    members = "" if result.num_members == 1 else f", ensemble of {result.num_members}"
    command = repro_command(stages_of(candidate.name)[-1], candidate.name)
    commit, event = candidate.commit or "unknown", candidate.evaluated.event
    nats, bits = (result.at_most_in(unit, event) for unit in ("nats", "bits_per_dim"))
    return (
        f"{result.model}{members} on {result.dataset}: {nats}{score.nats:.3f} ± "
        f"{score.nats_stderr:.3f} nats, {bits}{score.bits_per_dim:.4f} bits/dim on "
        f"{result.num_rows:,} test rows; event: {str(event)[:_LONGEST]}; "
        f"`{command}` at {commit}"
    )


def _log_again(logger: run_logger.RunLogger, candidate: Candidate) -> None:
    """Log the history, the final values and the pictures from the files."""
    history = candidate.folder / "history.csv"
    if history.is_file():
        for row in read_history(history):
            numbers = {key: float(value) for key, value in row.items() if value}
            epoch = int(numbers.pop("epoch"))
            numbers.pop("step", None)
            logger.metrics(numbers, epoch)
    logger.metrics(candidate.result.tracked())
    logger.tags({"exact": str(candidate.result.exact).lower()})
    picture = candidate.evaluated.folder / "samples.png"
    if picture.is_file():
        logger.artifact(picture)

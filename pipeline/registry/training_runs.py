"""The MLflow run of a training, brought up to date from the files, also where the store lost it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from arcore import events
from pipeline.core import paths
from pipeline.core.errors import UserError, explained
from pipeline.core.records import flat
from pipeline.data.manifest import Manifest
from pipeline.experiments.params_file import repro_command, stages_of
from pipeline.registry.candidates import Candidate
from pipeline.tracking import mlflow_store
from pipeline.tracking.tracked_run import end_by_error, project
from pipeline.training.training_records import read_curves

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

HASH = "arcore.sha256"
_LONGEST = 1000  # characters of a table's numbers of levels
_CONTEXTS = {"train": "training", "valid": "validation", "test": "testing"}


def update(store: MlflowClient, candidate: Candidate) -> str | None:
    """Bring the run of a training up to date; return its id, None where the store has it not."""
    from mlflow.exceptions import MlflowException

    training = candidate.evaluated.training
    if training is None or not training.run_id:
        return None
    mlflow_store.experiment_id(store, training.mlflow_experiment)  # which refuses a moved store
    try:
        run = store.get_run(training.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if run.info.lifecycle_stage == "deleted":
        return None
    _complete(store, run, candidate)
    return training.run_id


def rebuild(store: MlflowClient, dataset: str, candidate: Candidate) -> str:
    """Return the id of a run that stands for the lost one of a training, made at most once."""
    config, training = candidate.evaluated.config, candidate.evaluated.training
    experiment = training.mlflow_experiment if training else mlflow_store.experiment_of(dataset)
    where = mlflow_store.experiment_id(store, experiment)
    rebuilt = mlflow_store.find_runs(store, where, HASH, candidate.sha256)
    if rebuilt:
        return str(rebuilt[0].info.run_id)
    log.info("run of %s is not in this store; rebuilding it", candidate.name)
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
    try:
        _complete(store, store.get_run(run_id), candidate)
        store.set_tag(run_id, HASH, candidate.sha256)
    except BaseException as error:
        end_by_error(run_id, error)  # so that the next try goes on with it
        raise
    return run_id


def _complete(store: MlflowClient, run: Run, candidate: Candidate) -> None:
    """Log what a run lacks, and end it when its training did if it is under way."""
    run_id, result = str(run.info.run_id), candidate.result
    what = f"{candidate.name}: expected its run {run_id} to be logged whole (run this again), got"
    with explained(what, Exception):
        shown, folder = result.projection(), candidate.evaluated.folder
        files = [folder / file for file in shown.files]
        curves = read_curves(candidate.folder)
        project(store, run_id, curves, shown.values, shown.tags, files)
        if run.info.status == "RUNNING":  # the store was away as the training ended
            seconds = result.train_seconds
            ended = None if seconds is None else run.info.start_time + int(1000 * seconds)
            store.set_terminated(run_id, end_time=ended)


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

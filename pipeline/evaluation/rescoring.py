"""Scoring kept weights again: does the number that was recorded come out?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.datasets import catalog
from pipeline.evaluation import measuring, result_files, scoring
from pipeline.evaluation.results import Result, Score
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import saved_models


@dataclass(frozen=True)
class Rescored:
    """A record and what its weights score now.

    Attributes:
        record: of `results/<experiment>`.
        score: of the same rows, now.
    """

    record: Result
    score: Score


def rescore(config: ExperimentConfig) -> Rescored:
    """Score the weights of `results/<experiment>` on the test rows of their record.

    Arguments:
        config: of the experiment, whose `evaluation` is the protocol.

    Raises:
        UserError: if no weights are kept, they are not those of the record, or the shards are not
            those that they were trained on.
    """
    folder = paths.results() / config.name
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{folder}: expected a record, found none")
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"{folder}: no weights are kept; run python -m stages.train {config.name} and "
            f"python -m stages.evaluate {config.name}"
        )
    record, kept = result_files.read(folder), saved_models.load_folder(folder)
    if record.weights_sha256 not in (None, kept.weights_sha256):
        raise UserError(
            f"{folder}/model.safetensors: expected the weights of the record "
            f"({record.weights_sha256[:12]}), got {kept.weights_sha256[:12]}"
        )
    shards = paths.shards(record.dataset)
    manifest = shard_reader.read_manifest(shards)
    if kept.dataset_sha256 != manifest.sha256:
        raise UserError(
            f"{shards}: expected the data of the record ({kept.dataset_sha256[:12]}), got "
            f"{manifest.sha256[:12]}"
        )
    model = kept.model if record.num_members == 1 else kept.model.ensemble(record.num_members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    test = shard_reader.read_split(shards, "test")
    chosen = scoring.choose(test, config.evaluation)
    source = None
    if manifest.sound is not None:
        source = catalog.get_dataset(config.dataset).source_nats(test)
    model = model.to(device).eval()
    found = measuring.measure(model, test, chosen, manifest, config.evaluation, source)
    if len(found.nats) != record.num_rows:
        raise UserError(f"{folder}: expected {record.num_rows} rows, got {len(found.nats)}")
    return Rescored(record, found.score)

"""Scoring kept weights again: does the score that was recorded come out?"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.datasets import catalog
from pipeline.evaluation import cross_validation, kept_weights, measuring, scoring
from pipeline.evaluation.kept_weights import WEIGHTS
from pipeline.evaluation.measuring import Measured
from pipeline.evaluation.result_records import Result, Score
from pipeline.experiments import compose, naming
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import saved_models
from pipeline.training.saved_models import TrainedModel


@dataclass(frozen=True)
class Rescored:
    """A record and what its weights score now.

    Attributes:
        record: of `results/<experiment>`.
        score: of the same rows, now.
        further: of the record's further test splits, by their names.
    """

    record: Result
    score: Score
    further: Mapping[str, Score]

    def pairs(self) -> list[tuple[str, Score, Score]]:
        """Return what was recorded of each split and what comes out now, `test` first."""
        recorded = {one.split: one.score for one in self.record.further_tests}
        further = [(split, recorded[split], score) for split, score in self.further.items()]
        return [("test", self.record.score, self.score), *further]


def rescore(name: str) -> Rescored:
    """Score the weights of `results/<name>` on the test rows of their record.

    Those of an outcome over folds are scored fold by fold, whose shards are made of the raw files.

    Arguments:
        name: an experiment, whose `evaluation` is the protocol, or `<experiment>-folds`.

    Raises:
        UserError: if no weights are kept, they are not those of the record, the shards are not
            those that they were trained on, or raw files are missing.
    """
    config, folder = compose.load(naming.experiment_of(name)), paths.results() / name
    record = kept_weights.read_record(folder)
    if record.num_folds > 1:
        found = _rescore_folds(config, folder, record)
        _check_rows(folder, "test", record.num_rows, sum(len(one.nats) for one in found))
        return Rescored(record, cross_validation.mean_score([one.score for one in found]), {})
    kept, shards = kept_weights.load(folder), paths.shards(record.dataset)
    num_rows = {"test": record.num_rows} | {one.split: one.num_rows for one in record.further_tests}
    scores = {}
    for split, expected in num_rows.items():
        one = _measure(config, kept, record.num_members, shards, split)
        _check_rows(folder, split, expected, len(one.nats))
        scores[split] = one.score
    return Rescored(record, scores.pop("test"), scores)


def _check_rows(folder: Path, split: str, expected: int, num_rows: int) -> None:
    if num_rows != expected:
        raise UserError(f"{folder}: expected {expected} rows of {split}, got {num_rows}")


def _rescore_folds(config: ExperimentConfig, folder: Path, record: Result) -> list[Measured]:
    models = [folder / naming.of_fold(fold) for fold in range(record.num_folds)]
    if not all((model / WEIGHTS).is_file() for model in models):
        raise UserError(f"{folder}: no weights are kept; run python -m stages.folds {config.name}")
    raw = fetching.verify_raw(catalog.get_dataset(config.dataset))
    found = []
    for fold, model in enumerate(models):
        one = cross_validation.on_fold(config, fold)
        dataset, kept = catalog.get_dataset(one.dataset), saved_models.load_folder(model)
        with tempfile.TemporaryDirectory() as temporary:
            shards = preprocessing.write(
                dataset, dataset.decode(raw), Path(temporary) / dataset.name
            )
            found.append(_measure(one, kept, record.num_members, shards))
    return found


def _measure(
    config: ExperimentConfig,
    kept: TrainedModel,
    num_members: int,
    shards: Path,
    split: str = "test",
) -> Measured:
    """Score rows of a split by a kept model, as an evaluation chooses and scores them."""
    manifest = read_manifest(shards)
    if kept.dataset_sha256 != manifest.sha256:
        raise UserError(
            f"{shards}: expected the data of the record ({kept.dataset_sha256[:12]}), got "
            f"{manifest.sha256[:12]}"
        )
    model = kept.model if num_members == 1 else kept.model.ensemble(num_members)
    device = local_device()
    test = ShardReader(shards, split)
    chosen = scoring.choose(test, config.evaluation)
    source = None
    if manifest.sound is not None and split == "test":
        source = catalog.get_dataset(config.dataset).source_nats(test.whole())
    model = model.to(device).eval()
    plan = dataclasses.replace(config.evaluation, importance_samples=0)  # the score is compared
    return measuring.measure(model, test, chosen, manifest, plan, source)

"""Scoring kept weights again: does the score that was recorded come out?"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError, explained, require
from pipeline.data import fetching, preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.datasets import catalog
from pipeline.evaluation import cross_validation, scoring
from pipeline.evaluation.result_records import Result, Score
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose, naming
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import saved_models
from pipeline.training.saved_models import TrainedModel

WEIGHTS = "model.safetensors"
ROUNDING = 1e-6  # of the nats of a row


@dataclass(frozen=True)
class Rescored:
    """What a record says of a split, and what its weights score now on the same rows."""

    split: str
    exact: bool
    recorded: Score
    now: Score

    @property
    def same(self) -> bool:
        """Whether nats and their standard error are as recorded, but for rounding.

        A row's nats are a float32 sum, of up to 10^5 terms, which another processor rounds
        otherwise: by 2e-7 of it at most in the records. The error moves by as much as the rows do,
        which for long sounds is more than 1e-6 of the error: both are bounded relative to the nats.
        """
        then, now = self.recorded, self.now
        pairs = ((then.nats, now.nats), (then.nats_stderr, now.nats_stderr))
        most = ROUNDING * abs(then.nats)
        return all(math.isclose(*both, rel_tol=0, abs_tol=most) for both in pairs)


def rescore(name: str) -> list[Rescored]:
    """Score the weights of `results/<name>` on the test rows of their record, `test` first.

    Rows of an outcome over folds are scored fold by fold, whose shards are made of the raw files.
    """
    config, folder = compose.load(naming.experiment_of(name)), paths.results() / name
    record = Result.read(folder)
    if record.num_folds > 1:
        now = _rescore_folds(config, folder, record)
        return [Rescored("test", record.exact, record.score, now)]
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder}: no weights are kept; run python -m stages.train {config.name} and "
            f"python -m stages.evaluate {config.name}"
        )
    kept, shards = saved_models.load_folder(folder), paths.shards(record.dataset)
    recorded = {"test": (record.num_rows, record.score)}
    recorded |= {one.split: (one.num_rows, one.score) for one in record.further_tests}
    found = []
    for split, (expected, then) in recorded.items():
        now, num_rows = _score(config, kept, record.num_members, shards, split)
        require(num_rows == expected, str(folder), f"{expected} rows of {split}", num_rows)
        found.append(Rescored(split, record.exact, then, now))
    return found


def _rescore_folds(config: ExperimentConfig, folder: Path, record: Result) -> Score:
    models = [folder / naming.of_fold(fold) for fold in range(record.num_folds)]
    if not all((model / WEIGHTS).is_file() for model in models):
        raise UserError(f"{folder}: no weights are kept; run python -m stages.folds {config.name}")
    raw = fetching.verify_raw(catalog.get_dataset(config.dataset))
    scores, total = [], 0
    for fold, model in enumerate(models):
        one = cross_validation.on_fold(config, fold)
        dataset, kept = catalog.get_dataset(one.dataset), saved_models.load_folder(model)
        with tempfile.TemporaryDirectory() as temporary:
            home = Path(temporary) / dataset.name
            shards = preprocessing.write(dataset, dataset.decode(raw), home)
            score, num_rows = _score(one, kept, record.num_members, shards, "test")
        scores.append(score)
        total += num_rows
    require(total == record.num_rows, str(folder), f"{record.num_rows} rows of test", total)
    return cross_validation.mean_score(scores)


def _score(
    config: ExperimentConfig, kept: TrainedModel, num_members: int, shards: Path, split: str
) -> tuple[Score, int]:
    """Score rows of a split by a kept model, as an evaluation chooses them; and count the rows."""
    manifest = read_manifest(shards)
    saved_models.check_data(kept, manifest, str(shards))
    with explained(f"results/{config.name}:", ValueError):
        model = kept.model if num_members == 1 else kept.model.ensemble(num_members)
    model, test = model.to(local_device()).eval(), ShardReader(shards, split)
    rows = ChosenRows.under(config.evaluation, test, manifest.context_frames)
    return rows.score(scoring.scores(model, rows), manifest.event), len(rows)

"""Scoring spread over the workers of a cluster: the digits of one process, sooner.

A worker is given whole batches, cut as one process cuts them, and gives back what each row scores
by each member; sums over rows are made here, in the order of the rows. With as many threads as the
process has that is compared with, on the same kind of processor, every digit is the same.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import arcore
from pipeline.cluster.devices import exact
from pipeline.cluster.shared_storage import publish_shards
from pipeline.cluster.worker_pool import pool
from pipeline.core import paths, stage_code
from pipeline.core.errors import explained
from pipeline.core.stage_code import check_host
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_layout import ROW_GROUP
from pipeline.data.shard_reader import ShardReader, Split
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import saved_models

PIECES = 8  # for each worker at least, so that the last ones end at about the same time
FILES = ("config.yaml", "model.safetensors")  # of `saved_models.load_folder`
Scorer = Callable[[str, ChosenRows], Tensor]


@dataclass
class ScoringWork:
    """A worker of `pipeline.cluster.worker_pool` that scores batches.

    Arguments:
        shards: folder or URI that every worker reaches.
        num_members: of the ensemble that is scored; 1 for the model itself.
        code_sha256: of the driver's code; None where its source is not at hand.
        files: contents of the model's folder, by name.
    """

    shards: str
    num_members: int
    context_frames: int
    use_gpu: bool
    name: str
    code_sha256: str | None
    files: dict[str, bytes]

    def prepare(self, threads: int) -> None:
        """Load the model."""
        check_host(self.code_sha256, stage_code.code_sha256("evaluate", self.name))
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                Path(folder, name).write_bytes(content)
            model = saved_models.load_folder(Path(folder)).model
        if self.use_gpu:
            model = model.to(exact(torch.device("cuda")))
        self._model = (model if self.num_members == 1 else model.ensemble(self.num_members)).eval()
        self._splits: dict[str, Split] = {}

    def do(self, piece: tuple[str, list[np.ndarray]]) -> list[np.ndarray]:
        """Score the rows of each batch of a split by each member, (rows, members) float64."""
        name, batches = piece
        if name not in self._splits:
            self._splits[name] = ShardReader(self.shards, name)
        split, context = self._splits[name], self.context_frames
        return [
            scoring.member_scores(self._model, ChosenRows(split, rows, len(rows), context)).numpy()
            for rows in batches
        ]


@contextlib.contextmanager
def scorer(
    config: ExperimentConfig,
    model: arcore.AutoregressiveModel,
    num_members: int,
    weights_sha256: str,
) -> Iterator[Scorer]:
    """Give what scores rows of a split by each member, (rows, members) float64.

    That is this process with a model on its device, or `cluster.num_workers` workers of Ray, where
    that is not 0, which get models/<experiment>/ with weights of the hash.
    """
    folder = paths.shards(config.dataset["name"])
    manifest = read_manifest(folder)
    if config.cluster.num_workers == 0:
        yield lambda _, rows: scoring.member_scores(model, rows)
        return
    name = str(config.model["name"])
    work = (
        publish_shards(config.cluster, folder, manifest.dataset),
        num_members,
        manifest.context_frames,
        config.cluster.use_gpu,
        name,
        stage_code.code_sha256("evaluate", name),
        _read_files(paths.model(config.name), weights_sha256),
    )
    with pool(config.cluster, ScoringWork, work, f"evaluating {config.name}") as run:

        def score(name: str, rows: ChosenRows) -> Tensor:
            places = rows.batch_places(model.event)
            pieces = _pieces(places, config.cluster.num_workers)
            asked = [(name, [rows.numbers[place] for place in piece]) for piece in pieces]
            scored = [torch.tensor(part) for parts in run(asked) for part in parts]
            return scoring.in_order(scored, places)

        yield score


def _pieces(places: Sequence[np.ndarray], num_workers: int) -> list[Sequence[np.ndarray]]:
    """Cut batches into pieces: about a row group each, but enough of them for all workers."""
    most = max(1, ROW_GROUP // max(len(place) for place in places))
    size = min(most, max(1, len(places) // (PIECES * num_workers)))
    return [places[first : first + size] for first in range(0, len(places), size)]


def _read_files(folder: Path, weights_sha256: str) -> dict[str, bytes]:
    with explained(f"{folder}: expected a model to send to workers, got", OSError):
        files = {name: (folder / name).read_bytes() for name in FILES}
    saved_models.check_weights(folder / "model.safetensors", weights_sha256, folder.name)
    return files

"""Sounds of several lengths: windows to train on, whole rows to validate on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from arcore.model import AutoregressiveModel
from pipeline.core.errors import UserError
from pipeline.data import sound_batches
from pipeline.data.batches import Batch
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets.read_transforms import draw_integers

# Samples, of which the width of a batch is a multiple: kernels of bfloat16 are kept for each width.
GRAIN = 256


class SoundLoader:
    """Batches of a split of sounds; the counterpart of `pipeline.data.loading.Loader`.

    An epoch goes over windows: a row of L samples is cut into ceil(L / W) windows of W samples,
    where the first begins up to W samples before the row, at an offset drawn by (seed, epoch, row).
    So every sample is trained on exactly once an epoch, whatever the lengths, and no padding ever
    counts. In front of a window come the `context` samples before it, as far as the row has them,
    which do not count: a window is scored as the whole row would score it.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid or test.
        model: whose receptive field and frames windows must fit.
        plan: which windows this rank takes, and in which batches; a split of sounds is held whole.

    Attributes:
        rows: windows of an epoch over all ranks.
        events_per_row: rows of the split by windows.
        mean_size: mean samples of a row of the split.
        steps_per_epoch: batches of an epoch, 0 without a batch size.

    Raises:
        UserError: naming what is wrong with the shards, or a split of more than `shuffle_rows`.
    """

    partitioned_by_rank = False

    def __init__(
        self,
        location: str | Path,
        split: str,
        model: AutoregressiveModel,
        plan: BatchPlan = BatchPlan(),  # noqa: B008, frozen
    ) -> None:
        reader = ShardReader(location, split)
        if len(reader) > plan.shuffle_rows:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {len(reader)}, all rows of split {split}, "
                f"as sounds are held in memory, got {plan.shuffle_rows}"
            )
        self._split = reader.hold(0, len(reader))
        self._lengths = sound_batches.lengths(self._split)
        self._part = np.arange(*plan.part(len(reader)))
        assert model.receptive_field is not None, "a model of any length has a finite one"
        self._model, self._context = model, model.receptive_field
        self._window = plan.window or int(self._lengths.max())
        self._ends = np.cumsum(-(-self._lengths // self._window))
        self.rows = int(self._ends[-1])
        self.events_per_row = len(reader) / self.rows
        self.mean_size: float | None = float(self._lengths.mean())
        self._plan, self.steps_per_epoch = plan, plan.steps(self.rows, is_whole=True)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from a step on.

        Yields:
            This rank's windows (n, width) with what comes before them; `scored` is the window.
        """
        for numbers, all_rows in self._plan.whole_batches(self.rows, epoch, first_step):
            batch = self._windows(numbers, epoch, self._plan.seed)
            yield dataclasses.replace(batch, rows=all_rows)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows, whole, longest first; each counts once.

        Arguments:
            batch_size: rows of a batch at most.
        """
        batches = sound_batches.whole_rows(self._model, self._split, batch_size, self._part, GRAIN)
        return (batch for _, batch in batches)

    def _windows(self, numbers: np.ndarray, epoch: int, seed: int) -> Batch:
        """Gather windows by their numbers, which count through the rows' windows in order."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        lengths, window = self._lengths[rows], self._window
        counts = -(-lengths // window)
        place = numbers - self._ends[rows] + counts
        # whole rows stay whole, whatever the offset
        slack = counts * window - lengths
        start = place * window - draw_integers(slack, rows, epoch, seed)
        first, end = np.maximum(start, 0), np.minimum(start + window, lengths)
        hop = self._model.hop
        begin = np.maximum(first - self._context, 0) // hop * hop
        scored = np.stack([first - begin, end - begin], 1)
        return sound_batches.gather_batch(self._model, self._split, rows, begin, scored, GRAIN)

"""Sounds of several lengths: windows to train on, whole rows to validate on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import arcore
from pipeline.core.errors import UserError
from pipeline.data import loading, shard_reader, windows
from pipeline.data.batches import Batch
from pipeline.data.sound_batches import condition_for, labels_of, padded_batches
from pipeline.datasets.read_transforms import draw_integers

GRAIN = 256  # samples, of which the width of a batch is a multiple


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
        rank: integer in [0, world_size).
        world_size: number of ranks.
        batch_size: windows of a batch of `epoch` over all ranks; None for `sequential` alone.
        seed: of the shuffle and the offsets.
        window: samples W of a window, None for whole rows.
        shuffle_rows: rows that a worker may hold; a split of sounds is held whole.

    Attributes:
        rows: windows of an epoch over all ranks.
        events_per_row: rows of the split by windows.
        mean_size: mean samples of a row of the split.
        steps_per_epoch: batches of an epoch, 0 without a batch size.

    Raises:
        UserError: naming what is amiss with the shards, or a split of more than `shuffle_rows`.
    """

    shared_out = False

    def __init__(
        self,
        location: str | Path,
        split: str,
        *,
        model: arcore.AutoregressiveModel,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
        seed: int = 0,
        window: int | None = None,
        shuffle_rows: int = loading.SHUFFLE_ROWS,
    ) -> None:
        reader = shard_reader.SplitReader(location, split)
        if reader.info.rows > shuffle_rows:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {reader.info.rows}, all rows of split {split}, "
                f"as sounds are held in memory, got {shuffle_rows}"
            )
        held = loading.cached_part(str(location), reader.manifest.sha256, split, 0, 1)
        self._x, self._labels = held.x, labels_of(held)
        self._lengths = self._labels[:, 0]
        self._part = shard_reader.part(len(self._x), rank, world_size)
        self._rank, self._world, self._seed = rank, world_size, seed
        self._batch_size, self._window = batch_size, window
        assert model.receptive_field is not None, "a model of any length has a finite one"
        self._model, self._context = model, model.receptive_field
        self._ends = np.cumsum(-(-self._lengths // (window or self._lengths.max())))
        self.rows = int(self._ends[-1])
        self.events_per_row = len(self._x) / self.rows
        self.mean_size: float | None = float(self._lengths.mean())
        self.steps_per_epoch = 0
        if batch_size is not None:
            self.steps_per_epoch = loading.count_steps_whole(self.rows, batch_size, world_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from a step on.

        Yields:
            This rank's windows (n, width) with what comes before them; `scored` is the window.
        """
        assert self._batch_size is not None
        order = windows.permutation((self._seed, epoch), self.rows)
        for step in range(first_step, self.steps_per_epoch):
            low, high = (min(s * self._batch_size, self.rows) for s in (step, step + 1))
            numbers = order[low + self._rank : high : self._world]
            yield self._windows(numbers, epoch, high - low)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows, whole, longest first; each counts once.

        Arguments:
            batch_size: rows of a batch at most.
        """
        begin, end = self._part
        for batch in padded_batches(self._lengths[begin:end], batch_size):
            rows = begin + batch
            spans = np.stack([np.zeros(len(rows), np.int64), self._lengths[rows]], 1)
            yield self._gather(rows, spans[:, 0], spans, len(rows))

    def _windows(self, numbers: np.ndarray, epoch: int, all_rows: int) -> Batch:
        """Gather windows by their numbers, which count through the rows' windows in order."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        lengths = self._lengths[rows]
        window = self._window or int(self._lengths.max())
        counts = -(-lengths // window)
        place = numbers - self._ends[rows] + counts
        # whole rows stay whole, whatever the offset
        slack = counts * window - lengths
        start = place * window - draw_integers(slack, rows, epoch, self._seed)
        first, end = np.maximum(start, 0), np.minimum(start + window, lengths)
        hop = self._model.hop
        begin = np.maximum(first - self._context, 0) // hop * hop
        return self._gather(rows, begin, np.stack([first - begin, end - begin], 1), all_rows)

    def _gather(
        self, rows: np.ndarray, begin: np.ndarray, spans: np.ndarray, all_rows: int
    ) -> Batch:
        # few widths, since kernels of bfloat16 are kept for each
        width = -(-int(spans[:, 1].max()) // GRAIN) * GRAIN
        places = np.minimum(begin[:, None] + np.arange(width), self._x.shape[1] - 1)
        x = torch.from_numpy(self._x[rows[:, None], places])
        condition = condition_for(self._model, self._labels[rows], begin, width)
        return Batch(x, condition, torch.from_numpy(spans), all_rows)

"""Sounds of several lengths: windows to train on, whole rows to score, and what goes with them.

The side information of a batch is one int64 matrix: the first sample that counts and the one after
the last (`scored`), the speaker, and a symbol for each frame if the model has a local condition.
`arguments` turns it into what the model takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import arcore
from pipeline import loading, shards
from pipeline.datasets.base import SplitData
from pipeline.datasets.draws import draw_integers
from pipeline.errors import UserError

__all__ = [
    "SoundLoader",
    "arguments",
    "is_open",
    "lengths",
    "padded_batches",
    "side",
    "to_sample",
    "whole_rows",
]

GRAIN = 256  # samples, of which the width of a batch is a multiple
MAX_SAMPLES = 1 << 16  # of a batch that is scored, padding included, unless one row has more


def is_open(model: arcore.AutoregressiveModel) -> bool:
    """Tell whether a model is of sounds, events of open length."""
    return None in model.event.shape


def hop_of(model: arcore.AutoregressiveModel) -> int | None:
    """Return the samples of a frame of a model's local condition, None without one."""
    local = getattr(model.hyperparameters, "local_classes", None)
    return None if local is None else cast(int, cast(Any, model).hop)


def arguments(model: arcore.AutoregressiveModel, given: Tensor | None) -> tuple[Any, ...]:
    """Return what a model takes beside x: its condition, and for sounds the spans that count.

    Arguments:
        model: any model.
        given: the labels of a batch, or its side information, or None.
    """
    if not is_open(model) or given is None:
        return (given,)
    has_speakers, has_symbols = model.num_classes is not None, hop_of(model) is not None
    condition = None
    if has_symbols:
        condition = given[:, 2:] if has_speakers else given[:, 3:]
    elif has_speakers:
        condition = given[:, 2]
    return condition, given[:, :2]


def side(
    labels: np.ndarray, begin: np.ndarray, spans: np.ndarray, hop: int | None, width: int
) -> np.ndarray:
    """Return the side information of windows.

    The n symbols of a row share its frames out evenly: frame f of F has symbol floor(f n / F).

    Args:
        labels: of the windows' rows, (N, label_width), see `pipeline.datasets.base.Sound`.
        begin: the sample of the row with which each window begins, (N,), multiples of hop.
        spans: (N, 2), which samples of each window count.
        hop: samples of a frame, or None.
        width: samples of a window.

    Example:
        >>> labels = np.array([[40, 5, 2, 8, 9]])
        >>> side(labels, np.array([10]), np.array([[3, 30]]), hop=10, width=30).tolist()
        [[3, 30, 5, 8, 9, 9]]
    """
    columns = [spans, labels[:, 1:2]]
    if hop is not None:
        length, count = labels[:, :1], labels[:, 2:3]
        frames = begin[:, None] // hop + np.arange(-(-width // hop))
        place = np.clip(frames * count // -(-length // hop), 0, np.maximum(count - 1, 0))
        columns.append(np.take_along_axis(labels, 3 + place, 1))
    return np.concatenate(columns, 1)


def padded_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Batch rows by length, so that little is padded; each batch is one of at most MAX_SAMPLES.

    Example:
        >>> [batch.tolist() for batch in padded_batches(np.array([5, 90_000, 7]), 10)]
        [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        size = max(1, min(batch_size, MAX_SAMPLES // int(lengths[order[first]])))
        yield order[first : first + size]
        first += size


def lengths(split: SplitData) -> np.ndarray:
    """Return the real samples of each row of a split of sounds, (N,) int64."""
    return cast(np.ndarray, split.labels)[:, 0]


def whole_rows(
    model: arcore.AutoregressiveModel, split: SplitData, batch_size: int, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor, tuple[Any, ...]]]:
    """Yield batches of chosen rows: their places among the chosen, x, and the model's arguments."""
    for place in padded_batches(lengths(split)[chosen], batch_size):
        rows = chosen[place]
        labels = cast(np.ndarray, split.labels)[rows]
        width = int(labels[:, 0].max())
        spans = np.stack([np.zeros(len(rows), np.int64), labels[:, 0]], 1)
        given = torch.from_numpy(side(labels, spans[:, 0], spans, hop_of(model), width))
        x = torch.from_numpy(split.x[rows, :width]).to(model.device)
        yield place, x, arguments(model, given.to(model.device))


def to_sample(
    model: arcore.AutoregressiveModel, split: SplitData, rows: np.ndarray
) -> tuple[arcore.AutoregressiveModel, Tensor | None]:
    """Return the model of the longest row's length, and the rows' speakers and texts for it."""
    labels = cast(np.ndarray, split.labels)[rows]
    width = int(labels[:, 0].max())
    spans = np.zeros((len(rows), 2), np.int64)
    given = torch.from_numpy(side(labels, spans[:, 0], spans, hop_of(model), width))
    condition = arguments(model, given.to(model.device))[0]
    return cast(Any, model).of_length(width), condition


class SoundLoader:
    """Batches of a split of sounds; the counterpart of `pipeline.loading.Loader`.

    An epoch goes over windows: a row of L samples is cut into ceil(L / W) windows of W samples,
    where the first begins up to W samples before the row, at an offset drawn by (seed, epoch, row).
    So every sample is trained on exactly once an epoch, whatever the lengths, and no padding ever
    counts. In front of a window come the `context` samples before it, as far as the row has them,
    which do not count: a window is scored as the whole row would score it.

    Args:
        location: folder of the shards, or a URI as in `pipeline.storage`.
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
        reader = shards.SplitReader(location, split)
        if reader.info.rows > shuffle_rows:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {reader.info.rows}, all rows of split {split}, "
                f"as sounds are held in memory, got {shuffle_rows}"
            )
        held = loading.cached_part(str(location), reader.manifest.sha256, split, 0, 1)
        self._x, self._labels = held.x, cast(np.ndarray, held.labels)
        self._lengths = self._labels[:, 0]
        self._part = shards.part(len(self._x), rank, world_size)
        self._rank, self._world, self._seed = rank, world_size, seed
        self._batch_size, self._window = batch_size, window
        self._context, self._hop = cast(int, cast(Any, model).receptive_field), hop_of(model)
        self._ends = np.cumsum(-(-self._lengths // (window or self._lengths.max())))
        self.rows = int(self._ends[-1])
        self.events_per_row = len(self._x) / self.rows
        self.mean_size = float(self._lengths.mean())
        self.steps_per_epoch = 0
        if batch_size is not None:
            self.steps_per_epoch = loading.count_steps_whole(self.rows, batch_size, world_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Iterate over the batches of an epoch, from a step on.

        Yields:
            This rank's windows (n, width) uint8 with what comes before them; their side
            information; the batch's windows over all ranks.
        """
        assert self._batch_size is not None
        order = loading.permutation((self._seed, epoch), self.rows)
        for step in range(first_step, self.steps_per_epoch):
            low, high = (min(s * self._batch_size, self.rows) for s in (step, step + 1))
            x, given = self._windows(order[low + self._rank : high : self._world], epoch)
            yield x, given, high - low

    def sequential(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over this rank's rows, whole, longest first; each counts once.

        Args:
            batch_size: rows of a batch at most.
        """
        begin, end = self._part
        for batch in padded_batches(self._lengths[begin:end], batch_size):
            rows = begin + batch
            spans = np.stack([np.zeros(len(rows), np.int64), self._lengths[rows]], 1)
            yield self._gather(rows, spans[:, 0], spans)

    def _windows(self, numbers: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        rows = np.searchsorted(self._ends, numbers, side="right")
        lengths = self._lengths[rows]
        window = self._window or int(self._lengths.max())
        counts = -(-lengths // window)
        place = numbers - self._ends[rows] + counts
        # whole rows stay whole, whatever the offset
        slack = counts * window - lengths
        start = place * window - draw_integers(slack, rows, epoch, self._seed)
        first, end = np.maximum(start, 0), np.minimum(start + window, lengths)
        hop = self._hop or 1
        begin = np.maximum(first - self._context, 0) // hop * hop
        return self._gather(rows, begin, np.stack([first - begin, end - begin], 1))

    def _gather(
        self, rows: np.ndarray, begin: np.ndarray, spans: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        # few widths, since kernels of bfloat16 are kept for each
        width = -(-int(spans[:, 1].max()) // GRAIN) * GRAIN
        places = np.minimum(begin[:, None] + np.arange(width), self._x.shape[1] - 1)
        x = self._x[rows[:, None], places]
        given = side(self._labels[rows], begin, spans, self._hop, width)
        return torch.from_numpy(x), torch.from_numpy(given)

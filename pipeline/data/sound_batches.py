"""Batches of sounds, texts and piano rolls: padding, the span that counts, conditions; windows."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcore.model import AutoregressiveModel
from pipeline.core.errors import UserError
from pipeline.data.batches import Batch
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import BatchPlan, part
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import draw_integers

# Samples, of which the width of a convolution's batch is a multiple: kernels of bfloat16 are kept
# for each width.
GRAIN = 256
TRANSPOSED = 1 << 32  # added to the seed, for draws of their own
MAX_SAMPLES = 1 << 16  # of a batch that is scored, padding included, unless one row has more


def labels_of(split: SplitData) -> np.ndarray:
    """Return the labels of a split of sounds, (N, label_width) int64.

    See `pipeline.datasets.base.Sound`: the number of samples, the speaker, the number of symbols,
    the symbols.
    """
    assert split.labels is not None, "sounds have labels"
    return split.labels


def lengths(split: SplitData) -> np.ndarray:
    """Return the real samples of each row of a split of sounds, (N,) int64."""
    return labels_of(split)[:, 0]


def symbols_by_frame(labels: np.ndarray, begin: np.ndarray, hop: int, width: int) -> np.ndarray:
    """Return the symbol of each frame of windows, (N, ceil(width / hop)).

    The n symbols of a row share its frames out evenly: frame f of F has symbol floor(f n / F).

    Arguments:
        labels: of the windows' rows, (N, label_width).
        begin: the sample of the row with which each window begins, (N,), multiples of hop.
        hop: samples of a frame.
        width: samples of a window.

    Example:
        >>> labels = np.array([[40, 5, 2, 8, 9]])
        >>> symbols_by_frame(labels, np.array([10]), hop=10, width=30).tolist()
        [[8, 9, 9]]
    """
    length, count = labels[:, :1], labels[:, 2:3]
    frames = begin[:, None] // hop + np.arange(-(-width // hop))
    place = np.clip(frames * count // -(-length // hop), 0, np.maximum(count - 1, 0))
    return np.take_along_axis(labels, 3 + place, 1)


def condition_for(
    model: AutoregressiveModel, labels: np.ndarray, begin: np.ndarray, width: int
) -> Tensor | None:
    """Return what a model of sounds is conditioned on, int64; None for an unconditional one.

    That is (N,) speakers, (N, frames) symbols, or (N, 1 + frames) of both; see `symbols_by_frame`.
    """
    speakers = labels[:, 1]
    if model.num_symbols is None:
        return None if model.num_classes is None else torch.from_numpy(speakers)
    symbols = symbols_by_frame(labels, begin, model.hop, width)
    if model.num_classes is None:
        return torch.from_numpy(symbols)
    return torch.from_numpy(np.concatenate([speakers[:, None], symbols], 1))


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


def gather_batch(
    model: AutoregressiveModel,
    split: SplitData,
    rows: np.ndarray,
    begin: np.ndarray,
    scored: np.ndarray,
    grain: int = 1,
) -> Batch:
    """Cut a window out of each of some rows of a split of sounds.

    Arguments:
        model: whose condition the batch has.
        split: of sounds, in memory.
        rows, begin: their positions, and the first sample of each window, (n,).
        scored: the first sample of each window that counts and the one after the last, (n, 2).
        grain: samples, of which the width of the batch is a multiple.
    """
    width = -(-int(scored[:, 1].max()) // grain) * grain
    places = np.minimum(begin[:, None] + np.arange(width), split.x.shape[1] - 1)
    x = torch.from_numpy(split.x[rows[:, None], places])
    condition = condition_for(model, labels_of(split)[rows], begin, width)
    return Batch(x, condition, torch.from_numpy(scored), len(rows))


def whole_rows(
    model: AutoregressiveModel, split: SplitData, rows: np.ndarray, grain: int = 1
) -> Batch:
    """Gather rows from their first sample to their last; see `gather_batch`."""
    begin = np.zeros(len(rows), np.int64)
    scored = np.stack([begin, lengths(split)[rows]], 1)
    return gather_batch(model, split, rows, begin, scored, grain)


def to_sample(
    model: AutoregressiveModel, split: SplitData, rows: np.ndarray
) -> tuple[AutoregressiveModel, Tensor | None]:
    """Return the model of the longest row's length, and the rows' speakers and texts for it."""
    labels = labels_of(split)[rows]
    width = int(labels[:, 0].max())
    condition = condition_for(model, labels, np.zeros(len(rows), np.int64), width)
    return model.of_length(width), None if condition is None else condition.to(model.device)


class SoundLoader:
    """Batches of a split of sounds; the counterpart of `pipeline.data.loading.Loader`.

    An epoch goes over windows: a row of L samples is cut into ceil(L / W) windows of W samples,
    where the first begins up to W samples before the row, at an offset drawn by (seed, epoch, row).
    So every sample is trained on exactly once an epoch, whatever the lengths, and no padding ever
    counts. In front of a window come the `context` samples before it, as far as the row has them,
    which do not count: a window is scored as the whole row would score it. Of a model that
    remembers all, the context is a window long, and what it remembers begins there.
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
        self._lengths = lengths(self._split)
        self._part = np.arange(*part(len(reader), plan.rank, plan.world_size))
        self._model, self._window = model, plan.window or int(self._lengths.max())
        remembers_all = model.receptive_field is None
        self._context = self._window if remembers_all else model.receptive_field
        self._grain = 1 if remembers_all else GRAIN
        self._ends = np.cumsum(-(-self._lengths // self._window))
        self.rows = int(self._ends[-1])
        self.events_per_row = len(reader) / self.rows
        self.mean_size: float | None = float(self._lengths.mean()) * model.event.size_of_step
        self._plan, self.steps_per_epoch = plan, plan.steps(self.rows, is_whole=True)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's windows of an epoch, from a step on; `scored` is the window."""
        for numbers, all_rows in self._plan.whole_batches(self.rows, epoch, first_step):
            batch = self._windows(numbers, epoch, self._plan.seed)
            yield dataclasses.replace(batch, rows=all_rows)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows, whole, longest first; each counts once."""
        for place in padded_batches(self._lengths[self._part], batch_size):
            yield whole_rows(self._model, self._split, self._part[place], self._grain)

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
        batch = gather_batch(self._model, self._split, rows, begin, scored, self._grain)
        if self._plan.transpose and batch.x.ndim == 3:
            self._transpose(batch.x, rows, epoch, seed)
        return batch

    def _transpose(self, x: Tensor, rows: np.ndarray, epoch: int, seed: int) -> None:
        """Move piano rolls (n, steps, keys) in place, each by as many keys as its piece can."""
        most = self._plan.transpose
        wide = np.full(len(rows), 2 * most)
        drawn = draw_integers(wide, rows, epoch, seed + TRANSPOSED) - most
        for roll, row, shift in zip(x, rows, drawn.tolist(), strict=True):
            low, high = self._keys(row)
            roll.copy_(roll.roll(min(max(shift, -low), x.shape[2] - 1 - high), 1))

    def _keys(self, row: int) -> tuple[int, int]:
        """Return the lowest and the highest key that a row has; all where it has none."""
        sounding = np.flatnonzero(self._split.x[row].any(0))
        return (sounding[0], sounding[-1]) if len(sounding) else (0, self._split.x.shape[2] - 1)

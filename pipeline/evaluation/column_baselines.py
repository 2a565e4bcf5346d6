"""Simple models of rows of columns, next to which nats say something."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from arcore.events import Event, Levels, is_gray, is_table
from pipeline.data.manifest import Manifest
from pipeline.evaluation.result_records import CodecResult, Score

Parts = Callable[[], Iterable[np.ndarray]]  # the training rows, part by part
MOST_COUNTS = 1 << 26  # of levels in all columns
MOST_REALS = 4096  # columns of a covariance
LEAST_EIGENVALUE = 1e-9  # of a correlation matrix that is inverted
SMOOTHING = 1  # added to each count


def applies(manifest: Manifest) -> bool:
    """Tell whether rows are vectors, scored as they are stored."""
    event = manifest.event
    if len(event.shape) != 1 or event.is_open or manifest.sound is not None or is_gray(event):
        return False
    if any(split.read_transform is not None for split in manifest.splits.values()):
        return False
    return sum(_level_counts(event)) <= MOST_COUNTS


def _level_counts(event: Event) -> list[int]:
    """Return the number of levels of each column, 0 for reals."""
    if is_table(event):
        return [column.count for column in event.columns]
    return list(event.levels_by_dimension) if isinstance(event, Levels) else [0] * event.size


def measure_all(event: Event, train: Parts, test: np.ndarray) -> list[CodecResult]:
    """Score test rows (N, D), N > 1, by independent columns, and by one Gaussian of the reals.

        -ln p(x) = -sum_levels ln (count(x_d) + 1) / (n + k_d) - sum_reals ln N(x_d; mu_d, s_d)

    Counts, means, deviations and the covariance of the Gaussian are those of the training rows, to
    which `train` iterates from the first each time. A Gaussian that has no density is left out: a
    column that is constant in these rows, or columns that determine another one. Cells that are
    missing do not count, and the joint Gaussian is left out where some are.
    """
    counts = _level_counts(event)
    places, reals = np.flatnonzero(counts), np.flatnonzero(np.equal(counts, 0))
    tables = [np.full(counts[place], SMOOTHING, np.int64) for place in places]
    rows, total = np.zeros(len(reals)), np.zeros(len(reals))
    whole = not np.isnan(test).any()
    for x in train():
        real = x[:, reals]
        known = ~np.isnan(real)
        rows, total = rows + known.sum(0), total + real.sum(0, dtype=np.float64, where=known)
        whole = whole and not np.isnan(x).any()
        for table, place in zip(tables, places, strict=True):
            table += np.bincount(_levels(x[:, place]), minlength=len(table))
    nats = np.zeros(len(test))
    for table, place in zip(tables, places, strict=True):
        known = ~np.isnan(test[:, place])
        nats[known] -= np.log(table / table.sum())[_levels(test[:, place])]
    mean, joint = total / rows, whole and 1 < len(reals) <= MOST_REALS
    square = np.zeros((len(reals), len(reals)) if joint else len(reals))
    for x in train() if len(reals) else ():
        centred = np.nan_to_num(x[:, reals].astype(np.float64) - mean)
        square += centred.T @ centred if joint else np.square(centred).sum(0)
    deviation = np.sqrt((np.diag(square) if joint else square) / rows)
    if not deviation.all():
        return []
    z = (test[:, reals] - mean) / deviation
    of_one = np.log(deviation) + math.log(2 * math.pi) / 2
    scale = np.log(deviation).sum() + len(reals) / 2 * math.log(2 * math.pi)
    alone = nats + (scale if whole else np.where(np.isnan(z), 0, of_one).sum(1))
    alone = alone + np.nansum(np.square(z), 1) / 2
    kinds = ["a histogram"] * bool(tables) + ["a Gaussian"] * bool(len(reals))
    words = f"{' or '.join(kinds)} each"
    found = [_result("independent columns", words, alone, event)]
    if joint:
        eigenvalues, axes = np.linalg.eigh(square / rows / np.outer(deviation, deviation))
        if eigenvalues[0] > LEAST_EIGENVALUE:
            spread = np.square(z @ axes / np.sqrt(eigenvalues)).sum(1)
            both = nats + scale + (np.log(eigenvalues).sum() + spread) / 2
            words = "of the reals, other columns independent" if tables else ""
            found.append(_result("one Gaussian", words, both, event))
    return found


def _levels(cells: np.ndarray) -> np.ndarray:
    """Return the levels of the cells that are known."""
    known: np.ndarray = cells[~np.isnan(cells)]
    return known.astype(np.int64)


def _result(label: str, settings: str, nats: np.ndarray, event: Event) -> CodecResult:
    error = float(nats.std(ddof=1)) / math.sqrt(len(nats))
    score = Score.from_nats(float(nats.mean()), error, event)
    return CodecResult(
        label=label, settings=settings, kind="baseline", num_rows=len(nats), score=score
    )

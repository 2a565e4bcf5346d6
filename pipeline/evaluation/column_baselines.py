"""Simple models of rows of columns, next to which nats say something."""

import math
from collections.abc import Callable, Iterable, Sequence

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

    Counts, means, deviations and the covariance of the Gaussian are of the training rows. `train`
    iterates over them from the first each time. A Gaussian that has no density is left out: a
    column that is constant in these rows, or columns that determine another one. Cells that are
    missing do not count, atoms are outcomes beside their column's Gaussian, and the joint Gaussian
    is left out where there are some of either.
    """
    counts, atoms = _level_counts(event), _atoms(event)
    reals = np.flatnonzero(np.equal(counts, 0))
    sizes = {place: counts[place] or 1 + len(at) for place, at in enumerate(atoms)}
    tables = {c: np.full(size, SMOOTHING, np.int64) for c, size in sizes.items() if size > 1}
    rows, total, whole = np.zeros(len(reals)), np.zeros(len(reals)), not np.isnan(test).any()
    for x in train():
        dense = _dense(x, reals, atoms)
        rows, total = rows + dense.sum(0), total + _total(x[:, reals], dense)
        whole = whole and bool(dense.all()) and not np.isnan(x).any()
        for place, table in tables.items():
            table += np.bincount(_outcomes(x[:, place], atoms[place])[1], minlength=len(table))
    nats = np.zeros(len(test))
    for place, table in tables.items():
        known, outcomes = _outcomes(test[:, place], atoms[place])
        nats[known] -= np.log(table / table.sum())[outcomes]
    whole = whole and bool(_dense(test, reals, atoms).all())
    mean, joint = total / rows, whole and 1 < len(reals) <= MOST_REALS
    square = np.zeros((len(reals), len(reals)) if joint else len(reals))
    for x in train() if len(reals) else ():
        centred = x[:, reals].astype(np.float64) - mean
        centred = np.where(_dense(x, reals, atoms), centred, 0)
        square += centred.T @ centred if joint else np.square(centred).sum(0)
    deviation = np.sqrt((np.diag(square) if joint else square) / rows)
    if not deviation.all():
        return []
    dense = _dense(test, reals, atoms)
    z = np.where(dense, (test[:, reals] - mean) / deviation, 0)
    of_one = np.log(deviation) + math.log(2 * math.pi) / 2
    scale = np.log(deviation).sum() + len(reals) / 2 * math.log(2 * math.pi)
    alone = nats + (scale if whole else np.where(dense, of_one, 0).sum(1)) + np.square(z).sum(1) / 2
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


def _atoms(event: Event) -> list[tuple[float, ...]]:
    """Return the atoms of each column."""
    if is_table(event):
        return [tuple(column.atoms) for column in event.columns]
    return [()] * event.size


def _dense(x: np.ndarray, reals: np.ndarray, atoms: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Tell which cells of columns of reals are known, and no atoms, (N, reals)."""
    dense = [~np.isnan(x[:, c]) & ~np.isin(x[:, c], atoms[c]) for c in reals]
    return np.stack(dense, 1) if dense else np.ones((len(x), 0), bool)


def _total(values: np.ndarray, dense: np.ndarray) -> np.ndarray:
    if dense.all():  # in an order of its own, whose digits are on record
        return np.asarray(values.sum(0, dtype=np.float64))
    return np.asarray(values.sum(0, dtype=np.float64, where=dense))


def _outcomes(cells: np.ndarray, atoms: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells are known, and their levels; of reals 0, or the number of an atom."""
    known = ~np.isnan(cells)
    if not atoms:
        return known, cells[known].astype(np.int64)
    return known, (cells[known, None] == atoms) @ np.arange(1, len(atoms) + 1)


def _result(label: str, settings: str, nats: np.ndarray, event: Event) -> CodecResult:
    error = float(nats.std(ddof=1)) / math.sqrt(len(nats))
    score = Score.from_nats(float(nats.mean()), error, event)
    return CodecResult(
        label=label, settings=settings, kind="baseline", num_rows=len(nats), score=score
    )

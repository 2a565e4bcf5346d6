"""Arrays of one's own: .npy files or an .npz archive, with labels or condition vectors or neither.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --arrays <file>` writes:

    name: jets
    kind: arrays
    path: /data/jets.npz          # or x.npy; relative paths are to the project's root
    x: x                          # the array of an .npz; without effect for a .npy
    labels: ""                    # an array of the .npz, or a .npy file: (N,) integers
    conditions: ""                # the same: (N, size), or maps (N, channels, height, width)
    shape: [1, 8, 8]              # of a row
    num_levels: 17                # k: integers in [0, k); a list, one k for each column of a table;
    num_classes: 0                #    0: reals
    condition_size: 0
    condition_shape: []           # [channels, height, width] of maps
    standardize: false            # reals and conditions, by the training rows
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    rows_per_shard: 16384

Rows are read in parts from where they lie, so that an array may be larger than memory. `fetch`
copies nothing; `dvc repro -f preprocess@<name>` reads them anew. Training needs the shards alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder
from pipeline.datasets.formats import array_files
from pipeline.datasets.own.array_checks import at, cut_rows, place_of, refuse
from pipeline.datasets.own.own_data import (
    FEW_VALUES,
    OwnOptions,
    counted,
    existing,
    listed,
    parse_own,
    refuse_unless,
    repeated,
    split_by_seed,
    split_words,
)
from pipeline.datasets.scaling import Scaling

LARGEST = 10**6  # number of classes, and length of a condition
_COUNTS = ("num_classes", "condition_size")


@dataclass(frozen=True, kw_only=True)
class ArrayOptions(OwnOptions):
    """Options of a dataset of kind arrays; see the module's example."""

    x: str = "x"
    labels: str = ""
    conditions: str = ""
    shape: list = field(default_factory=list)  # type: ignore[type-arg]
    num_levels: int | list = 0  # type: ignore[type-arg]
    num_classes: int = 0
    condition_size: int = 0
    condition_shape: list = field(default_factory=list)  # type: ignore[type-arg]
    standardize: bool = False


@dataclass(frozen=True)
class Columns:
    """The arrays of a dataset, row beside row, mapped into memory."""

    x: np.ndarray
    labels: np.ndarray | None
    conditions: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Arrays(Dataset):
    """Arrays of the user's, split at random by row."""

    arrays: ArrayOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Check shapes, then yield rows in parts; `raw_dir` is not read."""
        kept = self._kept()
        columns = self._open(kept)
        cut = split_by_seed(len(columns.x), self.arrays, self.arrays.path, "rows")
        scalings = self._scalings(columns, cut["train"])
        return {
            split: SplitStream(
                len(cut[split]), self._parts(columns, split, cut, scalings), scalings
            )
            for split in SPLITS
        }

    def examine(self) -> list[str]:
        """Read all values once, and say what was found."""
        kept = self._kept()
        try:
            columns = self._open(kept)
            cut = split_by_seed(len(columns.x), self.arrays, self.arrays.path, "rows")
            for rows in cut_rows(np.arange(len(columns.x)), columns.x, columns.conditions):
                self._row_values(columns, rows, {})
            self._scalings(columns, cut["train"])
        finally:
            kept.remove()
        lines = [
            f"{counted(len(columns.x), 'row')} of shape {columns.x.shape[1:]}, {columns.x.dtype}",
            *(f"{split}: {counted(len(cut[split]), 'row')}" for split in SPLITS),
            f"event: {self.event!r}",
        ]
        if columns.labels is not None:
            lines.append(f"labels: {self.num_classes} classes")
        if columns.conditions is not None:
            kind = f"vectors of {self.condition_size}"
            if self.condition_shape is not None:
                kind = "maps of shape " + " x ".join(map(str, self.condition_shape))
            lines.append(f"conditions: {kind}")
        return [*lines, *self._beware(columns.x, cut["train"]), *self._left_aside()]

    def _beware(self, x: np.ndarray, train: np.ndarray) -> list[str]:
        """Say what may be meant otherwise: channels last; places of few different reals.

        The latter by some training rows.
        """
        if isinstance(self.event, Levels):
            return self._beware_of_channels(self.event.shape)
        most = len(next(cut_rows(train, x)))
        few = repeated(x[train[:: -(-len(train) // most)]])
        if not few:
            return []
        is_table = len(few[0]) == 1
        where = (
            "columns " + listed([i for (i,) in few], 12) if is_table else f"places {listed(few)}"
        )
        return [f"beware: {where}: {FEW_VALUES}: leave them out"]

    def _beware_of_channels(self, shape: Sequence[int | None]) -> list[str]:
        if len(shape) != 3 or shape[-1] not in (1, 3) or shape[0] in (1, 3):
            return []
        taken, first = " x ".join(map(str, shape[1:])), (shape[2], *shape[:2])
        return [
            f"beware: rows of shape {tuple(shape)} are {shape[0]} channels of {taken}; if channels "
            f"come last, store them first, {first}"
        ]

    def _left_aside(self) -> list[str]:
        """Say which arrays of an archive serve for nothing, if any."""
        path, options = existing(self.name, "path", self.arrays.path), self.arrays
        if path.suffix != ".npz":
            return []
        used = (options.x, options.labels, options.conditions)
        others = [name for name in array_files.list_npz(path) if name not in used]
        return [f"left aside: the arrays {listed(others)}"] if others else []

    def _kept(self) -> PartsFolder:
        """Where arrays of an archive are unpacked until they have been read."""
        path = existing(self.name, "path", self.arrays.path)
        stat = path.stat()
        return PartsFolder(self.name, [str(path), stat.st_size, stat.st_mtime_ns])

    def _open(self, kept: PartsFolder) -> Columns:
        """Map the arrays, and check that they are what the options say."""
        options = self.arrays
        names = {"x": options.x, "labels": options.labels, "conditions": options.conditions}
        found = {
            role: open_array(self.name, options.path, role, given, kept)
            for role, given in names.items()
            if given
        }
        given_shape = tuple(options.condition_shape) or (options.condition_size,)
        wanted = {"x": tuple(options.shape), "labels": (), "conditions": given_shape}
        for role, array in found.items():
            where, shape = f"{options.path}: {role}", (len(found["x"]), *wanted[role])
            if array.shape != shape:
                raise UserError(f"{where}: expected shape {shape}, got {array.shape}")
            whole = role == "labels" or (role == "x" and isinstance(self.event, Levels))
            if whole and array.dtype.kind not in "iub":
                raise UserError(f"{where}: expected integers, got {array.dtype}")
        return Columns(found["x"], found.get("labels"), found.get("conditions"))

    def _scalings(self, columns: Columns, train: np.ndarray) -> dict[str, Scaling]:
        """Find means and deviations over the training rows, where values are to be standardised."""
        scalings: dict[str, Scaling] = {}
        if not self.arrays.standardize:
            return scalings
        if not isinstance(self.event, Levels):
            scalings["x"] = _scaling(columns.x, train, f"{self.arrays.path}: x")
        if columns.conditions is not None:
            where = f"{self.arrays.path}: conditions"
            scalings["conditions"] = _scaling(columns.conditions, train, where)
        return scalings

    def _parts(
        self,
        columns: Columns,
        split: str,
        cut: Mapping[str, np.ndarray],
        scalings: Mapping[str, Scaling],
    ) -> Iterator[SplitData]:
        for rows in cut_rows(cut[split], columns.x, columns.conditions):
            yield self._row_values(columns, rows, scalings)

    def _row_values(
        self, columns: Columns, rows: np.ndarray, scalings: Mapping[str, Scaling]
    ) -> SplitData:
        """Take some rows, check their values and bring them to the types of shards."""
        x = columns.x[rows]
        where = f"{self.arrays.path}: x"
        if isinstance(self.event, Levels):
            counts = np.array(self.event.levels_by_dimension).reshape(self.event.extents)
            refuse((x < 0) | (x >= counts), x, rows, where, "levels from 0 to num_levels - 1")
            x = x.astype(np.uint8)
        else:
            x = _scaled(x, rows, where, scalings.get("x"))
        labels = None
        if columns.labels is not None:
            labels = columns.labels[rows].astype(np.int64)
            where = f"{self.arrays.path}: labels"
            count = self.arrays.num_classes
            wanted = f"classes from 0 to {count - 1}"
            refuse((labels < 0) | (labels >= count), labels, rows, where, wanted)
        if columns.conditions is not None:
            where = f"{self.arrays.path}: conditions"
            labels = _scaled(columns.conditions[rows], rows, where, scalings.get("conditions"))
        return SplitData(x, labels)


def open_array(dataset: str, path: str, role: str, given: str, kept: PartsFolder) -> np.ndarray:
    """Map one array of a dataset into memory: that of `path`, or one that an option names.

    Arguments:
        dataset: its name.
        path: a .npy file, or an .npz archive.
        role: x, labels or conditions.
        given: the option's value: an array of the archive, or else a .npy file.
        kept: where an array of an archive is unpacked.
    """
    file = existing(dataset, "path", path)
    if file.suffix != ".npz":
        own = file if role == "x" else existing(dataset, role, given)
        return array_files.open_npy(own)
    named = hashlib.sha256(given.encode()).hexdigest()[:8]  # another array is another file
    target = kept.folder / f"{role}-{named}.npy"
    if not target.is_file():
        partial = target.with_suffix(".partial")
        array_files.unpack_npz(file, given, partial)
        os.replace(partial, target)
    return array_files.open_npy(target, f"{path}: {given}")


def _scaling(values: np.ndarray, train: np.ndarray, where: str) -> Scaling:
    """Mean and deviation over the training rows, in two passes.

    Raises:
        UserError: for a number that is the same in all training rows.
    """
    mean = np.zeros(values.shape[1:])
    low, high = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
    for rows in cut_rows(train, values):
        some = _finite(values[rows], rows, where)
        mean += some.sum(0)
        low, high = np.minimum(low, some.min(0)), np.maximum(high, some.max(0))
    mean /= len(train)
    square = np.zeros_like(mean)
    with np.errstate(over="ignore"):  # which is refused below
        for rows in cut_rows(train, values):
            square += np.square(values[rows].astype(np.float64) - mean).sum(0)
    deviation = np.sqrt(square / len(train))
    if not np.isfinite(deviation).all():
        place = place_of(int(np.argmin(np.isfinite(deviation))), mean.shape)
        raise UserError(f"{where}: {at(place)}: expected numbers whose squares are finite")
    differs = (low < high) & (deviation > 0)  # sums round: equal values may have a deviation
    if not differs.all():
        place = place_of(int(np.argmin(differs)), mean.shape)
        raise UserError(
            f"{where}: {at(place)}: expected different values, got {low[place]:g} in all "
            f"training rows; leave it out"
        )
    return Scaling(mean, deviation)


def _finite(values: np.ndarray, rows: np.ndarray, where: str) -> np.ndarray:
    values = values.astype(np.float64)
    refuse(~np.isfinite(values), values, rows, where, "finite numbers")
    return values


def _scaled(
    values: np.ndarray, rows: np.ndarray, where: str, scaling: Scaling | None
) -> np.ndarray:
    values = _finite(values, rows, where)
    scaled = values if scaling is None else scaling.of(values)
    with np.errstate(over="ignore"):
        narrow = scaled.astype("<f4")
    refuse(~np.isfinite(narrow), values, rows, where, "numbers within float32")
    return narrow


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind arrays; its files are looked at when they are decoded.

    Raises:
        UserError: for bad options.
    """
    name = str(config["name"])
    options = parse_own(ArrayOptions, config)
    suffix = Path(options.path).suffix
    refuse_unless(suffix in (".npy", ".npz"), name, "path", "a .npy or .npz file", options.path)
    refuse_unless(bool(options.x), name, "x", "the name of an array", options.x)
    extents = options.condition_shape
    fits = len(extents) in (0, 3) and _are_sizes(extents)
    refuse_unless(fits, name, "condition_shape", "[channels, height, width], or []", extents)
    is_map = bool(extents and options.conditions)
    refuse_unless(is_map or not extents, name, "condition_shape", "[] without conditions", extents)
    given = (options.labels, options.conditions and not is_map)
    for has, role, option in zip(given, ("labels", "conditions"), _COUNTS, strict=True):
        count = getattr(options, option)
        fits = 1 <= count <= LARGEST if has else count == 0
        words = (
            f"1 to {LARGEST} with {role}, else 0" if not is_map else f"0 without {role} of numbers"
        )
        refuse_unless(fits, name, option, words, count)
    both = bool(options.labels and options.conditions)
    refuse_unless(not both, name, "conditions", "none beside labels", options.conditions)
    event = _event(name, options)
    binary, levels = isinstance(event, Binary), isinstance(event, Levels)
    fits = not levels or not options.standardize
    refuse_unless(fits, name, "standardize", "false for levels", options.standardize)
    how = "; standardised by the training rows" if options.standardize else ""
    return Arrays(
        name=name,
        family=name,
        event=event,
        unit="bits_per_dim" if levels and not binary else "nats",
        files=(),
        provenance=f"{Path(options.path).name}; {split_words(options, 'rows')}{how}",
        options=options,
        num_classes=options.num_classes or None,
        condition_size=options.condition_size or None,
        condition_shape=(extents[0], extents[1], extents[2]) if extents else None,
        arrays=options,
    )


def _are_sizes(given: Sequence[object]) -> bool:
    return all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in given)


def _event(name: str, options: ArrayOptions) -> Event:
    """What a row is.

    Raises:
        UserError: for a shape or numbers of levels out of range.
    """
    shape, levels = tuple(options.shape), options.num_levels
    fits = bool(shape) and _are_sizes(shape)
    refuse_unless(fits, name, "shape", "a list of integers >= 1", options.shape)
    given = levels if isinstance(levels, list) else [levels]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 2 <= n <= 256 for n in given)
    fits = levels == 0 or (whole and bool(given))
    refuse_unless(fits, name, "num_levels", "0, 2 to 256, or a list of these", levels)
    if isinstance(levels, list):
        fits = shape == (len(levels),)
        refuse_unless(fits, name, "num_levels", f"as many as shape {list(shape)}", levels)
        return Levels(levels)
    if levels == 0:
        return Real(shape)
    return Binary(shape) if levels == 2 else Levels(levels, shape)


KINDS = {"arrays": build}

"""Arrays of the user's: .npy files or an .npz archive, with labels or condition vectors or neither.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --arrays <file>` writes:

    name: jets
    kind: arrays
    path: /data/jets.npz          # or x.npy; relative paths are to the project's root
    x: x                          # the array of an .npz; without effect for a .npy
    labels: ""                    # an array of the .npz, or a .npy file: (N,) integers
    conditions: ""                # the same: (N, size), or maps (N, channels, height, width)
    layout: as_is                 # gray: rows (H, W) are images of one channel; channels_last:
    shape: [1, 8, 8]              #    rows (H, W, C); shape is that of a row with channels first
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
copies nothing; `dvc repro -f preprocess@<name>` reads them again. Training needs the shards alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData, SplitStream
from pipeline.datasets.decoding_parts import PartsFolder
from pipeline.datasets.formats import array_files
from pipeline.datasets.options import AtLeastOne, expected, parse_options
from pipeline.datasets.scaling import Scaling
from pipeline.datasets.user.array_checks import at, cut_rows, place_of, refuse
from pipeline.datasets.user.findings import (
    FEW_VALUES,
    counted,
    listed,
    repeated,
    splits_found,
)
from pipeline.datasets.user.user_data import (
    UserDataset,
    UserOptions,
    existing,
    refuse_unless,
    split_by_seed,
)

LARGEST = 10**6  # number of classes, and length of a condition
_LEVELS = expected("0, 2 to 256, or a list of these", lambda k: k == 0 or 2 <= k <= 256)
_COLUMNS = expected("2 to 256 for each column", lambda ks: all(2 <= k <= 256 for k in ks))
_ARRANGED = {
    "gray": "rows of two axes are taken as images of one channel; layout=as_is keeps them",
    "channels_last": "the last axis of a row is taken as its channels",
}
_MAP = expected("[channels, height, width], or []", lambda sizes: len(sizes) in (0, 3))


@dataclass(frozen=True, kw_only=True)
class ArrayOptions(UserOptions):
    """Options of a dataset of kind arrays; see the module's example."""

    x: Annotated[str, expected("the name of an array", bool)] = "x"
    labels: str = ""
    conditions: str = ""
    layout: Literal["as_is", "gray", "channels_last"] = "as_is"
    shape: Annotated[list[AtLeastOne], expected("a list of integers >= 1", bool)] = field(
        default_factory=list
    )
    num_levels: Annotated[int, _LEVELS] | Annotated[list[int], _COLUMNS] = 0
    num_classes: int = 0
    condition_size: int = 0
    condition_shape: Annotated[list[AtLeastOne], _MAP] = field(default_factory=list)
    standardize: bool = False

    @property
    def event(self) -> Event:
        """What a row is."""
        shape, levels = tuple(self.shape), self.num_levels
        if isinstance(levels, list):
            return Levels(levels)
        if levels == 0:
            return Real(shape)
        return Binary(shape) if levels == 2 else Levels(levels, shape)


@dataclass(frozen=True)
class Columns:
    """The arrays of a dataset, mapped into memory."""

    x: np.ndarray
    labels: np.ndarray | None
    conditions: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Arrays(UserDataset):
    """Arrays of the user's, split at random by row."""

    options: ArrayOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Check shapes, then yield rows in parts; `raw_dir` is not read."""
        kept = self._kept()
        columns = self._open(kept)
        cut = split_by_seed(len(columns.x), self.options, self.options.path, "rows")
        scalings = self._scalings(columns, cut["train"])
        return {
            split: SplitStream(len(rows), self._parts(columns, rows, scalings), scalings)
            for split, rows in cut.items()
        }

    def examine(self) -> list[str]:
        """Read all values once, and say what was found."""
        kept = self._kept()
        try:
            columns = self._open(kept)
            cut = split_by_seed(len(columns.x), self.options, self.options.path, "rows")
            for _ in self._parts(columns, np.arange(len(columns.x)), {}):
                pass  # each value is checked
            self._scalings(columns, cut["train"])
        finally:
            kept.remove()
        lines = [
            f"{counted(len(columns.x), 'row')} of shape {columns.x.shape[1:]}, {columns.x.dtype}",
            *splits_found({split: len(cut[split]) for split in SPLITS}, "row"),
            f"event: {self.event!r}",
        ]
        if self.options.layout != "as_is":
            lines.append(_ARRANGED[self.options.layout])
        if columns.labels is not None:
            lines.append(f"labels: {self.num_classes} classes")
        if columns.conditions is not None:
            kind = f"vectors of {self.condition_size}"
            if self.condition_shape is not None:
                kind = "maps of shape " + " x ".join(map(str, self.condition_shape))
            lines.append(f"conditions: {kind}")
        return [*lines, *self._beware(columns.x, cut["train"]), *self._left_aside()]

    def _beware(self, x: np.ndarray, train: np.ndarray) -> list[str]:
        """Say which places have few different reals, by some training rows."""
        if isinstance(self.event, Levels):
            return []
        most = len(next(cut_rows(train, x)))
        few = repeated(x[train[:: -(-len(train) // most)]])
        if not few:
            return []
        is_table = len(few[0]) == 1
        where = (
            "columns " + listed([i for (i,) in few], 12) if is_table else f"places {listed(few)}"
        )
        return [f"beware: {where}: {FEW_VALUES}: leave them out"]

    def _left_aside(self) -> list[str]:
        """Say which arrays of an archive serve for nothing, if any."""
        path, options = existing(self.name, "path", self.options.path), self.options
        if path.suffix != ".npz":
            return []
        used = (options.x, options.labels, options.conditions)
        others = [name for name in array_files.list_npz(path) if name not in used]
        return [f"left aside: the arrays {listed(others)}"] if others else []

    def _kept(self) -> PartsFolder:
        """Where arrays of an archive are unpacked until they have been read."""
        path = existing(self.name, "path", self.options.path)
        stat = path.stat()
        return PartsFolder(self.name, [str(path), stat.st_size, stat.st_mtime_ns])

    def _open(self, kept: PartsFolder) -> Columns:
        """Map the arrays, and check that they are what the options say."""
        options = self.options
        names = {"x": options.x, "labels": options.labels, "conditions": options.conditions}
        found = {
            role: open_array(self.name, options.path, role, given, kept)
            for role, given in names.items()
            if given
        }
        found["x"] = arranged(found["x"], options.layout)
        given_shape = tuple(options.condition_shape) or (options.condition_size,)
        wanted = {"x": tuple(options.shape), "labels": (), "conditions": given_shape}
        for role, array in found.items():
            where, shape = f"{options.path}: {role}", (len(found["x"]), *wanted[role])
            if array.shape != shape:
                raise UserError(f"{where}: expected shape {shape}, got {array.shape}")
            if role == "labels" and array.dtype.kind not in "iub":
                raise UserError(f"{where}: expected integers, got {array.dtype}")
        return Columns(found["x"], found.get("labels"), found.get("conditions"))

    def _scalings(self, columns: Columns, train: np.ndarray) -> dict[str, Scaling]:
        """Find means and deviations over the training rows, where values are to be standardised."""
        scalings: dict[str, Scaling] = {}
        if not self.options.standardize:
            return scalings
        if not isinstance(self.event, Levels):
            scalings["x"] = _scaling(columns.x, train, f"{self.options.path}: x")
        if columns.conditions is not None:
            where = f"{self.options.path}: conditions"
            scalings["conditions"] = _scaling(columns.conditions, train, where)
        return scalings

    def _parts(
        self, columns: Columns, rows: np.ndarray, scalings: Mapping[str, Scaling]
    ) -> Iterator[SplitData]:
        for some in cut_rows(rows, columns.x, columns.conditions):
            yield self._row_values(columns, some, scalings)

    def _row_values(
        self, columns: Columns, rows: np.ndarray, scalings: Mapping[str, Scaling]
    ) -> SplitData:
        """Take some rows, check their values and bring them to the types of shards."""
        x = columns.x[rows]
        where = f"{self.options.path}: x"
        if isinstance(self.event, Levels):
            counts = np.array(self.event.levels_by_dimension).reshape(self.event.extents)
            fits = (x >= 0) & (x < counts) & (x == np.floor(x))
            refuse(~fits, x, rows, where, "levels from 0 to num_levels - 1")
            x = x.astype(np.uint8)
        else:
            x = _scaled(x, rows, where, scalings.get("x"))
        labels = None
        if columns.labels is not None:
            labels = columns.labels[rows].astype(np.int64)
            where = f"{self.options.path}: labels"
            count = self.options.num_classes
            wanted = f"classes from 0 to {count - 1}"
            refuse((labels < 0) | (labels >= count), labels, rows, where, wanted)
        if columns.conditions is not None:
            where = f"{self.options.path}: conditions"
            labels = _scaled(columns.conditions[rows], rows, where, scalings.get("conditions"))
        return SplitData(x, labels)


def arranged(x: np.ndarray, layout: str) -> np.ndarray:
    """View rows with their channels first.

    Example:
        >>> arranged(np.zeros((9, 28, 28)), "gray").shape
        (9, 1, 28, 28)
        >>> arranged(np.zeros((9, 28, 28, 3)), "channels_last").shape
        (9, 3, 28, 28)
    """
    if layout == "gray":
        return x[:, None]
    return np.moveaxis(x, -1, 1) if layout == "channels_last" else x


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
    options = parse_options(ArrayOptions, name, config)
    suffix = Path(options.path).suffix
    refuse_unless(suffix in (".npy", ".npz"), name, "path", "a .npy or .npz file", options.path)
    refuse_unless(bool(options.shape), name, "shape", "a list of integers >= 1", options.shape)
    if isinstance(options.num_levels, list):
        fits = options.shape == [len(options.num_levels)]
        wanted = f"as many as shape {options.shape}"
        refuse_unless(fits, name, "num_levels", wanted, options.num_levels)
    _check_conditions(name, options)
    event = options.event
    binary, levels = isinstance(event, Binary), isinstance(event, Levels)
    fits = not levels or not options.standardize
    refuse_unless(fits, name, "standardize", "false for levels", options.standardize)
    how = "; standardised by the training rows" if options.standardize else ""
    extents = options.condition_shape
    return Arrays(
        name=name,
        event=event,
        unit="bits_per_dim" if levels and not binary else "nats",
        provenance=f"{Path(options.path).name}; {options.split_words('rows')}{how}",
        options=options,
        num_classes=options.num_classes or None,
        condition_size=options.condition_size or None,
        condition_shape=(extents[0], extents[1], extents[2]) if extents else None,
    )


def _check_conditions(name: str, options: ArrayOptions) -> None:
    """Check that rows come with labels, vectors or maps, and that their sizes are given."""
    extents, has_conditions = options.condition_shape, bool(options.conditions)
    both = bool(options.labels) and has_conditions
    refuse_unless(not both, name, "conditions", "none together with labels", options.conditions)
    fits = has_conditions or not extents
    refuse_unless(fits, name, "condition_shape", "[] without conditions", extents)
    sizes = {"num_classes": bool(options.labels), "condition_size": has_conditions and not extents}
    for option, has in sizes.items():
        count, role = getattr(options, option), "labels"
        if option == "condition_size":
            role = "conditions of numbers"
        fits = 1 <= count <= LARGEST if has else count == 0
        refuse_unless(fits, name, option, f"1 to {LARGEST} with {role}, else 0", count)

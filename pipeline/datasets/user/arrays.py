"""Arrays of the user's: .npy files or an .npz archive, with labels or condition vectors or neither.

A .npy file is read in parts, so that it may be larger than memory.
"""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np

from arcore.events import Binary, Event, Levels, Real
from pipeline.core import paths
from pipeline.core.errors import UserError, explained, require
from pipeline.datasets.base import Dataset, SplitData, SplitStream, level_type
from pipeline.datasets.options import AtLeastOne, expected, parse_options, refuse_unless
from pipeline.datasets.scaling import Scaling, fit_scaling, name_place
from pipeline.datasets.user.user_data import (
    UserDataset,
    UserOptions,
    existing,
    listed,
    split_by_seed,
)

PART_BYTES = 1 << 25  # of rows as float64, in memory at a time
LARGEST = 10**6  # number of classes, and length of a condition
MOST_LEVELS = 1 << 16
MOST_BYTES, PRINTABLE = 256, 32  # levels of a byte, and the first of text that is printed
GRID_ERROR = 1e-4  # of float32 that are levels divided by their number
_LEVELS = expected("0, 2 to 65536, or a list of these", lambda k: k == 0 or 2 <= k <= MOST_LEVELS)
_COLUMNS = expected("2 to 65536 for each column", lambda ks: all(2 <= k <= MOST_LEVELS for k in ks))
_MAP = expected("[channels, height, width], or []", lambda sizes: len(sizes) in (0, 3))
_USUAL_NAMES = {"labels": ("labels", "y"), "conditions": ("conditions", "theta")}
# What numpy and zipfile raise for damaged files: archives, also encrypted ones and those of unknown
# compression (RuntimeError), and headers, which are Python literals that may say anything.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, TypeError,
    LookupError, SyntaxError, tokenize.TokenError, RuntimeError, ArithmeticError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ArrayOptions(UserOptions):
    """Options of a dataset of kind arrays, whose path is a .npz or .npy file.

    Arguments:
        x: the array of an .npz; without effect for a .npy.
        labels: an array of the .npz, or a .npy file: (N,) integers; "" for none.
        conditions: the same: (N, size), or maps (N, channels, height, width).
        layout: gray: rows (H, W) are images of one channel; channels_last: rows (H, W, C).
        shape: of a row, with channels first.
        num_levels: k: integers in [0, k); a list: one k for each column of a table; 0: reals.
        num_classes, condition_size: 0 for none.
        condition_shape: [channels, height, width] of maps.
        standardize: whether reals and conditions are, by the training rows.
    """

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


@dataclass(frozen=True, kw_only=True)
class Arrays(UserDataset):
    """Arrays of the user's, split at random by row."""

    options: ArrayOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Check shapes, then yield rows in parts; `raw_dir` is not read."""
        arrays = self._open()
        cut = split_by_seed(len(arrays["x"]), self.options, self.options.path, "rows")
        scalings = self._scalings(arrays, cut["train"])
        return {
            split: SplitStream(len(rows), self._parts(arrays, rows, scalings), scalings)
            for split, rows in cut.items()
        }

    def notes(self) -> list[str]:
        """Say that rows of text are bytes."""
        if self.options.num_levels != MOST_BYTES or not is_text(self._open()["x"]):
            return []
        return ["rows of bytes have 256 levels; num_levels=k, or a list by column, gives fewer"]

    def _open(self) -> dict[str, np.ndarray]:
        """Open the arrays by role, and check that they are what the options say."""
        options = self.options
        found = open_arrays(self.name, options.path, options.x, options.labels, options.conditions)
        found["x"] = arranged(found["x"], options.layout)
        given_shape = tuple(options.condition_shape) or (options.condition_size,)
        wanted = {"x": tuple(options.shape), "labels": (), "conditions": given_shape}
        for role, array in found.items():
            where, shape = f"{options.path}: {role}", (len(found["x"]), *wanted[role])
            if array.shape != shape:
                raise UserError(f"{where}: expected shape {shape}, got {array.shape}")
        return found

    def _scalings(self, arrays: Mapping[str, np.ndarray], train: np.ndarray) -> dict[str, Scaling]:
        """Find means and deviations over the training rows, where values are to be standardised."""
        is_scaled = {"x": isinstance(self.event, Real), "conditions": True}
        return {
            role: fit_scaling(
                partial(_finite_parts, values, train, f"{self.options.path}: {role}"),
                f"{self.options.path}: {role}",
            )
            for role, values in arrays.items()
            if self.options.standardize and is_scaled.get(role, False)
        }

    def _parts(
        self, arrays: Mapping[str, np.ndarray], rows: np.ndarray, scalings: Mapping[str, Scaling]
    ) -> Iterator[SplitData]:
        """Take rows part by part, check their values and bring them to the types of shards."""
        conditions, path = arrays.get("conditions"), self.options.path
        for some in _cut_rows(rows, *arrays.values()):
            x, labels = arrays["x"][some], None
            if isinstance(self.event, Levels):
                counts = np.array(self.event.levels_by_dimension).reshape(self.event.extents)
                fits = (x >= 0) & (x < counts) & (x == np.floor(x))
                _refuse(~fits, x, some, f"{path}: x", "levels from 0 to num_levels - 1")
                x = x.astype(level_type(self.event.num_levels))
            else:
                x = _scaled(x, some, f"{path}: x", scalings.get("x"))
            if "labels" in arrays:
                labels, count = arrays["labels"][some].astype(np.int64), self.options.num_classes
                flawed, wanted = (labels < 0) | (labels >= count), f"classes from 0 to {count - 1}"
                _refuse(flawed, labels, some, f"{path}: labels", wanted)
            if conditions is not None:
                where = f"{path}: conditions"
                labels = _scaled(conditions[some], some, where, scalings.get("conditions"))
            yield SplitData(x, labels)


def open_arrays(
    dataset: str, path: str, x: str, labels: str, conditions: str
) -> dict[str, np.ndarray]:
    """Open the arrays of a dataset by role: .npy files mapped into memory, an .npz read into it.

    `x`, `labels` and `conditions` are arrays of the archive, or else .npy files; "" for none.
    """
    file, found = existing(dataset, "path", path), {}
    for role, name in {"x": x, "labels": labels, "conditions": conditions}.items():
        if not name:
            continue
        if file.suffix == ".npz":
            found[role] = _load(file, name, f"{path}: {name}")
        else:
            own = file if role == "x" else existing(dataset, role, name)
            found[role] = _load(own, None, str(own))
        if role == "labels":
            fits = found[role].dtype.kind in "iub"
            require(fits, f"{path}: labels", "integers", str(found[role].dtype))
    return found


def _load(path: Path, name: str | None, where: str) -> np.ndarray:
    """Open a .npy file, or one array of an .npz archive; nothing is unpickled."""
    with explained(f"{where}: expected an array of numbers, whole:", *_DAMAGE):
        with np.errstate(over="raise"):  # of the number of values, else a warning
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if name is not None:
                with array as archive:
                    array = archive[name]
    fits = array.dtype.kind in "iufb" and array.size > 0 and array.ndim > 0
    require(fits, where, "rows of integers or reals", (array.shape, str(array.dtype)))
    return cast(np.ndarray, array)


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


def _cut_rows(rows: np.ndarray, *arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Cut rows into parts that take so much memory in all of some arrays."""
    width = sum(math.prod(array.shape[1:]) for array in arrays)
    count = max(1, PART_BYTES // max(1, 8 * width))
    return (rows[first : first + count] for first in range(0, len(rows), count))


def _refuse(
    flawed: np.ndarray, values: np.ndarray, rows: np.ndarray, where: str, wanted: str
) -> None:
    """Refuse the first flawed value, naming its row and its place in the row."""
    if flawed.any():
        row, *place = map(int, np.unravel_index(int(flawed.argmax()), flawed.shape))
        where += f": row {int(rows[row])}" + (f", {name_place(place)}" if place else "")
        raise UserError(f"{where}: expected {wanted}, got {values[(row, *place)]}")


def _finite_parts(values: np.ndarray, rows: np.ndarray, where: str) -> Iterator[np.ndarray]:
    return (_finite(values[some], some, where) for some in _cut_rows(rows, values))


def _finite(values: np.ndarray, rows: np.ndarray, where: str) -> np.ndarray:
    values = values.astype(np.float64)
    _refuse(~np.isfinite(values), values, rows, where, "finite numbers")
    return values


def _scaled(
    values: np.ndarray, rows: np.ndarray, where: str, scaling: Scaling | None
) -> np.ndarray:
    values = _finite(values, rows, where)
    scaled = values if scaling is None else scaling.of(values)
    with np.errstate(over="ignore"):
        narrow = scaled.astype("<f4")
    _refuse(~np.isfinite(narrow), values, rows, where, "numbers within float32")
    return narrow


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the arrays' names, shapes, types and values."""
    guessed: dict[str, object] = {}
    if Path(path).suffix == ".npz":
        names, x = _list_npz(paths.root() / path), given.get("x", "x")
        guessed |= usual_names(paths.root() / path)
        wanted = f"expected an array {x!r}, got {listed(names) or 'none'}"
        if x not in names:
            raise UserError(f"{path}: {wanted}; name it by x=")
    known = parse_options(ArrayOptions, name, {**guessed, **given})
    arrays = open_arrays(name, path, known.x, known.labels, known.conditions)
    for role, array in arrays.items():
        wanted = "rows of one axis or more, e.g. (N, 1)"
        require(array.ndim > 1 or role == "labels", f"{path}: {role}", wanted, array.shape)
    if "layout" not in given and (layout := _guess_layout(arrays["x"], path)) != "as_is":
        guessed["layout"] = layout
    x = arranged(arrays["x"], str(guessed.get("layout", given.get("layout"))))
    guessed["shape"] = list(x.shape[1:])
    if "num_levels" not in given:
        guessed["num_levels"] = _guess_levels(x, path)
    if "labels" in arrays:
        guessed["num_classes"] = max(1, int(arrays["labels"].max()) + 1)
    if "conditions" in arrays:
        shape = arrays["conditions"].shape[1:]
        is_map = len(shape) == 3
        guessed |= (
            {"condition_shape": list(shape)} if is_map else {"condition_size": math.prod(shape)}
        )
    return guessed


def usual_names(path: Path) -> dict[str, str]:
    """Find the labels and conditions of an .npz archive by their usual names; "" for none."""
    names = _list_npz(path)
    return {
        role: next((one for one in usual if one in names), "")
        for role, usual in _USUAL_NAMES.items()
    }


def _list_npz(path: Path) -> list[str]:
    with explained(f"{path}: expected an archive of arrays (.npz):", *_DAMAGE):
        with np.load(path, allow_pickle=False) as archive:
            return list(archive)


def _guess_layout(x: np.ndarray, path: str) -> str:
    """Say where the channels of rows are."""
    *_, last = shape = x.shape[1:]
    if len(shape) == 3 and last in (1, 3) and shape[0] not in (1, 3):
        raise UserError(
            f"{path}: x: rows of shape {shape}: do channels come last? give layout=channels_last, "
            f"or layout=as_is for {shape[0]} channels of {shape[1]} x {last}"
        )
    return "gray" if len(shape) == 2 and x.dtype.kind in "iub" else "as_is"


def _guess_levels(x: np.ndarray, path: str) -> int | list[int]:
    """Numbers of levels of rows of integers; 0 for reals."""
    if x.dtype.kind not in "iub":
        _refuse_levels_as_reals(np.unique(x[:1000]), path)
        return 0
    wanted = f"an integer from 0 to {MOST_LEVELS - 1} (or reals: save them as float32)"
    for rows in _cut_rows(np.arange(len(x)), x):
        part = x[rows]
        _refuse((part < 0) | (part >= MOST_LEVELS), part, rows, f"{path}: x", wanted)
    high = int(x.max())
    if x.ndim != 2:  # of pixels there are 256, of codes a power of two
        return 1 << high.bit_length() if high > 127 else max(2, high + 1)
    if is_text(x):
        return MOST_BYTES
    counts = [max(2, int(n) + 1) for n in x.max(0)]
    return counts if len(set(counts)) > 1 else counts[0]


def _refuse_levels_as_reals(values: np.ndarray, path: str) -> None:
    """Refuse different values that seem to be levels: whole numbers, or multiples of 1 / n."""
    values = values.astype(np.float64)
    low, high = values[0], values[-1]
    if not 0 <= low < high < MOST_BYTES or len(values) > MOST_BYTES:  # NaN comes last
        return
    if (values == np.floor(values)).all():
        raise UserError(
            f"{path}: x: reals that are whole numbers from {low:g} to {high:g}: give "
            f"num_levels={int(high) + 1} for levels, or num_levels=0 for reals"
        )
    if high <= 1:
        scaled = np.arange(1, MOST_BYTES)[:, None] * values
        fits = np.abs(scaled - scaled.round()).max(1) < GRID_ERROR
        if fits.any():
            n = int(fits.argmax()) + 1
            raise UserError(
                f"{path}: x: reals that are multiples of 1/{n} in [0, 1]: save {n} x as integers, "
                f"which are num_levels={n + 1}, or give num_levels=0 for reals"
            )


def is_text(x: np.ndarray) -> bool:
    """Tell whether rows are bytes with printable ones among them, as of text."""
    return x.ndim == 2 and x.dtype == np.uint8 and int(x.max()) >= PRINTABLE


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind arrays; its files are read when they are decoded."""
    name = str(settings["name"])
    options = parse_options(ArrayOptions, name, settings)
    suffix = Path(options.path).suffix
    refuse_unless(suffix in (".npy", ".npz"), name, "path", "a .npy or .npz file", options.path)
    refuse_unless(bool(options.shape), name, "shape", "a list of integers >= 1", options.shape)
    if isinstance(options.num_levels, list):
        fits = options.shape == [len(options.num_levels)]
        wanted = f"as many as shape {options.shape}"
        refuse_unless(fits, name, "num_levels", wanted, options.num_levels)
    _check_conditions(name, options)
    event = _event(options)
    fits = isinstance(event, Real) or not options.standardize
    refuse_unless(fits, name, "standardize", "false for levels", options.standardize)
    how = "; standardised by the training rows" if options.standardize else ""
    extents = options.condition_shape
    return Arrays(
        name=name,
        event=event,
        unit="nats" if isinstance(event, Real | Binary) else "bits_per_dim",
        provenance=f"{Path(options.path).name}; {options.split_words('rows')}{how}",
        options=options,
        num_classes=options.num_classes or None,
        condition_size=options.condition_size or None,
        condition_shape=(extents[0], extents[1], extents[2]) if extents else None,
    )


def _event(options: ArrayOptions) -> Event:
    shape, levels = tuple(options.shape), options.num_levels
    if isinstance(levels, list):
        return Levels(levels)
    if levels == 0:
        return Real(shape)
    return Binary(shape) if levels == 2 else Levels(levels, shape)


def _check_conditions(name: str, options: ArrayOptions) -> None:
    """Check that rows come with labels, vectors or maps, and that their sizes are given."""
    extents, has_conditions = options.condition_shape, bool(options.conditions)
    both = bool(options.labels) and has_conditions
    refuse_unless(not both, name, "conditions", "none together with labels", options.conditions)
    fits = has_conditions or not extents
    refuse_unless(fits, name, "condition_shape", "[] without conditions", extents)
    has_vectors, has_labels = has_conditions and not extents, bool(options.labels)
    needed = (
        ("num_classes", options.num_classes, has_labels, "labels"),
        ("condition_size", options.condition_size, has_vectors, "conditions of numbers"),
    )
    for option, count, has, role in needed:
        fits = 1 <= count <= LARGEST if has else count == 0
        refuse_unless(fits, name, option, f"1 to {LARGEST} with {role}, else 0", count)

"""A CSV file of the user's: a table of reals, or of integers and names, one row an event.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --csv <file>` writes:

    name: turbines
    kind: csv
    path: /data/turbines.csv      # or relative to the project's root
    delimiter: ","
    header: true                  # false: columns are called 0, 1, ...
    drop: [serial, operator]      # columns that are not to be modelled
    levels: {}                    # of columns of integers in [0, k): k; of names: their list
    conditions: []                # columns that a model is given, not asked for, as a vector
    label: ""                     # the same, one column of levels, as a class
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    standardize: true             # columns of reals, modelled or given, by the training rows
    rows_per_shard: 16384

What is modelled is all reals or all levels: no event has both, since its score would be a density
in some dimensions and a probability in others, in no common unit. Of a mixed table a dataset with
the levels alone and one with the reals given the levels as `conditions` make up the whole,
p(levels) p(reals | levels). Names among `conditions` become one number a name, 1 where it is the
row's. `fetch` copies the file, so that a changed one is noticed at `preprocess` and fetched by
`dvc repro -f fetch@<name>`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from arcore.events import Event, Levels, Real
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, unknown_name
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData
from pipeline.datasets.options import between, expected, parse_options
from pipeline.datasets.scaling import Scaling
from pipeline.datasets.tables.csv_table import (
    column_names,
    kept_columns,
    read_rows,
    read_table,
    scaling_of,
)
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
    refuse_unless,
    split_by_seed,
)

_DIFFERENT = expected("different columns", lambda names: len(set(names)) == len(names))
_NAMES = expected("different names", lambda names: 2 <= len(set(names)) == len(names) <= 256)
Counts = Annotated[int, between(2, 256)] | Annotated[list[str], _NAMES]  # of a column of levels
MISSING = ("na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "-")  # in small letters


@dataclass(frozen=True, kw_only=True)
class CsvOptions(UserOptions):
    """Options of a dataset of kind csv; see the module's example."""

    delimiter: Annotated[str, expected("a character", lambda text: len(text) == 1)] = ","
    header: bool = True
    drop: list[str] = field(default_factory=list)
    levels: dict[str, Counts] = field(default_factory=dict)
    conditions: Annotated[list[str], _DIFFERENT] = field(default_factory=list)
    label: str = ""
    standardize: bool = True

    @property
    def told(self) -> list[str]:
        """Columns that a model is given, not asked for."""
        return [*self.conditions, *([self.label] if self.label else [])]

    def width(self, column: str) -> int:
        """Numbers that a given column becomes: one a name, or itself."""
        names = self.levels.get(column)
        return len(names) if isinstance(names, list) else 1


@dataclass(frozen=True, kw_only=True)
class CsvFile(UserDataset):
    """A CSV file of the user's, split at random by row.

    Arguments:
        modelled: the columns that are, in the file's order.
    """

    options: CsvOptions
    modelled: tuple[str, ...]

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the table, split it and standardise, if so chosen."""
        options, path = self.options, raw_dir / self.files[0].name
        names, values = read_table(
            path, options.delimiter, options.header, options.drop, options.levels
        )
        cut = split_by_seed(len(values), options, path, "rows")
        scaling = self._scaling(values[cut["train"]], names, str(path))
        if scaling is None:
            _refuse_wide(values, names, path)
        return {split: self._rows(values[cut[split]], names, scaling) for split in SPLITS}

    def _scaling(self, train: np.ndarray, names: Sequence[str], where: str) -> Scaling | None:
        """What standardises the columns of reals, if so chosen, and leaves the others."""
        real = [name for name in names if name not in self.options.levels]
        if not (self.options.standardize and real):
            return None
        places = [names.index(name) for name in real]
        found = scaling_of(train[:, places], real, where)
        mean, deviation = np.zeros(len(names)), np.ones(len(names))
        mean[places], deviation[places] = found.mean, found.deviation
        return Scaling(mean, deviation)

    def _rows(self, values: np.ndarray, names: Sequence[str], scaling: Scaling | None) -> SplitData:
        scalings = {}
        if scaling is not None:
            values = scaling.of(values)
            scalings = self._scalings(scaling, names)
        x = values[:, [names.index(name) for name in self.modelled]]
        labels = None
        if self.options.label:
            labels = values[:, names.index(self.options.label)].astype(np.int64)
        elif self.options.conditions:
            given = [self._condition(values, names, name) for name in self.options.conditions]
            labels = np.concatenate(given, 1).astype("<f4")
        dtype = np.uint8 if isinstance(self.event, Levels) else "<f4"
        return SplitData(x.astype(dtype), labels, scalings=scalings)

    def _scalings(self, scaling: Scaling, names: Sequence[str]) -> dict[str, Scaling]:
        """How what is modelled and what is given were standardised, number by number."""
        roles: dict[str, Sequence[str]] = {"conditions": self.options.conditions}
        if not isinstance(self.event, Levels):
            roles["x"] = self.modelled
        found = {}
        for role, columns in roles.items():
            places = [names.index(column) for column in columns]
            widths = [self.options.width(column) for column in columns]
            if columns:
                found[role] = Scaling(
                    np.repeat(scaling.mean[places], widths),
                    np.repeat(scaling.deviation[places], widths),
                )
        return found

    def _condition(self, values: np.ndarray, names: Sequence[str], name: str) -> np.ndarray:
        column = values[:, [names.index(name)]]
        count = self.options.levels.get(name)
        return (column == np.arange(len(count))) if isinstance(count, list) else column

    def examine(self) -> list[str]:
        """Read the whole table, and say what was found."""
        folder = Path(self.system_folders[0])
        parts = self.decode(folder)
        options = self.options
        lines = [
            f"{counted(sum(map(len, parts.values())), 'row')} in {options.path}",
            *splits_found({split: len(parts[split]) for split in SPLITS}, "row"),
            f"event: {self.event!r}, columns {listed(self.modelled, 12)}",
        ]
        if options.drop:
            lines.append(f"left out: {listed(options.drop, 12)}")
        if options.label:
            lines.append(f"label: {options.label}, {self.num_classes} classes")
        if options.conditions:
            names = listed(options.conditions, 12)
            lines.append(f"conditions: {names}, as vectors of {self.condition_size}")
        if not isinstance(self.event, Levels):
            few = [self.modelled[i] for (i,) in repeated(parts["train"].x)]
            if few:
                lines.append(
                    f"beware: {listed(few, 12)}: {FEW_VALUES}: name them in levels, "
                    f"conditions or drop"
                )
        known = {row.tobytes() for row in parts["train"].x}
        held_out = [row.tobytes() for split in SPLITS[1:] for row in parts[split].x]
        if twice := sum(row in known for row in held_out):
            lines.append(
                f"{twice} of {len(held_out)} rows of valid and test are also rows of train"
            )
        return [*lines, *self._missing(folder / self.files[0].name)]

    def _missing(self, path: Path) -> list[str]:
        """Say which names look as if a value was missing: a line, or none where none does."""
        suspects = {
            (column, name)
            for column, names in self.options.levels.items()
            for name in (names if isinstance(names, list) else ())
            if name.lower() in MISSING
        }
        if not suspects:
            return []
        rows = list(read_rows(path, self.options.delimiter))
        columns = column_names(path, rows, self.options.header)
        found = []
        for column, name in sorted(suspects):
            place = columns.index(column)
            count = sum(row[place].strip() == name for _, row in rows[self.options.header :])
            found.append(f"{name!r} in column {column!r} ({counted(count, 'cell')})")
        return [
            f"beware: taken as names like any other: {'; '.join(found)}; if they mean that nothing "
            f"is known, leave these rows out"
        ]


def _refuse_wide(values: np.ndarray, names: Sequence[str], path: Path) -> None:
    wide = np.abs(values) > np.finfo(np.float32).max
    if wide.any():
        row, column = divmod(int(wide.argmax()), len(names))
        raise UserError(
            f"{path}: column {names[column]!r}: expected numbers within float32, got "
            f"{values[row, column]:g}; set standardize: true, or name it in drop"
        )


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind csv, whose file must be there (or its copy in `data/raw/<name>/`).

    Raises:
        UserError: for bad options, or a file that is missing or has no column left.
    """
    name = str(config["name"])
    options = parse_options(CsvOptions, name, columns_by_name(config))
    path = _path(name, options.path)
    first = list(itertools.islice(read_rows(path, options.delimiter), 1))
    names = column_names(path, first, options.header)
    kept = [names[i] for i in kept_columns(path, names, options.drop)]
    if "" in kept:
        raise UserError(
            f"{path}: column {names.index('') + 1}: expected a name, got none: name it in the "
            "file, or leave it out by drop=['']"
        )
    modelled = _modelled(name, options, kept, path)
    event = _event(name, options, modelled)
    sizes = map(options.width, options.conditions)
    count = options.levels.get(options.label)
    how = "; columns of reals standardised by the training rows" if options.standardize else ""
    is_levels = isinstance(event, Levels)
    told = options.told
    return CsvFile(
        name=name,
        event=event,
        unit="nats",
        files=(RawFile(path.name, sha256_of(path), path.stat().st_size, None),),
        provenance=(
            f"{path.name}, columns {listed(options.drop, len(names)) or 'none'} dropped"
            + (f", {listed(told, len(names))} given" if told else "")
            + f"; {options.split_words('rows')}"
            + ("" if is_levels and not options.conditions else how)
        ),
        options=options,
        num_classes=len(count) if isinstance(count, list) else count,
        condition_size=sum(sizes) or None,
        system_folders=(str(path.parent),),
        modelled=tuple(modelled),
    )


def columns_by_name(given: Mapping[str, object]) -> dict[str, object]:
    """Return options of a table with its columns' names as text, which YAML reads as numbers.

    Example:
        >>> columns_by_name({"drop": [0, "b"], "label": 2019, "levels": {3: 2}})
        {'drop': ['0', 'b'], 'label': '2019', 'levels': {'3': 2}}
    """
    found = dict(given)
    for key in ("drop", "conditions"):
        if isinstance(columns := given.get(key), list):
            found[key] = [_column_name(column) for column in columns]
    if "label" in given:
        found["label"] = _column_name(given["label"])
    if isinstance(levels := given.get("levels"), Mapping):
        found["levels"] = {_column_name(column): count for column, count in levels.items()}
    return found


def _column_name(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def _path(name: str, given: str) -> Path:
    path = paths.root() / given
    copy = paths.raw(name) / path.name
    if not path.is_file() and copy.is_file():
        path = copy
    refuse_unless(bool(given) and path.is_file(), name, "path", "an existing file", given)
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ -]*", path.name) is not None
    wanted = "a file name of letters, digits, '.', '_', '-' and spaces"
    refuse_unless(plain, name, "path", wanted, path.name)
    return path


def _modelled(name: str, options: CsvOptions, kept: Sequence[str], path: Path) -> list[str]:
    """The columns that are modelled: those that are neither dropped nor given.

    Raises:
        UserError: for columns that are not there, or given twice, or if none is left.
    """
    told = options.told
    for column in [*told, *options.levels]:
        if column not in kept:
            raise unknown_name(f"column of {path}", column, kept)
    both = bool(options.label and options.conditions)
    refuse_unless(not both, name, "conditions", "none together with a label", options.conditions)
    fits = not options.label or options.label in options.levels
    refuse_unless(fits, name, "label", "a column of levels", options.label)
    modelled = [column for column in kept if column not in told]
    refuse_unless(bool(modelled), name, "conditions", "a column that is not given", told)
    return modelled


def _event(name: str, options: CsvOptions, modelled: Sequence[str]) -> Event:
    """What a row is: reals, or levels if the option names each column that is modelled."""
    counts = [options.levels.get(column) for column in modelled]
    if all(count is None for count in counts):
        return Real((len(modelled),))
    reals = [column for column, count in zip(modelled, counts, strict=True) if count is None]
    if reals:
        raise UserError(
            f"option levels of dataset {name!r}: expected all columns that are modelled or none "
            f"of them, got none for {listed(reals)}; name columns of one kind in conditions, label "
            f"or drop"
        )
    return Levels([len(c) if isinstance(c, list) else c for c in counts if c is not None])

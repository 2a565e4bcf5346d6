"""A CSV file of the user's: a table of reals, integers and names, one row an event.

All that is modelled is reals, levels or a `Table` of both (docs/your-data.md). Names among
`conditions` become one number a name, 1 where it is the row's. `fetch` copies the file, so that a
changed one is noticed.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator

import arcore
from arcore.columns import find_atoms, number_of
from arcore.events import Event, Levels, Real, Table, is_real, is_table
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData
from pipeline.datasets.options import between, expected, parse_options, refuse_unless
from pipeline.datasets.scaling import Scaling, fit_scaling
from pipeline.datasets.tables.csv_table import read_names, read_table
from pipeline.datasets.user import column_notes
from pipeline.datasets.user.user_data import (
    UserDataset,
    UserOptions,
    listed,
    split_by_seed,
)

MOST_NAMES = 256
FEW, SHARE = (
    20,
    column_notes.SHARE,
)  # integers of fewer different values, or than a tenth of the rows, are levels
# Columns by their names, which YAML may read as numbers.
Column = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
_DIFFERENT = expected("different columns", lambda names: len(set(names)) == len(names))
_NAMES = expected("different names", lambda names: 2 <= len(set(names)) == len(names) <= MOST_NAMES)
Counts = Annotated[int, between(2, 256)] | Annotated[list[str], _NAMES]  # of a column of levels
_without_reals = AfterValidator(lambda levels: {name: k for name, k in levels.items() if k != 0})
_MARKS = {"point": ".", "comma": ","}
_DATE = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(\d{4}|\d\d))([T ].*)?"
    r"|[-+]?(\d+ days?,? ?)?\d{1,2}:\d\d(:\d\d.*)?|[-+]?\d+ days?|P(\d+[YMWD])*(T.*)?"
)


@dataclass(frozen=True, kw_only=True)
class CsvOptions(UserOptions):
    """Options of a dataset of kind csv.

    Arguments:
        decimal: point or comma, the mark in numbers.
        header: false: columns are called 0, 1, ...
        drop: columns that are not to be modelled.
        levels: of columns of integers in [0, k): k; of names: their list; of reals: 0, or nothing.
        conditions: columns that a model is given, not asked for, as a vector.
        label: the same, one column of levels, as a class; "" for none.
        standardize: columns of reals, modelled or given, by the training rows.
        atoms: the share of training rows from which on a value of a column of reals has a
            probability of its own, such as zero or a limit; 0 for none.
        missing: refuse them, or keep cells that are missing in columns that are modelled, for
            models of any order.
    """

    delimiter: Annotated[str, expected("a character", lambda text: len(text) == 1)] = ","
    decimal: Literal["point", "comma"] = "point"
    header: bool = True
    drop: list[Column] = field(default_factory=list)
    levels: Annotated[dict[Column, Counts | Literal[0]], _without_reals] = field(
        default_factory=dict
    )
    conditions: Annotated[list[Column], _DIFFERENT] = field(default_factory=list)
    label: Column = ""
    standardize: bool = True
    missing: Literal["refuse", "keep"] = "refuse"
    atoms: Annotated[float, between(0, 1)] = 0

    @property
    def told(self) -> list[str]:
        """Columns that a model is given, not asked for."""
        return [*self.conditions, *([self.label] if self.label else [])]


@dataclass(frozen=True, kw_only=True)
class CsvFile(UserDataset):
    """A CSV file of the user's, split at random by row; `columns` are the modelled ones."""

    options: CsvOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the table, split it and standardise, if so chosen."""
        path = raw_dir / self.files[0].name
        columns = _read(self.options, path)
        cut = split_by_seed(len(columns[self.columns[0]]), self.options, path, "rows")
        scalings, scaled = dict[str, Scaling](), dict[str, np.ndarray]()
        for name, values in columns.items():
            is_cell = is_table(self.event) and name in self.columns
            scalings[name] = _scaling(self.options, name, values[cut["train"]], path, is_cell)
            scaled[name] = scalings[name].of(values)
            wide = np.abs(scaled[name]) > np.finfo(np.float32).max
            wanted = "numbers within float32 (set standardize: true, or name it in drop)"
            got = values[wide][0] if wide.any() else None
            require(got is None, f"{path}: column {name!r}", wanted, got)
        roles: dict[str, Sequence[str]] = {"conditions": self.options.conditions}
        roles |= {"x": self.columns} if is_real(self.event) else {}
        by_role = {
            role: Scaling(
                np.concatenate([scalings[name].mean for name in names]),
                np.concatenate([scalings[name].deviation for name in names]),
            )
            for role, names in roles.items()
            if names and self.options.standardize and columns.keys() - self.options.levels.keys()
        }
        rows = dataclasses.replace(self._rows(scaled), scalings=by_role)
        return {split: rows[cut[split]] for split in SPLITS}

    def notes(self) -> list[str]:
        """Say what each column was taken for, and the options that change it."""
        path, options = _path(self.name, self.options.path), self.options
        table = read_table(path, options.delimiter, options.header)
        roles = dict.fromkeys(options.drop, column_notes.LEFT_OUT)
        roles |= dict.fromkeys(options.conditions, column_notes.CONDITIONS)
        roles |= {options.label: column_notes.CLASS} if options.label else {}
        return column_notes.describe(table, options.levels, roles)

    def unscaled(self, path: Path) -> SplitData:
        """Read all rows of a table, float64 in its own units."""
        return self._rows(_read(self.options, path), "<f8")

    def _rows(self, columns: Mapping[str, np.ndarray], real: str = "<f4") -> SplitData:
        labels, dtype = None, np.uint8 if isinstance(self.event, Levels) else real
        dtype = "<f8" if is_table(self.event) else dtype
        if self.options.label:
            labels = columns[self.options.label][:, 0].astype(np.int64)
        elif self.options.conditions:
            given = [columns[name] for name in self.options.conditions]
            labels = np.concatenate(given, 1).astype(real)
        x = np.concatenate([columns[name] for name in self.columns], 1)
        return SplitData(x.astype(dtype), labels)


def _read(options: CsvOptions, path: Path) -> dict[str, np.ndarray]:
    """Read the columns that are not dropped, (N, 1), or (N, names) of names that are given."""
    columns = dict[str, np.ndarray]()
    table = read_table(path, options.delimiter, options.header).drop(columns=options.drop)
    for name in table.columns.tolist():
        levels = options.levels.get(name)
        keep = options.missing == "keep" and name not in options.told
        columns[name] = _numbers(table[name], levels, options.decimal, path, keep)[:, None]
        if isinstance(levels, list) and name in options.conditions:
            columns[name] = (columns[name] == np.arange(len(levels))).astype(np.float64)
    return columns


def _scaling(
    options: CsvOptions, name: str, train: np.ndarray, path: Path, unscaled: bool = False
) -> Scaling:
    """What standardises a column of reals, if so chosen, and leaves others as they are."""
    known = train[~np.isnan(train).any(1)]
    require(len(known) > 0, f"{path}: column {name!r}", "a training row with a cell", "none")
    if options.standardize and name not in options.levels and not unscaled:
        return fit_scaling(lambda: [known], str(path), [name])
    return Scaling(np.zeros(train.shape[1]), np.ones(train.shape[1]))


def _numbers(
    column: pd.Series, levels: int | list[str] | None, decimal: str, path: Path, keep: bool
) -> np.ndarray:
    """Turn the cells of a column into numbers; names count in the order of their list.

    Missing ones become NaN if they are to be kept.
    """
    if isinstance(levels, list):
        known = {name: float(number) for number, name in enumerate(levels)}
        values, wanted = column.map(known).to_numpy(np.float64), f"one of {listed(levels, 8)}"
    else:
        values, wanted = _parsed(column, decimal), "a finite number"
        if levels is not None:
            wanted = f"an integer in [0, {levels})"
            values = np.where(np.isin(values, np.arange(levels)), values, np.nan)
    flawed = ~np.isfinite(values) & ~(keep & column.isna().to_numpy())
    if flawed.any():
        row, got = int(column.index[flawed][0]), column[flawed].iloc[0]
        got = "a missing value (missing=keep keeps them)" if pd.isna(got) else repr(got)
        hint = "; if row 1 has the columns' names, give header=true" if row == 1 else ""
        raise UserError(
            f"{path}: row {row}, column {column.name!r}: expected {wanted}, got {got}{hint}"
        )
    return values


def _parsed(column: pd.Series, decimal: str) -> np.ndarray:
    """The numbers that cells say, NaN where they say none."""
    cells = column.fillna("")
    if decimal == "comma":
        cells = cells.str.translate(str.maketrans(".,", ",."))
    return np.array([number_of(cell) for cell in cells], np.float64)


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Say what the delimiter is, whether there is a header, and which columns are levels.

    A column is what most of its cells are; `decode` refuses the others. What `levels` already has
    is not guessed.
    """
    file, known = paths.root() / path, {key: given[key] for key in given if key != "delimiter"}
    options = parse_options(CsvOptions, name, known)
    found: dict[str, object] = {"delimiter": str(given.get("delimiter") or _delimiter(file))}
    first = read_table(file, str(found["delimiter"]), False).iloc[0]
    by_names = not np.isfinite(_parsed(first, options.decimal)).any()
    found["header"] = options.header if "header" in given else by_names
    table = read_table(file, str(found["delimiter"]), bool(found["header"]))
    levels = given.get("levels")
    fixed = {*options.drop, *map(str, levels if isinstance(levels, Mapping) else ())}
    guessed = {
        column: _guess_levels(table[column], options, file)
        for column in table.columns
        if column not in fixed
    }
    return found | {"levels": {column: k for column, k in guessed.items() if k is not None}}


def _guess_levels(column: pd.Series, options: CsvOptions, file: Path) -> int | list[str] | None:
    """Say what most cells of a column are: a number of levels, a list of names, or None: reals.

    Numbers are reals if one of them has a decimal point or an exponent. Integers are levels if they
    have few different values. Where they are conditions, integers stay numbers.
    """
    values, where = _parsed(column, options.decimal), f"{file}: column {column.name!r}"
    is_number = np.isfinite(values)
    words = column[~is_number].dropna()
    if len(words):
        _refuse_dates_and_marks(words, options, file)
    if is_number.sum() > len(words):
        cells = column[is_number]
        if column.name in options.conditions or not cells.str.fullmatch(column_notes.INTEGER).all():
            return None
        different = np.unique(values[is_number])
        few = max(FEW, len(column) // SHARE) if column.name != options.label else MOST_NAMES
        if len(different) > min(few, MOST_NAMES):
            return None
        if different[0] >= 0 and different[-1] < MOST_NAMES:
            return max(2, int(different[-1]) + 1)
        return sorted(cells.unique(), key=int) if len(different) > 1 else None
    names = sorted({*column.dropna()})
    if not 2 <= len(names) <= MOST_NAMES:
        wanted = f"numbers, or 2 to {MOST_NAMES} different names"
        got = f"{len(names)} names; leave it out by drop=[{column.name!r}]"
        raise UserError(f"{where}: expected {wanted}, got {got}")
    return names


def _refuse_dates_and_marks(words: pd.Series, options: CsvOptions, file: Path) -> None:
    """Refuse dates, and numbers with the other decimal mark, which would become names."""
    where = f"{file}: row {words.index[0]}, column {words.name!r}"
    dates = words[words.str.fullmatch(_DATE)]
    (other,) = _MARKS.keys() - {options.decimal}
    flawed = words.str.fullmatch(rf"[-+]?\d+\{_MARKS[other]}\d+").all()
    wanted = f"numbers with a decimal {options.decimal} (or give decimal={other})"
    require(not flawed, where, wanted, words.iloc[0])
    wanted = f"numbers or names, no dates or times (drop=[{words.name!r}] leaves them out)"
    if 2 * len(dates) > len(words):
        where = f"{file}: row {dates.index[0]}, column {dates.name!r}"
        require(False, where, wanted, dates.iloc[0])


def _delimiter(file: Path) -> str:
    """Guess the delimiter by the first line, where each cell may have one decimal comma."""
    try:
        with file.open("rb") as stream:
            line = stream.readline(1 << 16).decode("utf-8-sig", "replace")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    first = (line.splitlines() or [""])[0]
    likely = max(";\t|", key=first.count)
    return likely if first.count(likely) and first.count(",") <= first.count(likely) + 1 else ","


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind csv, whose file must be there (or its copy in `data/raw/<name>/`)."""
    name = str(settings["name"])
    options = parse_options(CsvOptions, name, settings)
    path = _path(name, options.path)
    names = read_names(path, options.delimiter, options.header)
    for column in options.drop:
        if column not in names:
            raise unknown_name(f"column of {path}", column, names)
    kept = [column for column in names if column not in options.drop]
    require("" not in kept, f"{path}: columns", "names (or drop=[''])", kept)
    columns = _modelled(name, options, kept, path)
    event = _event(options, columns, path)
    count = options.levels.get(options.label)
    how = "; columns of reals standardised by the training rows" if options.standardize else ""
    is_scaled = not isinstance(event, Levels) or bool(options.conditions)
    return CsvFile(
        name=name,
        event=event,
        unit="nats",
        files=(RawFile(path.name, sha256_of(path), path.stat().st_size, None),),
        provenance=(
            path.name
            + (f", without {listed(options.drop, len(names))}" if options.drop else "")
            + (f", {listed(options.told, len(names))} given" if options.told else "")
            + f"; {options.split_words('rows')}{how * is_scaled}"
            + "; missing cells are kept" * (options.missing == "keep")
        ),
        options=options,
        num_classes=len(count) if isinstance(count, list) else count,
        condition_size=sum(
            len(levels) if isinstance(levels := options.levels.get(column), list) else 1
            for column in options.conditions
        )
        or None,
        system_folders=(str(path.parent),),
        columns=tuple(columns),
    )


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
    """The columns that are modelled: neither dropped nor given."""
    told = options.told
    for column in [*told, *options.levels]:
        if column not in kept:
            raise unknown_name(f"column of {path}", column, kept)
    both = bool(options.label and options.conditions)
    refuse_unless(not both, name, "conditions", "none together with a label", options.conditions)
    fits = not options.label or options.label in options.levels
    wanted = (
        f"a column of levels (levels={{{options.label}: k}} makes numbers from 0 to k - 1 some)"
    )
    refuse_unless(fits, name, "label", wanted, options.label)
    modelled = [column for column in kept if column not in told]
    refuse_unless(bool(modelled), name, "conditions", "a column that is not given", told)
    return modelled


def _event(options: CsvOptions, modelled: Sequence[str], path: Path) -> Event:
    """What a row is: reals, levels if the option names each column that is modelled, or both."""
    counts = [options.levels.get(column) for column in modelled]
    if options.missing == "keep" or options.atoms:
        return _table(options, modelled, path)
    if all(count is None for count in counts):
        return Real((len(modelled),))
    if None in counts:
        return _table(options, modelled, path)
    return Levels([len(c) if isinstance(c, list) else c for c in counts if c is not None])


def _table(options: CsvOptions, modelled: Sequence[str], path: Path) -> Table:
    """What a row of levels and reals is; the training rows say how networks see the reals."""
    numbers, columns = _read(options, path), []
    cut = np.arange(len(numbers[modelled[0]]))
    if options.standardize or options.atoms:
        cut = split_by_seed(len(cut), options, path, "rows")["train"]
    for name in modelled:
        scaling = _scaling(options, name, numbers[name][cut], path)
        mean, deviation = float(scaling.mean[0]), float(scaling.deviation[0])
        levels, atoms = options.levels.get(name), tuple[float, ...]()
        if options.atoms and levels is None:
            known = numbers[name][cut][:, 0]
            atoms = find_atoms(known[~np.isnan(known)].tolist(), options.atoms)
        column = arcore.columns.Column(
            name=name, levels=levels, mean=mean, deviation=deviation, atoms=atoms
        )
        columns.append(column)
    return Table(columns)
